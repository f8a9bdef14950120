"""What readers of the published tables have: tables with an event, and a Python with an old DuckDB."""

import subprocess
import venv

import duckdb
import pytest

from pwflow_core.pipeline.publishing.publishing import publish_warehouse
from pwflow_core.pipeline.scoring.contributions import explain_anomalies
from pwflow_core.pipeline.scoring.events import derive_events

OLD_RELEASE = "1.2.2"


@pytest.fixture(scope="session")
def old_python(tmp_path_factory):
    """A Python with a DuckDB of early 2025 alone."""
    folder = tmp_path_factory.mktemp("old-duckdb")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    found = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", f"duckdb=={OLD_RELEASE}"],
        capture_output=True, check=False,
    )  # fmt: skip
    if found.returncode:
        pytest.skip(f"duckdb {OLD_RELEASE} cannot be installed here")
    return python


@pytest.fixture
def published(trained_plant):
    """The published tables of a plant whose first machine has an event at the end."""
    with trained_plant.warehouse.transaction() as connection:
        connection.execute(
            "UPDATE mart.anomaly_scores SET p_value = 1e-9, anomaly_score = 9, is_anomaly = true "
            "WHERE machine_id = (SELECT min(machine_id) FROM mart.anomaly_scores) AND status = 'scored' "
            "AND ts > (SELECT max(ts) - INTERVAL 10 MINUTE FROM mart.anomaly_scores)"
        )
    explain_anomalies(trained_plant)
    derive_events(trained_plant)
    with duckdb.connect(str(publish_warehouse(trained_plant).path), read_only=True) as connection:
        yield connection
