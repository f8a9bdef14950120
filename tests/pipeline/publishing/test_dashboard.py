"""What comes with the published tables for those who look at them: the dashboard for Grafana, and the notebook."""

import json
import re
import subprocess
from pathlib import Path

import duckdb
import matplotlib as mpl
import pytest
import yaml

from tests.conftest import query

DOCS = Path(__file__).parents[3] / "docs"
DASHBOARD = json.loads((DOCS / "grafana" / "dashboard.json").read_text(encoding="utf-8"))
PANELS = {panel["title"]: panel for panel in DASHBOARD["panels"]}
RUN_ALL = """
import duckdb, json, sys
with duckdb.connect(sys.argv[1], read_only=True) as connection:
    print([len(connection.execute(query).description) for query in json.load(sys.stdin)])
"""


def as_grafana_sends(sql, start, end, machines):
    """Return a query as the data source expands it: its macros, and the machines that were chosen."""

    def between(match):
        return f"{match[1]} >= '{start:%Y-%m-%dT%H:%M:%SZ}' AND {match[1]} <= '{end:%Y-%m-%dT%H:%M:%SZ}'"

    expanded = re.sub(r"\$__timeFilter\(([^()]+)\)", between, sql)
    expanded = expanded.replace("${machine:sqlstring}", ", ".join(f"'{machine}'" for machine in machines))
    assert "$" not in expanded, "something is left that the data source does not know"
    return expanded


def queries(plant):
    """Return the queries of all panels for the whole time and all machines of a plant."""
    [(start, end)] = query(plant, "SELECT min(ts), max(ts) + INTERVAL 1 SECOND FROM mart.anomaly_scores")
    machines = [row[0] for row in query(plant, "SELECT DISTINCT machine_id FROM core.readings ORDER BY ALL")]
    [variable] = DASHBOARD["templating"]["list"]
    with duckdb.connect(str(plant.config.published_path), read_only=True) as connection:
        assert [row[0] for row in connection.execute(variable["query"]).fetchall()] == machines
    return {
        title: as_grafana_sends(target["rawSql"], start, end, machines)
        for title, panel in PANELS.items()
        for target in panel["targets"]
    }


def test_every_query_of_the_dashboard_finds_what_its_panel_shows(published, trained_plant):
    n_rows = {}
    for title, sql in queries(trained_plant).items():
        found = published.sql(sql)
        n_rows[title] = len(found.fetchall())
        if PANELS[title]["type"] == "timeseries":
            kinds = dict(zip(found.columns, map(str, found.types), strict=True))
            assert kinds.pop("time") == "TIMESTAMP", title
            assert sorted(kinds.values()) == ["DOUBLE", "VARCHAR"], f"{title}: one text for the lines, one number"
            times = [row[0] for row in published.execute(f"SELECT time FROM ({sql})").fetchall()]
            assert times == sorted(times), title
        if PANELS[title]["type"] == "stat":
            assert n_rows[title] <= 1, title
    # the plant has neither cases nor runs on record, and judges all
    assert {title for title, n in n_rows.items() if not n} <= {
        "Cases that go on",
        "Last run that ended",
        "Evidence that a regime moved",
        "Share of the readings that were not judged, by reason",
    }


def test_a_panel_shows_the_time_and_the_machines_that_were_chosen(published, trained_plant):
    [(ts, machine)] = query(trained_plant, "SELECT ts, machine_id FROM mart.anomaly_scores WHERE is_anomaly LIMIT 1")
    sql = PANELS["Share of anomalies"]["targets"][0]["rawSql"]
    assert published.execute(as_grafana_sends(sql, ts, ts, [machine])).fetchall() == [(1.0,)]
    assert published.execute(as_grafana_sends(sql, ts, ts, ["nobody"])).fetchall() == [(None,)]


def test_the_dashboard_asks_the_data_source_that_is_provisioned():
    [source] = yaml.safe_load((DOCS / "grafana" / "datasource.yaml").read_text(encoding="utf-8"))["datasources"]
    asked = {"type": source["type"], "uid": source["uid"]}
    assert source["jsonData"]["readOnly"] is True
    for panel in DASHBOARD["panels"]:
        assert panel["datasource"] == asked
        assert all(target["datasource"] == asked for target in panel["targets"])
    assert all(variable["datasource"] == asked for variable in DASHBOARD["templating"]["list"])
    places = {(x, y) for p in DASHBOARD["panels"] for x, y in _cells(p["gridPos"])}
    assert len(places) == sum(p["gridPos"]["w"] * p["gridPos"]["h"] for p in DASHBOARD["panels"]), "panels overlap"


def _cells(grid):
    columns, rows = range(grid["x"], grid["x"] + grid["w"]), range(grid["y"], grid["y"] + grid["h"])
    return [(x, y) for x in columns for y in rows if x < 24]


@pytest.mark.long(reason="15 CPU s and a download: the same queries run on the DuckDB of today at each push")
def test_the_dashboard_runs_on_the_oldest_duckdb_that_reads_the_file(published, trained_plant, old_python):
    asked = queries(trained_plant)
    path = trained_plant.config.published_path
    done = subprocess.run(
        [old_python, "-c", RUN_ALL, path], input=json.dumps(list(asked.values())), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) == len(asked)


def test_the_notebook_runs_from_top_to_bottom(published, trained_plant, tmp_path, monkeypatch):
    notebook = json.loads((DOCS / "explore.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code"] == [[]] * len(cells)
    (tmp_path / ".pwflow").mkdir()
    (tmp_path / ".pwflow" / "published.duckdb").symlink_to(trained_plant.config.published_path)
    monkeypatch.chdir(tmp_path)
    mpl.use("Agg")
    names: dict[str, object] = {}
    for number, cell in enumerate(cells, start=1):
        exec(compile(cell, f"cell {number}", "exec"), names)  # noqa: S102 - our own documentation
    assert published.execute("SELECT max(peak_score) FROM mart.anomaly_events").fetchone() == (
        names["worst"].peak_score,
    )
    assert len(names["readings"]) > len(names["expected"]) > 0
