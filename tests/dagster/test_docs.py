"""What the documentation says is so: its commands, SQL, Python and TOML run, its tables are the tables."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import click
import duckdb
import matplotlib as mpl
import pytest
from click.testing import CliRunner

from pwflow_core.config import PlantConfig, parse_config
from pwflow_core.warehouse import PUBLIC_TABLES, describe_published, read_sql
from pwflow_dagster.cli import main
from pwflow_dagster.reference import make_reference
from tests.dagster.conftest import VERDICT, add_verdict

ROOT = Path(__file__).parents[2]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", ROOT / "README.ja.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if path.parent.name != "reference"
}
RUN_ELSEWHERE = {  # commands that need a folder, a server or a decision of their own, and the tests that run them
    "init": "test_cli.py",
    "check": "test_check_command.py",
    "run": "test_cli.py",
    "demo": "test_demo.py",
    "evaluate": "test_cli.py",
    "ui": "test_ui.py",
    "answer": "test_cli_commands.py",
    "migrate": "test_cli_commands.py",
    "dismiss": "test_cli_commands.py",
    "approve": "test_decisions.py",
    "cases": "test_case_commands.py",
    "mark": "test_case_commands.py",
    "acknowledge": "test_case_commands.py",
    "shelve": "test_case_commands.py",
    "poc": "test_poc_cli.py",
    "promote": "test_decisions.py",
    "rollback": "test_decisions.py",
    "events": "test_looking_commands.py",
    "regimes": "test_looking_commands.py",
    "name": "test_looking_commands.py",
    "doctor": "test_looking_commands.py",
    "undo": "test_looking_commands.py",
    "completion": "test_printing.py",
    "union": "test_several_plants.py",
}
RUN_HERE = {"status", "sql", "report", "score", "export", "plan", "sample"}
MEANT = {
    "CASE": "K-0123ab",
    "EVENT_ID": "1",
    "VERDICT_ID": VERDICT,
    "VERSION": "0123",
    "CLUSTER": "c0002",
    "c0005": "c0002",
}


INSTALLATION = [
    ("python3", "-m", "venv", ".venv"),
    (".venv/bin/pip", "install", "--constraint", "constraints.txt", "."),
]


def blocks(language: str) -> list[tuple[str, str]]:
    """Return the code blocks of a language, each behind its page."""
    found = re.compile(rf"```{language}\n(.*?)```", re.DOTALL)
    return [(page, block) for page, text in PAGES.items() for block in found.findall(text)]


def commands() -> list[tuple[str, tuple[str, ...]]]:
    """Return the commands of all pages as their words; one may go over several lines within quotes."""
    made = []
    for page, block in blocks("sh"):
        waiting = ""
        for line in block.splitlines():
            waiting += line + "\n"
            try:
                words = shlex.split(waiting)
            except ValueError:
                continue  # a quotation goes on
            made.append((page, tuple(MEANT.get(word, word) for word in words)))
            waiting = ""
        assert not waiting
    return made


COMMANDS = commands()


def test_every_page_is_reached_from_the_readme_and_no_link_is_dead():
    linked = {
        (ROOT / page).parent.joinpath(target.split("#")[0]).resolve()
        for page, text in PAGES.items()
        for target in re.findall(r"\]\(([^)]+)\)", text)
        if "://" not in target and not target.startswith("#")
    }
    assert [path for path in linked if not path.exists()] == []
    assert {(ROOT / page).resolve() for page in PAGES if page != "README.md"} <= linked


@pytest.mark.parametrize("query", dict.fromkeys(query for _, query in blocks("sql")))
def test_every_query_runs_on_the_published_tables(query, finished):
    with duckdb.connect(str(finished.config.published_path), read_only=True) as published:
        assert [column[0] for column in published.execute(query).description]


@pytest.mark.parametrize(("page", "text"), blocks("toml"))
def test_every_configuration_is_valid(page, text):
    assert isinstance(parse_config(tomllib.loads(text), name=page, folder=Path("/plant")), PlantConfig)


@pytest.mark.parametrize("page", sorted({page for page, _ in blocks("python")}))
def test_the_python_of_a_page_runs_from_top_to_bottom(page, finished, tmp_path, monkeypatch):
    (tmp_path / ".pwflow").mkdir()
    (tmp_path / ".pwflow" / "published.duckdb").symlink_to(finished.config.published_path)
    (tmp_path / ".pwflow" / "published").symlink_to(finished.config.published_folder)
    monkeypatch.chdir(tmp_path)
    mpl.use("Agg")
    names: dict[str, object] = {}
    for of, code in blocks("python"):
        if of == page:
            exec(compile(code, page, "exec"), names)  # noqa: S102 - our own documentation
    if page != "docs/how-to/read-scores.md":
        return
    counts = finished.query("SELECT (SELECT count(*) FROM mart.anomaly_events), count(*) FROM mart.anomaly_scores")
    assert [(len(names["events"]), len(names["scores"]))] == counts
    p_values = names["p_values"]
    assert p_values[0] > 0.1 > 0.01 > p_values[1]


def test_every_command_is_used_as_its_help_says():
    makefile = (ROOT / "Makefile").read_text()
    top = click.Context(main, info_name="pwflow", help_option_names=["-h", "--help"])
    for page, (program, verb, *arguments) in COMMANDS:
        if program == "make":
            assert f"\n{verb}: " in makefile, page
        elif program == "pwflow":
            main.commands[verb].make_context(verb, list(arguments), parent=top)
        else:
            assert (program, verb, *arguments) in INSTALLATION, page


def test_commands_that_only_look_run_on_a_finished_plant(here):
    exported = here.folder / "exports" / "2026-01-07.parquet"
    with duckdb.connect() as connection:
        connection.execute(f"COPY (FROM '{exported}' LIMIT 50) TO 'readings.csv'")
    add_verdict(here, "c0002")
    ran = set()
    for page, words in dict.fromkeys(COMMANDS):
        program, verb, *arguments = words
        if program != "pwflow" or verb in RUN_ELSEWHERE or words in ran:
            continue
        if "--config" in arguments or "--all" in arguments:  # other plants: tests/dagster/test_several_plants.py
            continue
        done = CliRunner().invoke(main, [verb, *arguments])
        assert done.exit_code == 0, f"{page}: {' '.join(words)}\n{done.output}"
        ran.add(words)
    assert {words[1] for words in ran} == RUN_HERE


def test_all_other_commands_are_run_by_the_tests_named_here():
    tests = {path.name: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    used = {words[1] for _, words in COMMANDS if words[0] == "pwflow"} - RUN_HERE
    assert used == set(RUN_ELSEWHERE)
    for verb, file in RUN_ELSEWHERE.items():
        assert f'"{verb}"' in tests[file], f"{file} does not run {verb}"


@pytest.mark.long(reason="20 CPU s: its commands are each run by another test")
def test_the_tutorial_repairs_a_drift(here):
    """Its commands in order, on a smaller plant with a verdict as the demo raises it."""
    add_verdict(here, "c0002")
    Path("labels.csv").write_text("machine,start,end\nM1,2026-01-06T10:00:00Z,2026-01-06T10:30:00Z\n")
    tutorial = [words[1:] for page, words in COMMANDS if page == "docs/tutorial.md"]
    assert [words[0] for words in tutorial] == [
        "demo", "status", "sql", "sql", "report", "ui", "answer", "status", "sql", "rollback", "evaluate"
    ]  # fmt: skip
    shown = []
    for verb, *arguments in tutorial:
        if verb in ("demo", "ui"):
            continue
        given = [VERDICT] if verb == "answer" else ["labels.csv"] if verb == "evaluate" else arguments
        done = CliRunner().invoke(main, [verb, *given])
        shown.append((verb, done.output))
        was_refused = verb == "rollback" and "No flow of c0002 was in use before" in done.output
        assert done.exit_code == 0 or was_refused, done.output  # three days may hold too little to gain from
    outputs = [text for verb, text in shown if verb == "status"]
    assert "verdicts    1 open" in outputs[0]
    assert "verdicts    0 open" in outputs[1]


def test_every_column_of_the_public_tables_is_documented_as_it_is():
    page = (ROOT / "docs" / "reference" / "tables.md").read_text(encoding="utf-8")
    with duckdb.connect() as connection:
        connection.execute(read_sql("pwflow_core.warehouse", "schema.sql"))
        for table in PUBLIC_TABLES:
            section = page.split(f"## `mart.{table}`")[1].split("\n#")[0]
            documented = re.findall(r"^\| `(\w+)` \| ([\w() ,\[\]]+) \| (.+) \|$", section, re.MULTILINE)
            columns = describe_published(connection, table)
            assert documented == [(c.name, c.type, c.description) for c in columns]


def test_a_readme_is_read_in_ten_minutes():
    """Figures are in docs/benchmarks.md, tables in docs/reference: neither is kept twice."""
    for page in ("README.md", "README.ja.md"):
        assert len(PAGES[page].split()) <= 1500
        assert not re.search(r"^\| `\w+` \| [A-Z]{3,}", PAGES[page], re.MULTILINE)
    assert "pip install" in "\n".join(PAGES["README.md"].splitlines()[:12])


@pytest.mark.parametrize("page", sorted(make_reference()))
def test_the_reference_is_what_the_code_says(page):
    """If this fails, run `make reference`."""
    assert (ROOT / "docs" / "reference" / page).read_text(encoding="utf-8") == make_reference()[page]


def test_every_key_of_the_configuration_is_explained():
    table_rows = re.findall(r"^\| `(\w+)` \|.*\| (.*) \|$", make_reference()["configuration.md"], re.MULTILINE)
    assert len(table_rows) > 60
    assert [key for key, text in table_rows if not text.strip()] == []


def test_pictures_are_there():
    pictures = {(page, name) for page, text in PAGES.items() for name in re.findall(r"!\[.+?\]\((.+?)\)", text)}
    assert len(pictures) >= 6
    for page, name in pictures:
        assert (ROOT / page).parent.joinpath(name).read_bytes().startswith(b"\x89PNG")
