"""`pwflow check`: a look at the data behind a `pwflow.toml`, without learning."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pwflow_core.demo import configuration_in_force
from pwflow_dagster.cli.options import config_option, json_option
from pwflow_dagster.cli.printing import echo_json, wrap_text
from pwflow_dagster.cli.progress import shown_progress
from pwflow_dagster.cli.tables import Column, fit_table

if TYPE_CHECKING:
    from pwflow_core.pipeline.looking.data.machines import MachineProfile
    from pwflow_core.pipeline.looking.data.sensors import SensorProfile
    from pwflow_core.pipeline.using.checking import DataCheck, LeftOut
    from pwflow_core.reporting.texts import Texts

__all__ = ["COMMANDS"]

_MOST_ROWS = 40
_INDENT = 2


@click.command()
@config_option
@json_option
def check(config_file: Path | None, as_json: bool) -> None:
    """Look at the data, without learning: rows, machines, sensors.

    It reads the files as `pwflow run` would, into a temporary warehouse, and says what is refused, how often readings
    come, what each sensor reads, and what to look at first, with what to write in pwflow.toml. Times are UTC.
    """
    from pwflow_core.pipeline.using.checking import check_data
    from pwflow_core.plant import Plant
    from pwflow_core.reporting.doubts import say_doubt
    from pwflow_core.reporting.texts import Texts

    config = configuration_in_force(config_file)
    with shown_progress():
        found = check_data(Plant.open(config))
    texts = Texts("en")
    said = [say_doubt(doubt, texts) for doubt in found.doubts]
    if as_json:
        look_at = [
            {
                "kind": doubt.kind,
                "about": doubt.about,
                "reason": doubt.reason,
                "what": words.what,
                "next": words.next_step,
            }
            for doubt, words in zip(found.doubts, said, strict=True)
        ]
        echo_json(
            {
                "plant": config.plant.name,
                "data": found.data,
                "left_out": found.left_out,
                "look_at": look_at,
            }
        )
        return
    width = shutil.get_terminal_size().columns
    lines = [f"Plant {config.plant.name}", *_describe(found, texts, width)]
    if said:
        lines += ["", "Look at these, the most doubtful first:"]
        for number, words in enumerate(said[:_MOST_ROWS], start=1):
            lines += [*_fold(f"{number:3}  {words.what}", width), *_fold(f"     next: {words.next_step}", width)]
        lines += _more(len(said), "  ")
    else:
        lines += ["", "Nothing doubtful was found. Next: `pwflow run`"]
    click.echo("\n".join(lines))


COMMANDS = (check,)


def _describe(found: DataCheck, texts: Texts, width: int) -> Iterator[str]:
    data = found.data
    yield from _fold(
        f"  rows      {data.n_rows:,} in {data.n_files - len(data.refused_files):,} of {data.n_files:,} files, "
        f"{data.n_refused_rows:,} refused; {data.n_readings:,} readings: "
        + (", ".join(f"{count:,} {quality}" for quality, count in data.by_quality.items()) or "none"),
        width,
    )
    if data.rejections:
        yield "\nRefused"
        rows = data.rejections[:_MOST_ROWS]
        yield from fit_table(
            [
                Column("reason", [texts.label("rejected", row.reason) for row in rows]),
                Column("sensor", [row.sensor or texts("quality.whole_row") for row in rows], shrinks=True),
                Column("count", [f"{row.n_values:,}" for row in rows], is_number=True),
                Column("example", [row.example or "" for row in rows], shrinks=True),
            ],
            width,
            _INDENT,
        )
        yield from _more(len(data.rejections), "  ")
    yield "\nMachines"
    yield from _machines(data.machines, texts, width)
    yield "\nSensors"
    yield from _sensors(data.sensors, texts, width)
    if found.left_out:
        yield "\nNot read by a run"
        yield from _left_out(found.left_out, texts, width)


def _left_out(columns: Sequence[LeftOut], texts: Texts, width: int) -> Iterator[str]:
    rows = columns[:_MOST_ROWS]
    seen = [(row.seen, "" if row.seen is None else texts.label("sensor_kind", row.seen.kind)) for row in rows]
    yield from fit_table(
        [
            Column("column", [row.column for row in rows], shrinks=True),
            Column("kind", [kind for _, kind in seen], rank=2),
            Column("lowest", [_figure(one.lowest) if one else "" for one, _ in seen], is_number=True, rank=1),
            Column("highest", [_figure(one.highest) if one else "" for one, _ in seen], is_number=True, rank=1),
            Column("changes", [_count(one.n_changes) if one else "" for one, _ in seen], is_number=True, rank=3),
            Column("why, by a sample", [row.reason for row in rows], shrinks=True),
        ],
        width,
        _INDENT,
    )
    yield from _more(len(columns), "  ")


def _machines(machines: Sequence[MachineProfile], texts: Texts, width: int) -> Iterator[str]:
    from pwflow_core.reporting.doubts import say_interval

    rows = sorted(machines, key=lambda machine: -len(machine.gap_days))[:_MOST_ROWS]
    rows = sorted(rows, key=lambda machine: machine.machine_id)
    yield from fit_table(
        [
            Column("machine", [row.machine_id for row in rows], shrinks=True),
            Column("readings", [f"{row.n_readings:,}" for row in rows], is_number=True),
            Column("from", [_moment(row.first) for row in rows], rank=2),
            Column("to", [_moment(row.last) for row in rows], rank=1),
            Column("every", [say_interval(row.interval_seconds, texts) for row in rows], is_number=True),
            Column("gaps", [f"{row.n_gaps:,}" for row in rows], is_number=True),
            Column("longest", [_longest(row, texts) for row in rows], is_number=True, rank=3),
            Column(
                "days with gaps", [f"{len(row.gap_days):,} of {row.n_days:,}" for row in rows], is_number=True, rank=1
            ),
        ],
        width,
        _INDENT,
    )
    yield from _more(len(machines), "  ")


def _longest(machine: MachineProfile, texts: Texts) -> str:
    return "" if machine.longest_gap_seconds is None else texts.duration(machine.longest_gap_seconds)


def _sensors(sensors: Sequence[SensorProfile], texts: Texts, width: int) -> Iterator[str]:
    from pwflow_core.reporting.doubts import say_interval

    rows = sensors[:_MOST_ROWS]
    yield from fit_table(
        [
            Column("sensor", [row.sensor for row in rows], shrinks=True),
            Column("unit", [row.unit for row in rows], rank=2),
            Column("kind", [texts.label("sensor_kind", row.kind) for row in rows]),
            Column("lowest", [_figure(row.lowest) for row in rows], is_number=True),
            Column("median", [_figure(row.median) for row in rows], is_number=True, rank=1),
            Column("highest", [_figure(row.highest) for row in rows], is_number=True),
            Column("missing", [texts.percent(row.share_missing) for row in rows], is_number=True),
            Column("step", ["" if row.step is None else f"{row.step:g}" for row in rows], is_number=True, rank=3),
            Column("every", [say_interval(row.interval_seconds, texts) for row in rows], is_number=True, rank=4),
            Column("changes", [_count(row.n_changes) for row in rows], is_number=True, rank=5),
        ],
        width,
        _INDENT,
    )
    yield from _more(len(sensors), "  ")


def _more(n_all: int, indent: str) -> list[str]:
    return [f"{indent}and {n_all - _MOST_ROWS} more: `pwflow check --json`"] if n_all > _MOST_ROWS else []


def _fold(line: str, width: int) -> list[str]:
    return wrap_text(line, width).split("\n")


def _moment(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M}"


def _figure(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value == int(value) and abs(value) < 1e9 else f"{value:.4g}"


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"
