"""A kind of contract for import-linter, beside its own: what loading a module must not import; see pyproject.toml."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path

from grimp import ImportGraph
from importlinter import ContractCheck
from importlinter.contracts.forbidden import ForbiddenContract


class ForbiddenWhenLoadedContract(ForbiddenContract):
    """As `forbidden`, but for what happens when a module is loaded.

    An import inside a function does not count, because it happens when the function is called. The packages that a
    module lies in do count, because they are loaded with it.
    """

    type_name = "forbidden_when_loaded"

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Check the contract on a graph, which may be changed."""
        for module in [name for name in graph.modules if not graph.is_module_squashed(name)]:
            late = _lines_in_functions(module)
            for imported in graph.find_modules_directly_imported_by(module):
                details = graph.get_import_details(importer=module, imported=imported)
                if all(found["line_number"] in late for found in details):
                    graph.remove_import(importer=module, imported=imported)
            package, _, name = module.rpartition(".")
            if package:
                line = f"{name} lies in {package}"
                graph.add_import(importer=module, imported=package, line_number=1, line_contents=line)
        return super().check(graph, verbose)


def _lines_in_functions(module: str) -> set[int]:
    """Return the numbers of the lines of a module that run only when a function is called."""
    root, *names = module.split(".")
    spec = find_spec(root)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"Expected to find the package {root}: run lint-imports in the repository.")
    place = Path(spec.origin).parent.joinpath(*names)
    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    functions = (
        node
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return {line for node in functions for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)}
