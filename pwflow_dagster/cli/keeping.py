"""Commands for the warehouse itself: its maintenance, and its move to another backend."""

from __future__ import annotations

from pathlib import Path

import click

from pwflow_core.demo import configuration_in_force
from pwflow_dagster.cli.options import config_option, json_option
from pwflow_dagster.cli.printing import echo_json, echo_text

__all__ = ["COMMANDS"]


@click.command()
@config_option
@json_option
def maintain(config_file: Path | None, as_json: bool) -> None:
    """Put the small files of a lake together, remove old ones.

    What the tables said can be read for warehouse.keep_days; one DuckDB file needs no maintenance.
    """
    from pwflow_core.plant import Plant
    from pwflow_core.warehouse.base import NO_MAINTENANCE

    config = configuration_in_force(config_file)
    done = Plant.open(config).warehouse.maintain(config.warehouse.keep_days)
    if as_json:
        echo_json({"maintenance": done})
        return
    echo_text(str(done or NO_MAINTENANCE))


@click.command()
@click.argument("url")
@click.option("--data", help="Where a lake keeps its Parquet files, see warehouse.data.")
@config_option
@json_option
def migrate(url: str, data: str | None, config_file: Path | None, as_json: bool) -> None:
    """Copy the warehouse to another URL, and compare the two.

    URL is what warehouse.url is to be, such as ducklake:///.pwflow/lake. The warehouse that is copied stays as it is.
    """
    from pwflow_core.config import parse_config
    from pwflow_core.plant import Plant
    from pwflow_core.warehouse import copy_warehouse, open_warehouse

    config = configuration_in_force(config_file)
    values = config.model_dump(exclude_unset=True)
    values["warehouse"] = {**values.get("warehouse", {}), "url": url, "data": data}
    target = parse_config(values, name="the command", folder=config.folder)
    copied = copy_warehouse(Plant.open(config).warehouse, open_warehouse(target))
    if as_json:
        echo_json({"tables": copied})
        return
    for table in copied:
        click.echo(f"  {table.name:<28} {table.n_rows:>14,} rows")
    where = f'url = "{url}"' + (f' and data = "{data}"' if data else "")
    echo_text(f"All of them are the same in both. Next: write {where} into [warehouse] of pwflow.toml.")


COMMANDS = (maintain, migrate)
