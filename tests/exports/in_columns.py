"""Kinds that are about what a column is: angles, counters, states, qualities."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from tests.exports.export import Export, N, by, comma, measure, minutes, readings, spelled, table

HEAD = ("a", "b", "c")


def with_column(
    name: str,
    cells: Sequence[object],
    *,
    delimiter: str = ",",
    format: str = "%Y-%m-%dT%H:%M:%SZ",
    newest: bool = False,
) -> str:
    n = len(cells)
    rows = [
        [by(format)(t), *(map(comma, row) if delimiter == ";" else row), cell]
        for t, row, cell in zip(minutes(n), measure(n), cells, strict=True)
    ]
    return table(["time", *HEAD, name], rows[::-1] if newest else rows, delimiter)


@spelled(
    ("Windrichtung [°]", 360.0, 0.0, ";"),
    ("heading_deg", 360.0, -180.0, ","),
    ("yaw (rad)", math.tau, -math.pi, "\t"),
    ("azimuth_gon", 400.0, 0.0, ","),
    ("方位", 360.0, 0.0, ","),
)
def angle_wrap(name: str, turn: float, low: float, delimiter: str) -> Export:
    rng = np.random.default_rng(3)
    around = 0.0 if low == 0 else turn / 2
    angles = [round(float(x), 4) for x in (rng.normal(around, turn / 70, 300) - low) % turn + low]
    cells = [comma(x) if delimiter == ";" else x for x in angles]
    values = [(*row, x) for row, x in zip(measure(300), angles, strict=True)]
    return Export(
        {"a.csv": with_column(name, cells, delimiter=delimiter)},
        (*HEAD, name),
        readings(minutes(300), values),
        n_raw=300,
        circles={name: turn},
    )


@spelled(
    ("Impulse", 2**16, 457, 0, 0),
    ("PulseCount", 2**32, 77_777_777, 0, 0),
    ("hits", 10_000, 131, 0, 1),
    ("energy_kwh", 1000.0, 11.1, 1, 0),
    ("Zähler", 4096, 53, 0, 0),
)
def counter_wrap(name: str, turn: float, step: float, digits: int, low: int) -> Export:
    rng = np.random.default_rng(4)
    total = np.cumsum(rng.uniform(0.5 * step, 1.5 * step, 300))
    cells = [f"{x:.{digits}f}" for x in (total % turn + low)]
    return Export(
        {"a.csv": with_column(name, cells)},
        HEAD,
        readings(minutes(300), measure(300)),
        n_raw=300,
        says=(f"'{name}'.*counts up and begins again",),
    )


@spelled(
    ("energy_kwh", 0.4, 1),
    ("Gesamtmenge m3", 3.0, 0),
    ("積算流量", 12.5, 2),
)
def newest_first_totaliser(name: str, step: float, digits: int) -> Export:
    rng = np.random.default_rng(5)
    total = 48_000 + np.cumsum(rng.uniform(0, 2 * step, 300))
    cells = [f"{x:.{digits}f}" for x in total]
    return Export(
        {"a.csv": with_column(name, cells, newest=True, format="%Y/%m/%d %H:%M")},
        HEAD,
        readings(minutes(300), measure(300)),
        n_raw=300,
        says=("newest reading comes first", f"'{name}'.*(never goes down|counts up)"),
    )


@spelled(
    ("motor", ("Ein", "Aus"), ";"),
    ("kiln", ("HEATING", "HOLD", "COOLING"), ","),
    ("ポンプ", ("運転", "停止"), "\t"),
    ("compressor", ("Loaded", "Unloaded"), "|"),
)
def state_named_pump(name: str, states: tuple[str, ...], delimiter: str) -> Export:
    cells = [states[i // 25 % len(states)] for i in range(300)]
    return Export(
        {"a.csv": with_column(name, cells, delimiter=delimiter)},
        HEAD,
        readings(minutes(300), measure(300)),
        n_raw=300,
        segments=frozenset(states),
        says=(f"'{name}' is a process condition",),
    )


@spelled(
    ("{}_quality", "GOOD", "BAD", ","),
    ("{} Güte", "gut", "schlecht", ";"),
    ("{}_q", 0, 2, ","),
    ("Qualité {}", "Bonne", "Mauvaise", "\t"),
    ("{}_Status", "OK", "Fail", "|"),
    ("{}_q", 192, 24, ","),
)
def quality_columns(name: str, good: object, bad: object, delimiter: str) -> Export:
    times, values = minutes(), measure()
    header = ["time", *(text for tag in HEAD for text in (tag, name.format(tag)))]
    rows, found, n_bad = [], [], 0
    for i, (t, row) in enumerate(zip(times, values, strict=True)):
        cells, kept = [], list(row)
        for k, value in enumerate(row):
            is_bad = i % 11 == k
            cells += [0 if is_bad else comma(value) if delimiter == ";" else value, bad if is_bad else good]
            kept[k] = None if is_bad else value
            n_bad += is_bad
        rows.append([by("%Y-%m-%d %H:%M:%S")(t), *cells])
        found.append(kept)
    return Export(
        {"a.csv": table(header, rows, delimiter)}, HEAD, readings(times, found), {"bad_quality": n_bad}, n_raw=N
    )


@spelled(
    ("spark", lambda i: 0 if i % 10 else 3 + i % 7 / 10),
    ("Vibration", lambda i: "0,0" if i % 9 else comma(2.5 + i % 5 / 10)),
    ("reject_rate", lambda i: "0.00" if i % 12 else f"{1 + i / 300:.2f}"),
)
def zero_inflated(name: str, cell: Callable[[int], object]) -> Export:
    cells = [cell(i) for i in range(300)]
    delimiter = ";" if any("," in str(c) for c in cells) else ","
    values = [(*row, float(str(c).replace(",", "."))) for row, c in zip(measure(300), cells, strict=True)]
    return Export(
        {"a.csv": with_column(name, cells, delimiter=delimiter)},
        (*HEAD, name),
        readings(minutes(300), values),
        n_raw=300,
    )


@spelled(("",), ("NaN",), ("-",))
def sensor_dead_last_nights(word: str) -> Export:
    rows = [list(row) for row in measure(300)]
    kept = [tuple(row if i < 200 else (*row[:2], None)) for i, row in enumerate(rows)]
    cells = [
        [by("%d-%b-%y %H:%M:%S")(t), *(word if v is None else v for v in row)]
        for t, row in zip(minutes(300), kept, strict=True)
    ]
    return Export({"a.csv": table(["Timestamp", *HEAD], cells)}, HEAD, readings(minutes(300), kept), n_raw=300)
