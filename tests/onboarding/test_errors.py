"""What a newcomer does wrong: each is one sentence that names the file and the next step."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from pwflow_core.errors import ConfigurationError, SourceError
from pwflow_core.onboarding import initialise

pytestmark = pytest.mark.quick

GARBAGE = b"PAR1" + bytes(range(256)) * 4 + b"PAR1"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.csv", b"", "0 bytes"),
        ("header.csv", b"ts,a\n", "only a header"),
        ("no_header.csv", b"2024-01-01 00:00:00,1,2\n3,4,2024-01-01 00:01:00\n", "column names"),
        ("no_time.csv", b"a,b\n1,2\n3,4\n", "timestamp column"),
        ("bad_time.csv", b"timestamp,b\nMonday 1,1.5\nMonday 2,2.5\n", "got 'Monday 1'"),
        ("no_number.csv", b"ts,b\n2024-01-01,x\n2024-01-02,y\n", "numeric column"),
        ("latin.csv", "ts;T [°C]\n2024-01-01;1\n".encode("latin-1"), "'T [°C]' is always 1"),
        ("wide.csv", "ts,a\n2024-01-01,1\n".encode("utf-16"), "'a' is always 1"),
        ("binary.csv", b"ts,a\n\xff\x00\x01\x02,1\n" * 9, "UTF-8"),
        ("broken.csv.gz", gzip.compress(b"ts,a\n2024-01-01,1\n" * 99, mtime=0)[:40], "cannot be read"),
        ("no_gzip.csv.gz", b"ts,a\n2024-01-01,1\n", "cannot be read"),
        ("broken.parquet", GARBAGE, "cannot be read"),
        ("no_zip.zip", b"PK, but no archive", "cannot be read"),
        ("no_sheet.xlsx", b"PK, but no sheet", "cannot be read"),
        ("one_column.csv", b"ts a b\n2024-01-01 1 2\n2024-01-02 2 3\n", "several columns"),
    ],
)
def test_unusable_file_is_one_sentence_that_names_it(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SourceError) as error:
        initialise(path, tmp_path / "pwflow.toml")
    text = str(error.value)
    assert message in text
    assert str(path) in text
    assert "\n" not in text
    assert text.endswith(".")
    assert not (tmp_path / "pwflow.toml").exists()


@pytest.mark.parametrize("target", ["nowhere", "*.parquet", "logs"])
def test_target_without_exports_says_what_was_expected(tmp_path: Path, target):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "plant.log").write_text("started")
    with pytest.raises(SourceError, match=r"Expected .*(file|Parquet)"):
        initialise(tmp_path / target, tmp_path / "pwflow.toml")


def test_existing_configuration_is_kept_unless_asked(tmp_path, plain_csv):
    output = tmp_path / "pwflow.toml"
    output.write_text("mine")
    with pytest.raises(ConfigurationError, match="--overwrite"):
        initialise(plain_csv, output)
    assert output.read_text() == "mine"
    initialise(plain_csv, output, overwrite=True)
    assert "[source]" in output.read_text()


@pytest.mark.parametrize(("option", "value"), [("name", "my plant"), ("timezone", "Berlin")])
def test_wrong_arguments_are_named(tmp_path, plain_csv, option, value):
    with pytest.raises(ConfigurationError, match=value):
        initialise(plain_csv, tmp_path / "pwflow.toml", **{option: value})
    assert not (tmp_path / "pwflow.toml").exists()


def test_damaged_file_among_good_ones_is_named(tmp_path, plain_csv):
    (tmp_path / "zzz.csv").write_bytes(b"\x00\x01\x02" * 500)
    with pytest.raises(SourceError, match=r"zzz\.csv"):
        initialise(tmp_path, tmp_path / "pwflow.toml")
