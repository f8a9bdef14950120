"""A Python with an old DuckDB, for what readers of other releases see."""

import subprocess
import venv

import pytest

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
