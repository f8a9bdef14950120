"""The command line as a newcomer uses it: processes of their own, real mistakes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from tests.processes import clean_environment


def pwflow(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pwflow_dagster", *arguments],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )


CONFIG = '[source]\npath = "data.csv"\n'
ROWS = "time,load\n" + "".join(f"2024-01-01T{m // 60:02d}:{m % 60:02d}:00Z,{(m * 7919) % 101}\n" for m in range(600))
MISTAKES = {
    "no such configuration": ({}, ["run", "--config", "missing.toml"], "There is no configuration file missing.toml"),
    "no configuration at all": ({}, ["run"], "Expected a pwflow.toml in this folder"),
    "no configuration to look at": ({}, ["status"], "`pwflow init FILE_OR_FOLDER` writes one from your data"),
    "a path that matches nothing": (
        {"pwflow.toml": '[source]\npath = "nowhere/*.csv"\n'},
        ["run"],
        "nothing matches",
    ),
    "no numeric column": (
        {"pwflow.toml": CONFIG, "data.csv": "time,name\n2024-01-01T00:00:00Z,a\n2024-01-01T00:01:00Z,b\n"},
        ["run"],
        "numeric",
    ),
    "a timestamp that does not parse": (
        {
            "pwflow.toml": CONFIG + 'timestamp = "time"\n[sensors.load]\n',
            "data.csv": "time,load\nyesterday,1\ntoday,2\n",
        },
        ["run"],
        "Expected timestamps in column 'time', got 'yesterday'",
    ),
    "naive timestamps": (
        {
            "pwflow.toml": CONFIG + 'timestamp = "time"\n[sensors.load]\n',
            "data.csv": ROWS.replace("Z,", ","),
        },
        ["run"],
        "add timezone =",
    ),
    "an unknown key": (
        {"pwflow.toml": CONFIG + 'tz = "UTC"\n', "data.csv": ROWS},
        ["run"],
        "unknown key 'source.tz'",
    ),
    "a value of the wrong type": (
        {"pwflow.toml": CONFIG + "[scoring]\nalpha = 3\n", "data.csv": ROWS},
        ["run"],
        "scoring.alpha",
    ),
    "an empty file": ({"pwflow.toml": CONFIG, "data.csv": ""}, ["run"], "data.csv"),
    "init on nothing": ({}, ["init", "nowhere"], "nowhere"),
    "init on an empty file": ({"data.csv": ""}, ["init", "data.csv"], "data.csv"),
    "an evaluation without labels": ({"pwflow.toml": CONFIG, "data.csv": ROWS}, ["evaluate"], "name a file with them"),
    "an evaluation with a file that is not there": (
        {"pwflow.toml": CONFIG, "data.csv": ROWS},
        ["evaluate", "nosuch.csv"],
        "there is no file at nosuch.csv: name a file with the columns machine, start, end",
    ),
    "an evaluation before the first run": (
        {"pwflow.toml": CONFIG, "data.csv": ROWS, "labels.csv": "start,end\n2024-01-01T01:00Z,2024-01-01T02:00Z\n"},
        ["evaluate", "labels.csv"],
        "run `pwflow run`",
    ),
    "a query before the first run": (
        {"pwflow.toml": CONFIG, "data.csv": ROWS},
        ["sql", "SELECT 1"],
        "run `pwflow run` first",
    ),
}


AT_NIGHT = pytest.mark.long(reason="4 CPU s each: two mistakes reach a run at each push, and the core says all of them")


@pytest.mark.parametrize(
    "mistake",
    [
        pytest.param(mistake, marks=AT_NIGHT)
        if mistake in ("no numeric column", "naive timestamps", "an empty file")
        else mistake
        for mistake in MISTAKES
    ],
)
def test_a_newcomers_mistake_ends_in_one_sentence_and_a_non_zero_exit(mistake, stem, tmp_path):
    files, arguments, expected = MISTAKES[mistake]
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    done = stem.command(tmp_path, *arguments)
    assert done.code == 1, done.output + done.errors
    assert expected in done.errors
    assert "Traceback" not in done.errors
    [message] = [line for line in done.errors.splitlines() if line.startswith("Error: ")]
    assert len(message) < 600


def test_own_data_in_three_commands(stem, tmp_path):
    """A folder of CSV files becomes published scores, and the configuration runs as init wrote it."""
    folder = tmp_path / "exports"
    folder.mkdir()
    state = 12345
    for day in (1, 2, 3):
        lines = ["time;pump;temp [°C];pressure_bar;comment"]
        for minute in range(1440):
            row = [f"2024-01-0{day} {minute // 60:02d}:{minute % 60:02d}:00"]
            state = (1103515245 * state + 12345) % 2**31
            load = 1.0 if (minute // 120) % 2 else 4.0
            noise = state / 2**31
            lines.append(
                ";".join(
                    [
                        *row,
                        "P1",
                        f"{20 + 3 * load + noise:.3f}",
                        f"{load + 0.3 * noise**2 + 0.001 * (state % 97):.4f}",
                        "-",
                    ]
                )
            )
        (folder / f"day{day}.csv").write_text("\n".join(lines) + "\n")
    made = stem.command(tmp_path, "init", "exports", "--timezone", "Europe/Berlin")
    assert made.code == 0, made.errors
    assert "Assumed:" in made.output
    done = stem.command(tmp_path, "run")
    assert done.code == 0, done.errors
    assert "readings   4,320 from 1 machine" in done.output
    assert "\n  events     " in done.output
    published = tmp_path / ".pwflow" / "published.duckdb"
    assert str(published) in done.output
    with duckdb.connect(str(published), read_only=True) as connection:
        [(first, scored)] = connection.execute("SELECT min(ts), count(p_value) FROM mart.anomaly_scores").fetchall()
    assert f"{first:%Y-%m-%d %H:%M}" == "2023-12-31 23:00"
    assert scored > 4000
    asked = stem.command(tmp_path, "sql", "SELECT count(*) AS n FROM mart.readings")
    assert asked.output.split() == ["n", "4320"]
    (tmp_path / "labels.csv").write_text("machine,start,end,kind\nP1,2024-01-02T10:00Z,2024-01-02T10:30Z,leak\n")
    judged = stem.command(tmp_path, "evaluate", "labels.csv")
    assert judged.code == 0, judged.errors
    assert "leak" in judged.output
    assert "false alarms" in judged.output
    empty = stem.command(tmp_path, "sql", "SELECT NULL::VARCHAR AS decided_by, NULL::INTEGER AS n")
    assert empty.output.split() == ["decided_by", "n", "NULL", "NULL"]
    days = stem.command(tmp_path, "sql", "SELECT DATE '2026-01-19' AS week UNION ALL SELECT NULL ORDER BY week")
    assert days.output.split() == ["week", "2026-01-19", "NULL"]
    refused = stem.command(tmp_path, "sql", "COPY (SELECT 1) TO 'out.csv'")
    assert refused.code == 1
    assert not (tmp_path / "out.csv").exists()


def test_the_help_tells_the_story_in_one_screen(tmp_path):
    lines = pwflow(tmp_path, "--help").stdout.splitlines()
    assert len(lines) <= 51
    assert "  init          Look at a file or folder of exports and write pwflow.toml." in lines
    assert [line.strip(":") for line in lines if line[:1].isalpha()] == [
        "Usage: pwflow [OPTIONS] COMMAND [ARGS]...",
        "Options",
        "Run",
        "Look",
        "Decide",
        "Models",
        "Keep",
    ]
    assert "130" in " ".join(lines)


@pytest.mark.parametrize("name", [pytest.param("SIGINT", marks=pytest.mark.long), "SIGTERM"])
def test_an_interrupted_run_says_so_in_one_sentence_and_goes_on_next_time(stem, tmp_path, name):
    (tmp_path / "pwflow.toml").write_text(
        CONFIG + 'timestamp = "time"\n[clustering]\nn_clusters = 1\n[flow]\nmax_steps = 100\n'
    )
    (tmp_path / "data.csv").write_text(ROWS)
    with subprocess.Popen(
        [sys.executable, "-m", "pwflow_dagster", "run"],
        cwd=tmp_path,
        env=clean_environment(),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "readings, " in line:
                process.send_signal(getattr(signal, name))
                break
        rest = process.stderr.read()
        assert process.wait(timeout=120) == 130, rest
    assert "Interrupted. What was finished is kept" in rest
    assert "Traceback" not in rest
    assert "DagsterExecutionInterruptedError" not in rest
    done = stem.command(tmp_path, "run")
    assert done.code == 0, done.errors
    assert "readings   600 from 1 machine" in done.output
