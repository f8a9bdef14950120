"""Secrets of the configuration: in no error, log, table or file."""

import logging
from datetime import datetime

import dagster as dg
import pytest

from pwflow_core.config import load_config
from pwflow_core.errors import ConfigurationError, ModelFileError, PwflowError, SourceError
from pwflow_core.model_store import ModelStore
from pwflow_core.pipeline.source.ingest import ingest_files
from pwflow_core.pipeline.source.source import FileState, name_files
from pwflow_core.redaction import SecretsFilter, hide_secrets
from pwflow_dagster.definitions import build
from tests.conftest import query

SECRET = "hunter2"  # noqa: S105 - what must not be found
TEXTS = [
    "s3://AKIA:hunter2@bucket/x.csv",
    "s3://AKIA:hunt/hunter2@bucket/x.csv",
    "postgres_scan('host=db password=hunter2 user=x', 'public', 't')",
    "ATTACH 'dbname=a password=\"hunter2\"' AS pg",
    "CREATE SECRET s (TYPE s3, KEY_ID 'hunter2', SECRET 'hunter2')",
    "https://x.blob.example/y.csv?sv=1&sig=hunter2&x=2",
    "md:plant?motherduck_token=hunter2",
    "DefaultEndpointsProtocol=https;AccountKey=hunter2==;EndpointSuffix=x",
    "{'password': 'hunter2', 'user': 'x'}",
    "aws_secret_access_key = hunter2",
    "api-key: hunter2",
    "password='hunter2",
]
HARMLESS = [
    "/data/2024-01-01/keys.csv has no column 'ts'; it has 'when', 'value'. Map the columns in pwflow.toml.",
    "Expected the key of a regime in use (c0001, c0002), got 'x'",
    "duckdb:///.pwflow/warehouse.duckdb",
    "https://example.org/exports/*.csv",
    "The token bucket holds 3 tokens",
]


@pytest.mark.parametrize("text", TEXTS)
def test_what_looks_like_a_secret_is_hidden(text):
    assert SECRET not in hide_secrets(text)
    assert SECRET not in str(PwflowError(text))
    record = logging.LogRecord("pwflow", logging.INFO, "", 0, "read %s", (text,), None)
    assert SecretsFilter().filter(record)
    assert SECRET not in record.getMessage()
    assert hide_secrets(hide_secrets(text)) == hide_secrets(text)


@pytest.mark.parametrize("text", HARMLESS)
def test_what_does_not_is_left_as_it_is(text):
    assert hide_secrets(text) == text


def state(path) -> FileState:
    return FileState(path, 0, datetime(2024, 1, 1))  # noqa: DTZ001 - naive UTC


def assert_not_written(folder) -> None:
    for file in folder.rglob("*"):
        if file.is_file() and file.name not in ("config.json", "pwflow.toml"):
            assert SECRET.encode() not in file.read_bytes(), file


SOURCES = {
    "a query that fails": {"sql": "SELECT * FROM nowhere -- password=hunter2", "path": None},
    "a password in an attached database": {
        "sql": "SELECT * FROM postgres_scan('host=127.0.0.1 port=1 password=hunter2', 'public', 'readings')",
        "path": None,
    },
    "a key in a URL": {"path": "http://user:hunter2@127.0.0.1:9/readings.csv"},
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_a_source_that_cannot_be_read_keeps_its_secret(make_plant, caplog, source):
    plant = make_plant(source=source)
    with pytest.raises(SourceError) as raised:
        ingest_files(plant)
    assert SECRET not in str(raised.value)
    assert SECRET not in caplog.text
    assert_not_written(plant.config.folder)


def test_a_run_in_dagster_keeps_the_secret_of_its_source(make_plant):
    plant = make_plant(source=SOURCES["a query that fails"])
    home = plant.config.folder / "dagster"
    home.mkdir()
    with dg.DagsterInstance.local_temp(str(home), overrides={"telemetry": {"enabled": False}}) as instance:
        result = (
            build(plant.config)
            .resolve_job_def("learn_regimes")
            .execute_in_process(instance=instance, raise_on_error=False)
        )
        assert not result.success
        assert all(SECRET not in str(event) for event in result.all_events)
    assert_not_written(plant.config.folder)


def test_a_query_that_works_leaves_its_secret_nowhere(make_plant):
    sql = "SELECT '2024-01-01T00:00Z' AS ts, 'm' AS machine, 1.5 AS temperature, 2.5 AS pressure -- token=hunter2"
    plant = make_plant(source={"sql": sql, "path": None})
    assert ingest_files(plant).n_raw == 1
    assert query(plant, "SELECT path FROM ingest.files") == [("source.sql",)]
    assert_not_written(plant.config.folder)


def test_a_model_store_keeps_the_secret_of_its_url():
    with pytest.raises(ModelFileError) as raised:
        ModelStore("memory://user:hunter2@host/models").get("0" * 64)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        '[source]\npath = "x"\n[warehouse]\nurl = "postgres://user:hunter2@db/x"\n',
        '[source]\npath = "x"\npassword = "hunter2"\n',
        '[source]\npath = {secret = "hunter2"}\n',
        '[source]\npath = "x"\n[models]\nurl = ["s3://key:hunter2@bucket"]\n',
    ],
)
def test_a_wrong_configuration_is_explained_without_its_secrets(tmp_path, text):
    (tmp_path / "pwflow.toml").write_text(text)
    with pytest.raises(ConfigurationError) as raised:
        load_config(tmp_path / "pwflow.toml")
    assert SECRET not in str(raised.value)
    assert "pwflow.toml" in str(raised.value)


@pytest.mark.parametrize("url", ["s3://key:{}@bucket/a.csv", "https://host/day.csv?sv=1&sig={}"])
def test_another_password_does_not_make_it_another_file(url):
    (one,), (other,) = (name_files([state(url.format(password))]).values() for password in ("old", SECRET))
    assert one == other
    assert SECRET not in other


def test_files_that_differ_in_what_is_hidden_have_names_of_their_own():
    urls = [
        "s3://key:hunter2@bucket/token=hunter2/a.csv",
        "s3://key:hunter2@bucket/token=2/a.csv",
        "https://host/a.csv?key=hunter2",
        "https://host/a.csv?key=2",
    ]
    names = name_files([state(url) for url in urls])
    assert len(set(names.values())) == len(urls)
    assert not any(SECRET in name for name in names.values())
    assert name_files([state(urls[0])]) == {urls[0]: names[urls[0]]}, (
        "which others there are does not matter to folders"
    )


@pytest.mark.parametrize("path", ["/data/token=7/a.csv", "/data/pwd: x/a.csv", "/data/day.csv"])
def test_a_file_of_this_machine_is_known_by_its_path(path):
    assert name_files([state(path)]) == {path: path}
