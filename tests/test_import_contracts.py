"""Imports: the contracts of pyproject.toml are kept, and the one of our own sees what it is there for."""

from __future__ import annotations

import grimp
import pytest
from importlinter.cli import lint_imports

from tests.import_contracts import ForbiddenWhenLoadedContract
from tests.processes import REPOSITORY

pytestmark = pytest.mark.quick


def test_every_contract_is_kept():
    assert lint_imports(str(REPOSITORY / "pyproject.toml"), no_cache=True) == 0


@pytest.mark.parametrize(
    ("files", "is_kept"),
    [
        ({"start.py": "def call():\n    import duckdb\n"}, True),
        ({"start.py": "class Holder:\n    async def call(self):\n        from duckdb import connect\n"}, True),
        ({"start.py": "def call():\n    from shop import other\n", "other.py": "import duckdb\n"}, True),
        ({"start.py": "import duckdb\n"}, False),
        ({"start.py": "class Holder:\n    import duckdb\n"}, False),
        ({"start.py": "import duckdb\ndef call():\n    import duckdb\n"}, False),
        ({"start.py": "from shop import other\n", "other.py": "from duckdb import connect\n"}, False),
        ({"start.py": "", "__init__.py": "import duckdb\n"}, False),
        ({"start.py": "import shop.light.part\n", "light/__init__.py": "import duckdb\n", "light/part.py": ""}, False),
    ],
)
def test_what_a_module_imports_when_it_is_loaded_is_told_from_what_its_functions_import(
    tmp_path, monkeypatch, files, is_kept
):
    for name, text in {"__init__.py": "", **files}.items():
        (tmp_path / "shop" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "shop" / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    contract = ForbiddenWhenLoadedContract(
        "nothing heavy",
        {"root_packages": ["shop"], "include_external_packages": "True"},
        {"source_modules": ["shop.start"], "forbidden_modules": ["duckdb"]},
    )
    graph = grimp.build_graph("shop", include_external_packages=True, cache_dir=None)
    assert contract.check(graph, verbose=False).kept == is_kept
