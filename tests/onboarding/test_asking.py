"""What `pwflow init` asks and prints: the most doubtful first, questions with a default, the commands to type next."""

import pytest
from click.testing import CliRunner

from pwflow_core.errors import ConfigurationError
from pwflow_core.onboarding import initialise
from pwflow_dagster.cli import main

NAIVE = "time,temp,press,note\n" + "".join(
    f"2026-03-01 {i // 60:02d}:{i % 60:02d}:00,{20 + i % 7}.5,{3 + i % 5}.25,x\n" for i in range(90)
)


@pytest.fixture
def exports(tmp_path):
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports" / "a.csv").write_text(NAIVE)
    (tmp_path / "exports" / "notes.doc").write_text("x")
    return tmp_path / "exports"


def test_assumptions_come_in_order_of_doubt(exports, tmp_path):
    said = initialise(exports, tmp_path).assumptions
    assert "UTC is assumed" in said[0]
    left_out = [i for i, sentence in enumerate(said) if "notes.doc" in sentence or "Leaves out 'note'" in sentence]
    plain = next(i for i, sentence in enumerate(said) if sentence.startswith("Reads the"))
    assert len(left_out) == 2
    assert max(left_out) < plain


def test_the_zone_is_asked_and_the_answer_checked(exports, tmp_path):
    asked = []

    def ask(question, default, check):
        asked.append((question, default))
        with pytest.raises(ConfigurationError, match="Mars"):
            check("Mars/Olympus")
        check("Asia/Tokyo")
        return "Asia/Tokyo"

    made = initialise(exports, tmp_path, ask=ask)
    assert asked == [("The times name no time zone. Zone of these times", "UTC")]
    assert 'timezone = "Asia/Tokyo"' in made.path.read_text()
    assert not any("UTC is assumed" in sentence for sentence in made.assumptions)


def test_without_a_terminal_nothing_is_asked_and_the_end_is_what_to_type_next(exports, tmp_path):
    output = tmp_path / "my plant.toml"
    ended = CliRunner().invoke(main, ["init", str(exports), "--output", str(output)], catch_exceptions=False)
    assert ended.exit_code == 0
    commands = [line.strip() for line in ended.output.splitlines()[-3:]]
    assert commands == [f"pwflow {name} --config '{output}'" for name in ("run", "status", "ui")]
