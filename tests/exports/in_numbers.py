"""Kinds that are about numbers."""

from __future__ import annotations

import math
from collections.abc import Callable

from tests.exports.export import Export, N, by, comma, measure, minutes, readings, spelled, table


def around_a_thousand(n: int = N, digits: tuple[int, ...] = (0, 0, 1)) -> list[tuple[float, ...]]:
    swing = [math.sin(i / 17) + math.sin(i * 12.9898) / 10 for i in range(n)]
    return [
        tuple(float(round(v, d)) for v, d in zip((1000 + 300 * x, 1200 - 450 * x, 995 + 40 * x), digits, strict=True))
        for x in swing
    ]


def grouped(value: float, digits: int, thousands: str, decimal: str) -> str:
    return f"{value:,.{digits}f}".translate(str.maketrans({",": thousands, ".": decimal}))


@spelled(
    ("\u00a0", ",", ";"),
    ("\u2009", ",", "\t"),
    (" ", ",", ";"),
    (" ", ".", ","),
)
def french_nbsp_thousands(thousands: str, decimal: str, delimiter: str) -> Export:
    times, values = minutes(), around_a_thousand()
    rows = [
        [by("%d/%m/%Y %H:%M:%S")(t), *(grouped(v, d, thousands, decimal) for v, d in zip(row, (0, 0, 1), strict=True))]
        for t, row in zip(times, values, strict=True)
    ]
    names = ("Débit (l/h)", "Vitesse (tr/min)", "Pression (mbar)")
    return Export({"a.csv": table(["Horodatage", *names], rows, delimiter)}, names, readings(times, values), n_raw=N)


@spelled(
    ("all_large", " ", ",", ";"),
    ("all_large", "\u202f", ".", ","),
    ("all_large", "'", ".", "\t"),
)
def all_numbers_grouped(_: str, thousands: str, decimal: str, delimiter: str) -> Export:
    """Every number has its thousands apart, so that no column shows a plain one."""
    times = minutes()
    values = [tuple(round(v * 1000 + 10_000, 1) for v in row) for row in measure()]
    rows = [
        [by("%Y-%m-%dT%H:%M:%SZ")(t), *(grouped(v, 1, thousands, decimal) for v in row)]
        for t, row in zip(times, values, strict=True)
    ]
    names = ("m1", "m2", "m3")
    return Export({"a.csv": table(["time", *names], rows, delimiter)}, names, readings(times, values), n_raw=N)


@spelled(
    (".", ",", ";", "Tempo;Velocità;Potenza;Livello"),
    ("'", ".", ";", "Zeit;Drehzahl;Leistung;Pegel"),
    (",", ".", "\t", "Time\tSpeed\tPower\tLevel"),
    ("’", ",", "|", "Zeit|Drehzahl|Leistung|Pegel"),
)
def german_thousands(thousands: str, decimal: str, delimiter: str, header: str) -> Export:
    times, values = minutes(), around_a_thousand()
    rows = [
        [by("%d.%m.%Y %H:%M:%S")(t), *(grouped(v, d, thousands, decimal) for v, d in zip(row, (0, 0, 1), strict=True))]
        for t, row in zip(times, values, strict=True)
    ]
    names = header.split(delimiter)
    return Export({"a.csv": table(names, rows, delimiter)}, tuple(names[1:]), readings(times, values), n_raw=N)


@spelled(
    (",", ",", True),
    (".", ";", False),
    (",", "\t", False),
)
def thousands_ints(thousands: str, delimiter: str, quote: bool) -> Export:
    times, values = minutes(), around_a_thousand(digits=(0, 0, 0))
    rows = [
        [by("%Y-%m-%d %H:%M:%S")(t), *(grouped(v, 0, thousands, "?") for v in row)]
        for t, row in zip(times, values, strict=True)
    ]
    names = ("rev", "load", "torque")
    return Export(
        {"a.csv": table(["Timestamp", *names], rows, delimiter, quote=quote)},
        names,
        readings(times, values),
        n_raw=N,
        says=("1014",),
    )


@spelled(
    ("{} kPa", "{} m³/h", "{}%", ".", ","),
    ("{}°C", "{} mbar", "{} U/min", ",", ";"),
    ("{}  Deg C", "{}\u00a0bar", "{} l/min", ".", "\t"),
)
def grafana_units_in_values(first: str, second: str, third: str, decimal: str, delimiter: str) -> Export:
    times, values = minutes(), measure()
    rows = [
        [
            by("%Y-%m-%d %H:%M:%S")(t),
            *(f.format(str(v).replace(".", decimal)) for f, v in zip((first, second, third), row, strict=True)),
        ]
        for t, row in zip(times, values, strict=True)
    ]
    names = ("Kessel", "Linie 2", "Ventil")
    units = tuple(f.format("").strip() for f in (first, second, third))
    return Export(
        {"a.csv": table(["Time", *names], rows, delimiter)}, names, readings(times, values), n_raw=N, units=units
    )


@spelled(
    (["NULL", "n/a", "--", "nil"], ["Bad Input"], ","),
    (["#NV", "-", "NaN", "N/A"], ["keine Daten"], ";"),
    (["", "none", "(null)", "#N/A"], ["I/O Timeout", "Pt Created"], "\t"),
    (["欠測", "---", "null", "NA"], [], ","),
)
def null_words(missing: list[str], refused: list[str], delimiter: str) -> Export:
    times, values = minutes(), measure()
    rows, found = [], []
    words = [*missing, *refused]
    n_refused = 0
    for i, (t, row) in enumerate(zip(times, values, strict=True)):
        cells = list(map(comma, row)) if delimiter == ";" else list(row)
        kept = list(row)
        if i % 9 == 4:
            word = words[i // 9 % len(words)]
            cells[i % 3], kept[i % 3] = word, None
            n_refused += word in refused or word == "欠測"
        rows.append([by("%Y-%m-%dT%H:%M:%SZ")(t), *cells])
        found.append(kept)
    return Export(
        {"a.csv": table(["time", "a", "b", "c"], rows, delimiter)},
        ("a", "b", "c"),
        readings(times, found),
        {"not_a_number": n_refused} if n_refused else {},
        n_raw=N,
    )


@spelled(
    ("-999.25", "65535", "."),
    ("1E+30", "-32768", "."),
    ("9999", "-1.7976931348623157E308", ","),
    ("-99999", "6553.5", ","),
)
def sentinels(first: str, second: str, decimal: str) -> Export:
    times, values = minutes(), measure()
    rows, found = [], []
    for i, (t, row) in enumerate(zip(times, values, strict=True)):
        cells, kept = [str(v) for v in row], list(row)
        for k, mark in ((0, first), (2, second)):
            if i % 13 == 5 + k:
                cells[k], kept[k] = mark, None
        rows.append([by("%Y-%m-%d %H:%M")(t), *(cell.replace(".", decimal) for cell in cells)])
        found.append(kept)
    return Export(
        {"a.csv": table(["time", "a", "b", "c"], rows, ";" if decimal == "," else ",")},
        ("a", "b", "c"),
        readings(times, found),
        n_raw=N,
        says=("missing value",),
    )


@spelled(
    (lambda v: f"{v * 1e-9:.6E}", ","),
    (lambda v: comma(f"{v * 1e-7:.4e}"), ";"),
    (lambda v: f"{v * 1e-6:.10f}", "\t"),
)
def small_numbers_in_sentence(spell: Callable[[float], str], delimiter: str) -> Export:
    times, values = minutes(), measure()
    cells = [[spell(v) for v in row] for row in values]
    rows = [[by("%Y-%m-%dT%H:%M:%SZ")(t), *row] for t, row in zip(times, cells, strict=True)]
    found = [[float(cell.replace(",", ".")) for cell in row] for row in cells]
    names = ("leak", "strain", "drift")
    return Export({"a.csv": table(["time", *names], rows, delimiter)}, names, readings(times, found), n_raw=N)


@spelled(
    ("Temp (°C)", "Press [bar]", "flow_l_min", ("°C", "bar", "l/min")),
    ("温度(℃)", "圧力(MPa)", "流量(L/min)", ("℃", "MPa", "L/min")),
    ("Kessel in °C", "Druck / mbar", "Durchfluss, m³/h", ("°C", "mbar", "m³/h")),
    ("T_degC", "P.kPa", "Flow m3/h", ("°C", "kPa", "m³/h")),
)
def default_features_small_file(*dress: object) -> Export:
    *names, units = dress
    times, values = minutes(), measure()
    rows = [[by("%Y-%m-%dT%H:%M:%SZ")(t), *row] for t, row in zip(times, values, strict=True)]
    return Export({"a.csv": table(["time", *names], rows)}, tuple(names), readings(times, values), n_raw=N, units=units)
