"""The reference of configuration, tables, verdicts and Python API, as Markdown, made from the code it describes."""

from __future__ import annotations

import inspect
import json
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import duckdb
from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from pwflow_core.config import PlantConfig
from pwflow_core.pipeline.decisions.kinds import KINDS
from pwflow_core.warehouse import PUBLIC_TABLES, describe_published, read_sql

__all__ = ["describe_configuration", "describe_python", "describe_tables", "describe_verdicts"]

_NAMED = {"sensors": "sensors.NAME", "clusters": "flow.clusters.KEY", "targets": "notify.targets.NAME"}
_WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false"}
_BOUNDS = ((Ge, "ge", "at least"), (Gt, "gt", "above"), (Le, "le", "at most"), (Lt, "lt", "below"))


def describe_configuration() -> str:
    """Return every key of `pwflow.toml` with its values, its default and what it does."""
    lines = [
        "# Configuration",
        "",
        "Every key that `pwflow.toml` may hold. Only `[source]` has to be there, with one of `path`, `sql` and "
        "`simulated_days`. An unknown key or a wrong value is an error that names the key. Relative paths start from "
        "the folder of the file.",
    ]
    for name, field in PlantConfig.model_fields.items():
        section = _model_of(field.annotation)
        if section is not None:
            lines += _describe_section(_NAMED.get(name, name), section, field)
    return "\n".join(lines) + "\n"


def describe_tables() -> str:
    """Return every published table with its columns, as the comments in the warehouse have them."""
    lines = [
        "# Tables",
        "",
        "The tables of schema `mart` in the published DuckDB file. All times are UTC; log-densities are in nats, in "
        "the raw units of the sensors. `mart.readings` also has one DOUBLE column per sensor.",
    ]
    with duckdb.connect() as connection:
        connection.execute(read_sql("pwflow_core.warehouse", "schema.sql"))
        for schema, table in [("core", "readings"), *(("mart", name) for name in PUBLIC_TABLES)]:
            about = connection.execute(
                "SELECT comment FROM (FROM duckdb_tables() UNION ALL BY NAME SELECT * RENAME (view_name AS table_name) "
                "FROM duckdb_views()) WHERE schema_name = ? AND table_name = ?",
                [schema, table],
            ).fetchone()
            lines += ["", f"## `mart.{table}`", "", f"{about[0] if about else ''}.", ""]
            lines += ["| column | type | what it is |", "|---|---|---|"]
            columns = describe_published(connection, table)
            lines += [
                f"| `{column.name}` | {column.type} | {column.description} |"
                for column in columns
                if schema == "mart" or column.name not in ("fold", "batch_id", "file_id", "row_number")
            ]
    return "\n".join(lines) + "\n"


def describe_verdicts() -> str:
    """Return every kind of verdict on drift: what it says and who acts on it."""
    lines = [
        "# Verdicts on drift",
        "",
        "The kinds of verdict in `mart.drift_verdicts`. `pwflow status` lists the open ones, each with what to do "
        "next; `mart.verdict_changes` has every change of their status.",
        "",
        "| verdict | what it says | answer | who acts |",
        "|---|---|---|---|",
        *(f"| `{kind.name}` | {kind.says} | {kind.answer} | {kind.acts} |" for kind in KINDS),
    ]
    return "\n".join(lines) + "\n"


def describe_python() -> str:
    """Return the classes and functions that Python users call, with their docstrings."""
    from pwflow_core import PiecewiseFlow, PiecewiseFlowDetector, plots
    from pwflow_core.modelling import FlowSettings

    lines = [
        "# Python",
        "",
        "What to import, and what it does. `import pwflow_core` is quick: PyTorch is loaded when an estimator is first "
        "used. N is the number of readings, D of sensors, K of clusters.",
    ]
    for kind in (PiecewiseFlow, PiecewiseFlowDetector, FlowSettings):
        module = "pwflow_core.modelling" if kind is FlowSettings else "pwflow_core"
        lines += _describe_callable(f"{module}.{kind.__name__}", kind, "##")
        for name, method in vars(kind).items():
            if not name.startswith("_") and callable(getattr(kind, name)) and kind is not FlowSettings:
                lines += _describe_callable(name, getattr(kind, name), "###", is_class=isinstance(method, classmethod))
    lines += ["", "## pwflow_core.plots", "", inspect.cleandoc(plots.__doc__ or "")]
    for name in plots.__all__:
        lines += _describe_callable(name, getattr(plots, name), "###")
    return "\n".join(lines) + "\n"


def _describe_callable(name: str, described: Any, level: str, *, is_class: bool = False) -> list[str]:  # noqa: ANN401
    parameters = inspect.signature(described).parameters.values()
    shown = [str(p.replace(annotation=inspect.Parameter.empty)) for p in parameters if p.name != "self"]
    stars = [i for i, p in enumerate(parameters) if p.kind is inspect.Parameter.KEYWORD_ONLY]
    if stars:
        shown.insert(stars[0] - (1 if next(iter(parameters)).name == "self" else 0), "*")
    call = f"{name}({', '.join(shown)})"
    lines = ["", f"{level} {name}", "", "```text", f"{'classmethod ' if is_class else ''}{call}", "```", "", "```text"]
    return [*lines, inspect.cleandoc(described.__doc__ or ""), "```"]


def _describe_section(name: str, section: type[BaseModel], holder: FieldInfo) -> list[str]:
    lines = ["", f"## `[{name}]`", "", inspect.cleandoc(section.__doc__ or "")]
    if holder.description:
        lines += ["", holder.description]
    lines += ["", "| key | values | default | what it does |", "|---|---|---|---|"]
    nested = []
    for key, field in section.model_fields.items():
        model = _model_of(field.annotation)
        if model is not None:
            nested += _describe_section(_NAMED.get(key, f"{name}.{key}"), model, field)
            continue
        description = " ".join((field.description or "").split())
        lines.append(f"| `{key}` | {_describe_values(field)} | {_describe_default(field)} | {description} |")
    return lines + nested


def _model_of(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401 - any annotation
    """Return the section that a field holds, or holds by name."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_of(part)) is not None), None)


def _describe_default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "required"
    if field.default is None:
        return ""
    return f"`{json.dumps(field.default, ensure_ascii=False)}`"


def _describe_values(field: FieldInfo) -> str:
    return _describe_type(field.annotation, field.metadata)


def _describe_type(annotation: Any, metadata: list[Any]) -> str:  # noqa: ANN401 - any annotation
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = [item for part in parts[1:] for item in (part.metadata if isinstance(part, FieldInfo) else [part])]
        return _describe_type(parts[0], [*inner, *metadata])
    if origin in (Union, types.UnionType):
        return " or ".join(_describe_type(part, metadata) for part in parts if part is not type(None))
    if origin is Literal:
        return ", ".join(f"`{json.dumps(part)}`" for part in parts)
    if origin is tuple:
        return f"list of: {_describe_type(parts[0], metadata)}"
    bounds = [
        f"{words} {getattr(item, name):g}"
        for item in metadata
        for kind, name, words in _BOUNDS
        if isinstance(item, kind)
    ]
    return ", ".join([_WORDS.get(annotation, "date and time"), *bounds])
