"""Show the results of a comparison."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from pwflow_core.benchmarking.data import BenchmarkData
from pwflow_core.benchmarking.models import MODEL_TITLES
from pwflow_core.benchmarking.running import BenchmarkResult
from pwflow_core.errors import ConfigurationError

__all__ = ["render_table", "write_csv"]


def render_table(data: BenchmarkData, results: Sequence[BenchmarkResult]) -> str:
    """Return the results as a table for reading, with what its columns mean below."""
    columns = {
        "model": [MODEL_TITLES[r.model] for r in results],
        "held-out nats": [_with_error(r.held_out, r.held_out_error, r.non_finite) for r in results],
        "true KL": [_with_error(r.kl, r.kl_error, 0) for r in results],
        "bridge": [_show(r.bridge_mass, ".2%") for r in results],
        "train CPU s": [_show(r.train_cpu_seconds, ".1f") for r in results],
        "peak MB (fit)": [_memory(r) for r in results],
        "rows/s": [_show(r.rows_per_second, ",.0f") for r in results],
        "s to single's": [_show(r.seconds_to_reach, ".1f") for r in results],
        "parameters": [_show(r.n_parameters, ",d") for r in results],
    }
    if not data.target:
        del columns["true KL"]
    widths = {title: max(map(len, [title, *cells])) for title, cells in columns.items()}
    lines = ["  ".join(_pad(title, title, widths) for title in columns)]
    lines += ["  ".join(_pad(title, cells[i], widths) for title, cells in columns.items()) for i in range(len(results))]
    lines += [f"{MODEL_TITLES[r.model]} failed: {r.error}" for r in results if r.error]
    return "\n".join([*lines, "", *_legend(data)])


def write_csv(path: Path, data: BenchmarkData, results: Sequence[BenchmarkResult]) -> None:
    """Write the results, every figure in full, one model per line.

    Raises:
        ConfigurationError: The file cannot be written.

    """
    names = [field.name for field in fields(BenchmarkResult)]
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["data", "train_rows", "test_rows", "n_features", *names])
            writer.writeheader()
            head = {
                "data": data.name,
                "train_rows": len(data.train),
                "test_rows": len(data.test),
                "n_features": len(data.columns),
            }
            writer.writerows(head | asdict(result) for result in results)
    except OSError as error:
        raise ConfigurationError(f"The table cannot be written to {path}: {error.strerror}.") from None


def _legend(data: BenchmarkData) -> list[str]:
    bridge = (
        "bridge: share of drawn points less probable under the target than all but 0.1% of its own, less that 0.1%."
        if data.target
        else "bridge: share of drawn points farther from any training row than all but 1% of held-out rows, less "
        "that 1%."
    )
    return [
        f"{data.name}: {len(data.train):,} training and {len(data.test):,} held-out rows, "
        f"{len(data.columns)} columns. One thread, one process per model; ± is one standard error.",
        bridge,
        "peak MB: most memory of the process; in brackets what fitting added to Python, libraries and data.",
        "s to single's: CPU seconds of the shortest training that reaches the single flow's held-out nats.",
    ]


def _with_error(value: float | None, error: float | None, non_finite: int | None) -> str:
    if value is None or error is None:
        return "–"
    return f"{value:.3f} ± {error:.3f}" + (f" ({non_finite} not finite)" if non_finite else "")


def _memory(result: BenchmarkResult) -> str:
    if result.peak_memory_mb is None or result.memory_before_mb is None:
        return "–"
    return f"{result.peak_memory_mb:,.0f} ({result.peak_memory_mb - result.memory_before_mb:+,.0f})"


def _show(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _pad(title: str, cell: str, widths: dict[str, int]) -> str:
    return cell.ljust(widths[title]) if title == "model" else cell.rjust(widths[title])
