"""Small exports as plants make them, written fresh for every test."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import pytest

START = datetime(2024, 2, 1, 10)  # noqa: DTZ001 - exports carry no zone


def _wave(i: int, period: float = 37.0) -> float:
    return math.sin(i / period) + math.sin(i * 12.9898) * 0.1


@pytest.fixture
def wave() -> Callable[..., float]:
    """Return a function of the row number that goes up and down and does not repeat."""
    return _wave


@pytest.fixture
def write_csv(tmp_path: Path) -> Callable[..., Path]:
    """Write a CSV file: its header and a function from the row number and time to the rest of the line."""

    def write(
        name: str,
        header: str,
        line: Callable[[int, datetime], str],
        *,
        n: int = 300,
        step: timedelta = timedelta(minutes=1),
        encoding: str = "utf-8",
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [header, *(line(i, START + i * step) for i in range(n))]
        path.write_text("\n".join(lines) + "\n", encoding=encoding)
        return path

    return write


@pytest.fixture
def plain_csv(write_csv: Callable[..., Path]) -> Path:
    return write_csv("plain.csv", "ts,a,b", lambda i, t: f"{t},{_wave(i):.4f},{_wave(i, 11):.4f}")


@pytest.fixture
def write_parquet(tmp_path: Path) -> Callable[..., Path]:
    """Write a Parquet file from a query over `i`, the row number."""

    def write(name: str, select: str, n: int = 300) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with duckdb.connect(":memory:") as connection:
            connection.execute(f"COPY (SELECT {select} FROM range({n}) AS rows(i)) TO '{path}' (FORMAT parquet)")
        return path

    return write
