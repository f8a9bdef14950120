"""What commands print: lines that fit the terminal, JSON with zoned times, errors as JSON, completion."""

from __future__ import annotations

import json
import re
from datetime import date, datetime
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from pwflow_core.errors import count
from pwflow_dagster.cli import main
from pwflow_dagster.cli.printing import as_json, wrap_text

pytestmark = pytest.mark.quick
WORDS = st.lists(
    st.sampled_from(["a", "regime", "`pwflow mark K-3f9a2c --fault`", "overheated", "  ", "x" * 30]), max_size=40
)


@given(WORDS, st.integers(40, 120))
def test_wrapped_lines_fit_and_hold_the_same_words_with_commands_in_one_piece(words, width):
    text = "  readings    " + " ".join(words)
    lines = wrap_text(text, width).split("\n")
    assert all(len(line) <= width or len(line.split()) == 1 or "`" in line for line in lines)
    assert " ".join(lines).split() == text.split()
    assert all(line.count("`") % 2 == 0 for line in lines)


def test_a_row_of_a_list_goes_on_below_its_second_column():
    wrapped = wrap_text(f"  readings    {'many words ' * 8}".rstrip(), 60).split("\n")
    assert len(wrapped) > 1
    assert all(re.match(r" {14}\S", line) for line in wrapped[1:])
    wrapped = wrap_text(f"  last night  {'4,320 readings, ' * 8}".rstrip(), 60).split("\n")
    assert len(wrapped) > 1
    assert all(re.match(r" {14}\S", line) for line in wrapped[1:])


@pytest.mark.parametrize(("number", "written"), [(0, "0 cases"), (1, "1 case"), (1200, "1,200 cases")])
def test_one_thing_is_counted_in_the_singular(number, written):
    assert count(number, "case") == written
    assert count(number, "stretch", "stretches") == written.replace("case", "stretch" if number == 1 else "stretche")


def test_ids_are_text_and_counts_are_numbers():
    shown = as_json({"event_id": 2**53 + 1, "events": [{"worst_event_id": None, "n_readings": 3, "case_id": "K-1"}]})
    assert shown["event_id"] == "9007199254740993"
    assert shown["events"] == [{"worst_event_id": None, "n_readings": 3, "case_id": "K-1"}]


def test_times_have_their_zone_and_days_have_none():
    utc = datetime(2026, 3, 14, 6, 30)  # noqa: DTZ001 - UTC, as the tables have it
    there = datetime(2026, 3, 14, 6, 30, tzinfo=ZoneInfo("Asia/Tokyo"))
    assert as_json({"a": utc, "b": [there], "c": date(2026, 3, 14), "d": float("nan")}) == {
        "a": "2026-03-14T06:30:00+00:00",
        "b": ["2026-03-14T06:30:00+09:00"],
        "c": "2026-03-14",
        "d": None,
    }


@pytest.mark.parametrize(
    ("arguments", "kind", "code"),
    [
        (["status", "--json", "--config", "nowhere.toml"], "ConfigurationError", 1),
        (["events", "--json", "--most", "none"], "BadParameter", 2),
        (["cases", "--json", "--no-such-option"], "NoSuchOption", 2),
    ],
)
def test_an_error_is_json_where_json_was_asked_for_and_keeps_its_exit_code(
    arguments, kind, code, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == code
    error = json.loads(done.stdout)["error"]
    assert (error["kind"], error["exit_code"]) == (kind, code)
    plain = CliRunner().invoke(main, [word for word in arguments if word != "--json"])
    assert plain.exit_code == code
    assert error["message"] in plain.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script_that_calls_pwflow(shell):
    done = CliRunner().invoke(main, ["completion", shell])
    assert done.exit_code == 0, done.output
    assert f"_PWFLOW_COMPLETE={shell}_complete" in done.stdout


def test_every_command_but_a_server_and_a_script_prints_json():
    others = {"ui", "completion"}
    without = {
        name for name, command in main.commands.items() if "--json" not in {o for p in command.params for o in p.opts}
    }
    assert without == others
