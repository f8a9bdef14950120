"""The configuration: whatever is wrong is said in one sentence that names the key."""

import re
from pathlib import Path

import pytest

from pwflow_core.config import RESERVED_COLUMNS, load_config, locate_config, parse_config
from pwflow_core.errors import ConfigurationError

pytestmark = pytest.mark.quick

SOURCE = '[source]\npath = "data/*.csv"\n'

WRONG = {
    "unknown section": (SOURCE + "[sourc]\nx = 1", "unknown key 'sourc' (known here: plant, source, sensors"),
    "unknown key": (SOURCE + "[flow]\nepochs = 5", "unknown key 'flow.epochs' (known here: kind, transforms"),
    "unknown key of one regime": (
        SOURCE + "[flow.clusters.c0001]\nlayers = 5",
        "unknown key 'flow.clusters.c0001.layers' (known here: kind, transforms, hidden, max_steps)",
    ),
    "unknown sensor key": (
        SOURCE + "[sensors.t]\nlimit = 5",
        "unknown key 'sensors.t.limit' (known here: column, unit",
    ),
    "key outside its section": ("path = 'x'\n" + SOURCE, "unknown key 'path'"),
    "wrong type": (SOURCE + '[compute]\nthreads = "many"', "'compute.threads': input should be a valid integer"),
    "wrong type of several": ("[source]\npath = 5", "'source.path': input should be a valid"),
    "wrong item": ('[source]\npath = ["a", 5]', "'source.path.1': input should be a valid string"),
    "wrong choice": (
        SOURCE + '[clustering]\nmethod = "dbscan"',
        "'clustering.method': input should be 'gmm' or 'kmeans'",
    ),
    "wrong number or word": (
        SOURCE + '[clustering]\nn_clusters = "lots"',
        "'clustering.n_clusters': input should be 'auto' or a valid integer",
    ),
    "wrong item of a list or word": (
        SOURCE + "[features]\nwindows = [1]",
        "toml: 'features.windows.0': input should be greater than or equal to 2, got 1. Correct",
    ),
    "neither a list nor the word": (
        SOURCE + '[features]\nwindows = "long"',
        "'features.windows': input should be 'auto' or a list, got 'long'. Correct",
    ),
    "out of range": (SOURCE + "[scoring]\nalpha = 2", "'scoring.alpha': input should be less than 1, got 2"),
    "two false-alarm rates": (
        SOURCE + "[scoring]\nalpha = 0.01\nalarms_per_week = 1",
        "'scoring': expected alpha or alarms_per_week, got both; remove one",
    ),
    "no alarms at all": (
        SOURCE + "[scoring]\nalarms_per_week = 0",
        "'scoring.alarms_per_week': input should be greater",
    ),
    "no source": ("[scoring]\nalpha = 0.1", "'source' is missing"),
    "empty source": ("[source]", "'source': expected exactly one of path, sql and simulated_days, got none"),
    "two sources": (
        SOURCE + 'sql = "SELECT 1"',
        "'source': expected exactly one of path, sql and simulated_days, got path",
    ),
    "reserved sensor": (
        SOURCE + "[sensors.Segment]\nunit = 'x'",
        "'sensors': 'Segment' is a name that pwflow needs itself",
    ),
    "duplicate sensor": (SOURCE + "[sensors.temp]\n[sensors.TEMP]", "'sensors': 'TEMP' and 'temp' differ only in case"),
    "nameless sensor": (SOURCE + '[sensors." "]', "'sensors': expected a sensor name"),
    "limits crossed": (SOURCE + "[sensors.t]\nlow = 5\nhigh = 1", "'sensors.t': expected low below high"),
    "bad zone": (SOURCE + 'timezone = "Mars/Olympus"', "'source.timezone': expected an IANA time zone"),
    "window of one": (SOURCE + "[features]\nwindows = [1]", "'features.windows"),
    "window twice": (SOURCE + "[features]\nwindows = [5, 5]", "windows: expected each value once, got [5, 5]"),
    "slope of two": (
        SOURCE + '[features]\nwindows = [2]\nstatistics = ["slope"]',
        "windows: expected at least 3 readings for a slope, got 2",
    ),
    "window of nothing": (SOURCE + "[features]\nwindows = [5]\nstatistics = []", "expected at least one of mean, std"),
    "feature of nothing": (
        SOURCE + '[features]\nlags = [1]\nsensors = ["tmp"]\n[sensors.temp]',
        "features.sensors: expected names of [sensors], got 'tmp'",
    ),
    "lag of zero": (SOURCE + "[features]\nlags = [0]", "'features.lags.0'"),
    "negative gap": (SOURCE + "[quality]\nfill_readings = -1", "'quality.fill_readings'"),
    "bad schedule zone": (SOURCE + '[schedule]\ntimezone = "CEST"', "'schedule.timezone': expected an IANA time zone"),
    "bad cron": (SOURCE + '[schedule]\ncron = "daily"', "'schedule.cron': expected a cron expression"),
    "impossible cron": (SOURCE + '[schedule]\ncron = "0 25 * * *"', "'schedule.cron': expected a cron expression"),
    "bad warehouse": (
        SOURCE + '[warehouse]\nurl = "postgres://x"',
        "'warehouse.url': expected duckdb:///file, ducklake:///folder or ducklake+postgres://host/database",
    ),
    "password of a warehouse": (
        SOURCE + '[warehouse]\nurl = "ducklake+postgres://me:pass@host/x"\ndata = "d"',
        "'warehouse.url': expected no password; put it into the variable PGPASSWORD",
    ),
    "lake without data": (
        SOURCE + '[warehouse]\nurl = "ducklake+postgres://host/x"',
        "'warehouse': a lake with its catalog in Postgres needs data",
    ),
    "bad memory": (SOURCE + '[compute]\nmemory_limit = "lots"', "'compute.memory_limit': string should match"),
    "published over the warehouse": (
        SOURCE + '[warehouse]\nurl = "duckdb:///a.duckdb"\npublished = "./a.duckdb"',
        "warehouse.published: expected another file than warehouse.url",
    ),
    "a key of our own": ('folder = "x"\n' + SOURCE, "unknown key 'folder'"),
    "broken TOML": ("[source\npath = 1", "is not valid TOML"),
    "no table": ("source = 5", "'source': input should be a valid"),
}


@pytest.mark.parametrize(("text", "sentence"), WRONG.values(), ids=WRONG)
def test_a_wrong_configuration_is_one_sentence_that_names_the_key(tmp_path, text, sentence):
    file = tmp_path / "pwflow.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=re.escape(sentence)) as caught:
        load_config(file)
    message = str(caught.value)
    assert message.startswith(str(file))
    assert "\n" not in message
    assert "pydantic" not in message
    assert "constrained" not in message
    assert "tuple[" not in message
    assert "literal[" not in message


def test_a_missing_file_says_how_to_get_one(tmp_path):
    with pytest.raises(ConfigurationError, match="pwflow init"):
        load_config(tmp_path / "nothing.toml")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", None], ids=["not UTF-8", "a folder"])
def test_a_file_that_is_no_text_is_an_error(tmp_path, content):
    file = tmp_path / "pwflow.toml"
    file.mkdir() if content is None else file.write_bytes(content)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_config(file)


def test_everything_but_the_source_has_a_default(tmp_path):
    file = tmp_path / "pwflow.toml"
    file.write_bytes(b"\xef\xbb\xbf" + SOURCE.encode())  # as Windows editors write it
    config = load_config(file)
    assert config.source.patterns == ("data/*.csv",)
    assert config.warehouse_path == tmp_path / ".pwflow" / "warehouse.duckdb"
    assert config.models_url == str(tmp_path / ".pwflow" / "models")


@pytest.mark.parametrize("cron", ["0 2 * * *", "*/15 0-6,22 1,15 jan-MAR mon", "5 4 * * 7", "0 8-18/2 * * 1-5"])
def test_a_valid_cron_expression_is_accepted(tmp_path, cron):
    file = tmp_path / "pwflow.toml"
    file.write_text(SOURCE + f'[schedule]\ncron = "{cron}"')
    assert load_config(file).schedule.cron == cron


def test_paths_are_relative_to_the_file_and_urls_stay(tmp_path):
    file = tmp_path / "pwflow.toml"
    file.write_text(SOURCE + '[warehouse]\nurl = "duckdb:////srv/w.duckdb"\n[models]\nurl = "s3://bucket/models"')
    config = load_config(file)
    assert config.warehouse_path == Path("/srv/w.duckdb")
    assert config.models_url == "s3://bucket/models"


def test_the_named_file_wins_over_the_variable_and_that_over_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PWFLOW_CONFIG", raising=False)
    assert locate_config() is None
    (tmp_path / "pwflow.toml").write_text(SOURCE)
    assert locate_config() == Path("pwflow.toml")
    monkeypatch.setenv("PWFLOW_CONFIG", "other.toml")
    assert locate_config() == Path("other.toml")
    assert locate_config(Path("given.toml")) == Path("given.toml")


def test_every_column_of_the_readings_is_reserved(make_plant):
    plant = make_plant({"a.csv": "ts,machine,temperature,pressure\n2024-01-01,m,1,2\n"})
    from tests.conftest import query, read_all

    read_all(plant)
    columns = query(
        plant,
        "SELECT column_name FROM duckdb_columns() WHERE table_name IN ('readings', 'raw_readings') "
        "AND column_name NOT IN ('temperature', 'pressure')",
    )
    assert {name for (name,) in columns} <= RESERVED_COLUMNS


SECRET_URL = "mailto://me:hunter2@mail.example"  # noqa: S105 - what must not be shown


@pytest.mark.parametrize(
    "notify",
    [
        {"targets": {"mail": {"url_env": SECRET_URL}}},
        {"targets": {"mail": {"url_env": [SECRET_URL]}}},
        {"targets": {"mail": {"url_env": "MAIL_URL", "secret_env": "hunter2 and more"}}},
        {"targets": {"mail": {"url": SECRET_URL, "url_env": "MAIL_URL"}}},
        {"targets": {"mail": SECRET_URL}},
        {"targets": {SECRET_URL: {"url_env": "MAIL_URL"}}},
        {"targets": "slack://hunter2/hunter2"},
        {"link": "https://me:hunter2@reports.example"},
        "slack://hunter2/hunter2",
    ],
)
def test_a_url_with_a_secret_in_the_file_is_refused_and_not_shown(notify):
    with pytest.raises(ConfigurationError, match="notify") as refused:
        parse_config({"source": {"path": "x"}, "notify": notify}, name="x", folder=Path())
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"quiet": "24:00-06:00"}, "22:00-06:00"),
        ({"quiet": "06:00-06:00"}, "two different times"),
        ({"quiet_severity": "high"}, "expected quiet beside"),
        ({"severity": "grave"}, "severity"),
        ({"most_per_hour": 0}, "most_per_hour"),
        ({"language": "de"}, "language"),
    ],
)
def test_what_a_target_cannot_mean_is_refused(target, message):
    values = {"source": {"path": "x"}, "notify": {"targets": {"mail": {"url_env": "MAIL_URL"} | target}}}
    with pytest.raises(ConfigurationError, match=message):
        parse_config(values, name="x", folder=Path())
