"""The benchmarks still run: each in its smoke mode, in seconds, on tiny data."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "benchmarks"
OTHERS = {
    "measuring": "how a benchmark is started and measured",
    "plants": "makes plants",
    "drift_plant": "makes the plant of drift_nights",
    "peers": "is run by compare_peers",
    "make_environment": "downloads packages",
}
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in OTHERS)


@pytest.mark.long
@pytest.mark.parametrize("script", SCRIPTS)
def test_every_benchmark_runs_in_its_smoke_mode(script, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", FOLDER / f"{script}.py", "--smoke"],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip()


def test_a_benchmark_without_its_data_says_by_name_what_it_skips(tmp_path):
    done = subprocess.run(
        [sys.executable, FOLDER / "drift_gas_turbine.py", "--smoke", "--data", tmp_path],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout == f"gas turbine: skipped, there is no {tmp_path / 'gas_turbine_2011_2013.parquet'}\n"
