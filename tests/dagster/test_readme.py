"""What the README says is so: its SQL runs, its commands exist, its tables are the tables."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pytest

from pwflow_core.warehouse import PUBLIC_TABLES, describe_table, read_sql

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"```sql\n(.*?)```", README, re.DOTALL)
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]


def test_there_are_seven_queries():
    assert len(QUERIES) == 7


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_runs_on_the_published_tables(query, finished):
    with duckdb.connect(str(finished.config.published_path), read_only=True) as published:
        columns = [column[0] for column in published.execute(query).description]
    assert columns


def test_every_column_of_the_public_tables_is_documented_as_it_is():
    with duckdb.connect() as connection:
        connection.execute(read_sql("pwflow_core.warehouse", "schema.sql"))
        for table in PUBLIC_TABLES:
            section = README.split(f"### `mart.{table}`")[1].split("\n#")[0]
            documented = re.findall(r"^\| `(\w+)` \| ([\w() ,\[\]]+) \| (.+) \|$", section, re.MULTILINE)
            columns = describe_table(connection, "mart", table)
            assert documented == [(c.name, c.type, c.description) for c in columns]


def test_every_command_is_one_that_the_suite_or_ci_runs():
    makefile = (ROOT / "Makefile").read_text()
    for command in COMMANDS:
        program, verb, *_ = command.split()
        if program == "make":
            assert f"\n{verb}: " in makefile
        else:
            assert program == "pwflow"
            assert verb in {"init", "run", "ui", "evaluate"}  # run by test_cli.py and test_ui.py


def test_pictures_are_there():
    pictures = re.findall(r"!\[.+?\]\((.+?)\)", README)
    assert pictures
    for picture in pictures:
        assert (ROOT / picture).read_bytes().startswith(b"\x89PNG")
