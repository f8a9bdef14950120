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
def python_with(tmp_path_factory):
    """Return a function that makes a Python with some packages and no others; it skips where they cannot be had."""
    made = {}

    def make(*packages):
        if packages not in made:
            folder = tmp_path_factory.mktemp("python")
            venv.create(folder, with_pip=True)
            made[packages] = folder / "bin" / "python"
            install = [made[packages], "-m", "pip", "install", "--quiet", "--only-binary", ":all:", *packages]
            if subprocess.run(install, capture_output=True, check=False).returncode:
                pytest.skip(f"{' and '.join(packages)} cannot be installed here")
        return made[packages]

    return make


@pytest.fixture(scope="session")
def old_python(python_with):
    """A Python with a DuckDB of early 2025 alone."""
    return python_with(f"duckdb=={OLD_RELEASE}")


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
