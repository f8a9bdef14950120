"""What the UI shows of an asset: column schemas, lineage, row counts and small tables."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from pwflow_core.plant import Plant

__all__ = ["column_lineage", "column_schema", "inline_image", "small_table", "thumbnail"]


def column_schema(plant: Plant, schema: str, table: str, *, as_published: bool = False) -> dg.TableSchema:
    """Return the columns of a warehouse table with their types, or those of the published one, and descriptions."""
    from pwflow_core.warehouse import describe_published, describe_table

    with plant.warehouse.snapshot() as connection:
        columns = describe_published(connection, table) if as_published else describe_table(connection, schema, table)
    return dg.TableSchema([dg.TableColumn(c.name, c.type, description=c.description or None) for c in columns])


def column_lineage(
    columns: Mapping[str, Iterable[tuple[dg.AssetKey, str]]],
) -> dg.TableColumnLineage:
    """Return which columns of which assets each column is made from."""
    return dg.TableColumnLineage(
        {
            column: [dg.TableColumnDep(asset_key=key, column_name=name) for key, name in sources]
            for column, sources in columns.items()
        }
    )


def inline_image(png: bytes, text: str) -> dg.MarkdownMetadataValue:
    """Return a picture that the UI shows on a click, with the text for people who do not see it."""
    return dg.MetadataValue.md(f"![{text}](data:image/png;base64,{base64.b64encode(png).decode()})")


def thumbnail(svg: str, text: str) -> dg.MarkdownMetadataValue:
    """Return a picture that the UI shows at once, which it does with Markdown of less than 1,000 characters."""
    return dg.MetadataValue.md(f"![{text}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})")


def small_table(rows: Iterable[Mapping[str, str | int | float | bool | None]]) -> dg.TableMetadataValue:
    """Return rows as a table that the UI shows on a click."""
    records = [dg.TableRecord(dict(row)) for row in rows]
    if not records:
        return dg.MetadataValue.table([], schema=dg.TableSchema([]))
    return dg.MetadataValue.table(records)
