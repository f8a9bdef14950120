"""The section of `pwflow.toml` that says what a computation may use, and how Dagster spreads it."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field

from pwflow_core.config.base import Section

__all__ = ["ComputeConfig"]


class ComputeConfig(Section):
    """What the computation may use, and where."""

    threads: Annotated[int, Field(ge=1)] = 1
    """Threads for training and scoring."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where flows are trained; `auto` takes a GPU if there is one. Scores are computed on the CPU, and are the same
    wherever a flow was trained."""
    memory_limit: Annotated[str, Field(pattern=r"^\d+(\.\d+)?\s*(KB|MB|GB|KiB|MiB|GiB)$")] = "1GiB"
    """Memory for DuckDB; what does not fit is spilled to disk."""
    chunk_rows: Annotated[int, Field(ge=1_000)] = 100_000
    """Readings scored at a time."""
    scratch: str | None = None
    """Folder for files on their way and for what does not fit into memory, on a disk of the machine that computes; by
    default that of the warehouse."""
    executor: Literal["in_process", "multiprocess"] = "in_process"
    """Where Dagster executes the steps of a run: in its process, or in one process for each, see
    [several machines](../how-to/several-machines.md)."""
    regimes_per_run: Annotated[int, Field(ge=1)] | None = None
    """Regimes that one run trains where Dagster launches runs; more regimes are trained by several runs at once. By
    default one run trains all."""

    @property
    def memory_bytes(self) -> int:
        """The memory limit in bytes."""
        number, unit = re.fullmatch(r"([\d.]+)\s*(\w+)", self.memory_limit).groups()  # type: ignore[union-attr]
        base = 1024 if "i" in unit else 1000
        return int(float(number) * base ** ("KMG".index(unit[0]) + 1))
