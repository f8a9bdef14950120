"""Fuzzing: mutated exports and configurations are read, or refused with a sentence; never another error.

The mutations start from the files in `corpus/`; what once broke something is added there.
"""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pwflow_core.config import PlantConfig, load_config
from pwflow_core.errors import ConfigurationError, SourceError
from pwflow_core.pipeline.source.source import Sensor, Source
from pwflow_core.pipeline.source.staging import stage_file
from tests.conftest import examples, open_plant, put_file, query, read_all

CORPUS = Path(__file__).with_name("corpus")
EXPORTS = sorted((CORPUS / "csv").iterdir())
CONFIGURATIONS = sorted((CORPUS / "toml").iterdir())
SOURCE = Source(
    timestamp="ts",
    timestamp_format=None,
    timezone="UTC",
    machine="machine",
    segments=(),
    sensors=(Sensor("temperature", "temperature"), Sensor("pressure", "pressure")),
    delimiter=None,
    decimal=".",
)
FUZZ = settings(
    deadline=None, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck), database=None
)
PIECES = [b"\n", b"\r\n", b'"', b"'", b",", b";", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\\", b"#", b"1e999", b"-", b"\t"]
WORDS = [b"=", b"[", b"]", b'"', b"\n", b"nan", b"-1", b"1e400", b"true", b"[]", b"{}", b'"x"', b"\xff", b"'''", b"0"]


@st.composite
def mutated(draw, files: list[Path], pieces: list[bytes]) -> bytes:
    """Return a file of the corpus with some bytes cut out, doubled, or replaced by something hostile."""
    data = draw(st.sampled_from(files)).read_bytes()
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 12)))
        middle = draw(st.one_of(st.sampled_from(pieces), st.just(data[start:end] * 2), st.binary(max_size=4)))
        data = data[:start] + middle + data[end:]
    return data


@dataclass(frozen=True)
class Outcome:
    """What staging one export came to: the rows that it says it took and those that lie there, or what it said."""

    path: str
    claimed: int = 0
    found: int = 0
    said: str = ""

    @property
    def is_taken(self) -> bool:
        return self.claimed == self.found > 0 and not self.said

    @property
    def is_refused(self) -> bool:
        return self.path in self.said and "\n" not in self.said


def stage(folder: Path, data: bytes) -> Outcome:
    path = folder / "export.csv"
    path.write_bytes(data)
    with duckdb.connect() as scratch:
        try:
            staged = stage_file(scratch, str(path), "export.csv", SOURCE, folder / "rows.parquet")
        except SourceError as refusal:
            return Outcome(str(path), said=str(refusal))
        [(found,)] = scratch.execute("SELECT count(*) FROM read_parquet(?)", [str(staged.rows_file)]).fetchall()
    return Outcome(str(path), claimed=staged.n_rows, found=found)


def test_every_export_of_the_corpus_is_taken_or_refused_with_a_sentence(tmp_path):
    outcomes = [stage(tmp_path, file.read_bytes()) for file in EXPORTS]
    assert all(outcome.is_taken or outcome.is_refused for outcome in outcomes)
    assert {outcome.is_taken for outcome in outcomes} == {True, False}


@settings(FUZZ, max_examples=examples(100, 3000))
@given(data=mutated(EXPORTS, PIECES))
def test_a_mutated_export_is_taken_or_refused_with_a_sentence(data):
    with TemporaryDirectory() as folder:
        outcome = stage(Path(folder), data)
    assert outcome.is_taken or outcome.is_refused, outcome


@settings(FUZZ, max_examples=examples(200, 5000))
@given(data=mutated(CONFIGURATIONS, WORDS))
def test_a_mutated_configuration_is_valid_or_refused_with_a_sentence_that_names_the_file(data):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "pwflow.toml"
        path.write_bytes(data)
        try:
            outcome = load_config(path)
        except ConfigurationError as refusal:
            outcome = str(refusal)
    assert isinstance(outcome, PlantConfig) or "pwflow.toml" in outcome


@settings(FUZZ, max_examples=examples(6, 150))
@given(nights=st.lists(st.lists(mutated(EXPORTS, PIECES), min_size=1, max_size=3), min_size=1, max_size=2))
def test_whatever_arrives_each_row_is_a_reading_or_refused_once(nights):
    """From files to readings, night after night, beside a file that is whole."""
    with TemporaryDirectory() as folder:
        plant = open_plant(Path(folder))
        put_file(
            Path(folder) / "data" / "whole.csv", EXPORTS[[f.name for f in EXPORTS].index("plain.csv")].read_bytes()
        )
        for night, files in enumerate(nights):
            for number, data in enumerate(files):
                put_file(Path(folder) / "data" / f"{night}-{number}.csv", data)
            read_all(plant)
            [(raw, malformed, readings, parts, refused, distinct)] = query(
                plant,
                "SELECT (SELECT count(*) FROM ingest.raw_readings), (SELECT count(*) FROM ingest.malformed_lines), "
                "(SELECT count(*) FROM core.readings), "
                "(SELECT count(*) - count(DISTINCT reading_id) FROM core.merged_rows), "
                "(SELECT count(*) FROM mart.rejected_readings WHERE sensor IS NULL), "
                "(SELECT count(DISTINCT (machine_id, ts)) FROM core.readings)",
            )
            assert raw + malformed == readings + parts + refused
            assert readings == distinct
