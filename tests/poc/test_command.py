"""`pwflow poc` as a user runs it, where little is to be learned from."""

from __future__ import annotations

import json

from click.testing import CliRunner

from pwflow_dagster.cli import main
from tests.poc.conftest import CASES, make_case


def test_the_command_writes_a_page_and_says_what_it_recommends(tmp_path, monkeypatch):
    make_case(tmp_path, CASES["200 rows"]())
    (tmp_path / "pwflow.toml").write_text(
        '[source]\npath = "data/*.parquet"\ntimestamp = "ts"\n[features]\nwindows = []\n'
        '[warehouse]\nurl = "duckdb:///warehouse.duckdb"\npublished = "published.duckdb"\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PWFLOW_CONFIG", raising=False)
    done = CliRunner().invoke(main, ["poc", "--language", "ja", "--output", "poc.html"])
    assert done.exit_code == 0, done.output
    assert "データが不足しています" in done.stdout
    assert '<html lang="ja">' in (tmp_path / "poc.html").read_text(encoding="utf-8")
    done = CliRunner().invoke(main, ["poc", "--json", "--output", "poc.html"])
    assert json.loads(done.stdout)["recommendation"] == "too_little_data"
    refused = CliRunner().invoke(main, ["poc", "--regimes", "a,b"])
    assert refused.exit_code == 2
    assert "Expected numbers such as 1,2,4,8" in refused.output
