"""What the models learn from and what they are judged on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
from numpy.typing import NDArray

from pwflow_core.config import PlantConfig
from pwflow_core.errors import ConfigurationError, NotFittedError, SourceError, first_line
from pwflow_core.files import is_number_type, is_parquet
from pwflow_core.modelling.targets import TARGETS
from pwflow_core.modelling.validation import held_out_blocks
from pwflow_core.pipeline.readings.training_rows import select_training_rows, training_window
from pwflow_core.pipeline.source.source import read_source
from pwflow_core.plant import Plant
from pwflow_core.warehouse import quote_columns, quote_literal
from pwflow_core.warehouse.streaming import fetch_matrix

__all__ = ["BenchmarkData", "from_file", "from_plant", "from_target"]

Array = NDArray[np.float64]

_FEWEST_ROWS = 200
_TEST_ROWS = 20_000  # drawn from a toy target
_HELD_OUT = 0.2


@dataclass(frozen=True, eq=False)
class BenchmarkData:
    """Rows to learn from and rows to be judged on.

    Attributes:
        name: What the data are, in a word or two.
        columns: Names of the D columns.
        train: Rows to learn from, shape (N, D), in their order in time; each model splits its own held-out
            rows off for stopping.
        test: Rows that no model sees, shape (M, D).
        block: Which contiguous block of the data each test row is from, shape (M,): rows of one block are not
            independent.
        target: Name of the toy target, or empty.

    """

    name: str
    columns: tuple[str, ...]
    train: Array
    test: Array
    block: NDArray[np.intp]
    target: str = ""

    def save(self, path: Path) -> None:
        """Write for `load`."""
        np.savez(
            path,
            train=self.train,
            test=self.test,
            block=self.block,
            words=np.array([self.name, self.target, *self.columns]),
        )

    @classmethod
    def load(cls, path: Path) -> BenchmarkData:
        """Read what `save` wrote."""
        with np.load(path) as arrays:
            name, target, *columns = arrays["words"].tolist()
            return cls(name, tuple(columns), arrays["train"], arrays["test"], arrays["block"], target)


def from_target(name: str, rows: int, random_state: int = 0) -> BenchmarkData:
    """Draw `rows` training rows, and 20,000 to judge on, from a toy target.

    Raises:
        ConfigurationError: The target is not known.

    """
    if name not in TARGETS:
        raise ConfigurationError(f"Expected a target among {', '.join(TARGETS)}, got {name!r}: name one of those.")
    target, rng = TARGETS[name](), np.random.default_rng(random_state)
    train, test = target.sample(rows, rng), target.sample(_TEST_ROWS, rng)
    return BenchmarkData(name, _numbered(target.n_features), train, test, np.arange(len(test)), name)


def from_file(path: Path, rows: int, *, columns: Sequence[str] = (), random_state: int = 0) -> BenchmarkData:
    """Take the numeric columns of a CSV or Parquet file, its rows in their order.

    Rows with a missing or infinite value are left out, and columns that never change.

    Arguments:
        path: The file.
        rows: Most rows to use; more are thinned evenly.
        columns: Columns to use; all numeric ones by default.
        random_state: Seed of the blocks that are held out.

    Raises:
        SourceError: The file cannot be read, a column is missing or not numeric, or too few rows are left.

    """
    if not path.is_file():
        raise SourceError(f"There is no file {path}: give a CSV or Parquet file, or --target for a toy target.")
    reader = "read_parquet" if is_parquet(path) else "read_csv"
    source = f"{reader}({quote_literal(str(path))})"
    try:
        with duckdb.connect() as connection:
            described = connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
            numeric = [name for name, kind, *_ in described if is_number_type(kind)]
            chosen = list(columns) or numeric
            if wrong := [name for name in chosen if name not in numeric]:
                raise SourceError(
                    f"Expected numeric columns of {path} ({', '.join(numeric) or 'it has none'}), got {wrong[0]!r}."
                )
            if not chosen:
                raise SourceError(f"Expected at least one numeric column in {path}, got none.")
            matrix, _ = fetch_matrix(connection, f"SELECT {quote_columns(chosen)} FROM {source}", {}, chosen)
    except duckdb.Error as error:
        raise SourceError(f"{path} cannot be read as CSV or Parquet: {first_line(error)}") from None
    return _split(path.name, chosen, matrix, rows, random_state)


def from_plant(config: PlantConfig, rows: int, *, random_state: int = 0) -> BenchmarkData:
    """Take the valid readings of a plant's training window, machine after machine, in the order of time.

    All segments together: the models that are compared know nothing of them.

    Raises:
        NotFittedError: No reading has been ingested yet.
        SourceError: Too few are left.

    """
    plant = Plant.open(config)
    missing = NotFittedError(
        f"Plant {config.plant.name} has no readings yet: run `pwflow run` first, or give a file or --target."
    )
    if not plant.warehouse.exists:
        raise missing
    with plant.warehouse.snapshot() as connection:
        tables = connection.execute("SELECT table_schema || '.' || table_name FROM information_schema.tables")
        if ("core.readings",) not in tables.fetchall():
            raise missing
        sensors = [sensor.name for sensor in read_source(connection).sensors]
        matrix, _ = fetch_matrix(
            connection,
            f"SELECT {quote_columns(sensors)} FROM ({select_training_rows(config.training)}) ORDER BY machine_id, ts",
            training_window(config.training),
            sensors,
        )
    return _split(config.plant.name, sensors, matrix, rows, random_state)


def _split(name: str, columns: Sequence[str], matrix: Array, rows: int, random_state: int) -> BenchmarkData:
    matrix = matrix[np.isfinite(matrix).all(axis=1)]
    if len(matrix) > rows:
        matrix = matrix[np.linspace(0, len(matrix) - 1, rows).round().astype(np.intp)]
    if len(matrix) < _FEWEST_ROWS:
        raise SourceError(
            f"Expected at least {_FEWEST_ROWS} complete rows in {name}, got {len(matrix)}: "
            "leave out columns with many missing values, or give more rows."
        )
    varies = np.ptp(matrix, axis=0) > 0
    if not varies.any():
        raise SourceError(f"Expected a column in {name} that changes, but all {len(columns)} are constant.")
    matrix = matrix[:, varies]
    held_out = held_out_blocks(len(matrix), _HELD_OUT, random_state + 1)
    starts = held_out & ~np.concatenate([[False], held_out[:-1]])
    block = np.cumsum(starts)[held_out].astype(np.intp)
    kept = tuple(column for column, keep in zip(columns, varies, strict=True) if keep)
    return BenchmarkData(name, kept, matrix[~held_out], matrix[held_out], block)


def _numbered(n: int) -> tuple[str, ...]:
    return tuple(f"x{i}" for i in range(1, n + 1))
