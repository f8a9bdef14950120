"""Kinds with a row per value, or with a part of a reading in each row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

import numpy as np

from tests.exports.export import START, Export, N, by, comma, measure, minutes, readings, spelled, table
from tests.exports.in_times import micros

TAGS = ("boiler.T", "boiler.P", "boiler.F")


def long(
    header: Sequence[str],
    row: Callable[[str, str, float], Sequence[object]],
    format: str,
    *,
    tags: Sequence[str] = TAGS,
    delimiter: str = ",",
    by_tag: bool = False,
    quote: bool = False,
    end: str = "\n",
) -> str:
    spell = by(format)
    cells = [
        row(spell(t), tag, v)
        for t, values in zip(minutes(), measure(), strict=True)
        for tag, v in zip(tags, values, strict=True)
    ]
    if by_tag:
        cells = [cell for k in range(len(tags)) for cell in cells[k :: len(tags)]]
    return table(header, cells, delimiter, quote=quote, end=end)


def complete(tags: Sequence[str] = TAGS, **known: object) -> dict:
    return {"sensors": tuple(tags), "rows": readings(minutes(), measure()), "n_raw": N, **known}


@spelled(
    ("Metric", "Timestamp", "Mean", "%Y-%m-%dT%H:%M:%S+00:00", ",", "."),
    ("Reihe", "Zeit", "Wert", "%d.%m.%Y %H:%M:%S", ";", ","),
    ("系列", "時刻", "値", "%Y/%m/%d %H:%M:%S", "\t", "."),
    ("target", "datetime", "Value", "%m/%d/%Y %H:%M:%S", "|", "."),
)
def grafana_series_rows(tag: str, time: str, value: str, format: str, delimiter: str, decimal: str) -> Export:
    text = long(
        [tag, time, value],
        lambda t, n, v: [n, t, str(v).replace(".", decimal)],
        format,
        delimiter=delimiter,
        by_tag=True,
        quote=True,
    )
    return Export({"a.csv": text}, **complete())


@spelled(
    ("_TIMESTAMP", "_NAME", "_VALUE", "_QUALITY", 192, 0),
    ("SourceTimestamp", "NodeId", "Value", "StatusCode", "Good", "BadSensorFailure"),
    ("ts", "ItemName", "val", "q", 192, 24),
    ("ts", "tag", "v", "q", 0, 2),
    ("zeit", "signal", "wert", "guete", "gut", "schlecht"),
    ("Time", "Point", "Reading", "Status", "OK", "Bad"),
)
def kepware_narrow(time: str, tag: str, value: str, quality: str, good: object, bad: object) -> Export:
    tags = ("ns=2;s=L1.T", "ns=2;s=L1.P", "ns=2;s=L1.F") if tag == "NodeId" else ("Ch1.PLC.T", "Ch1.PLC.P", "Ch1.PLC.F")
    values = measure()
    rows, kept, n = [], [list(row) for row in values], 0
    for i, t in enumerate(minutes()):
        for k, name in enumerate(tags):
            is_bad = k == 2 and i % 10 == 3
            if is_bad:
                kept[i][k] = None
            n += 1
            rows.append(
                [n, name, k, 0 if is_bad else values[i][k], by("%Y-%m-%d %H:%M:%S.000")(t), bad if is_bad else good]
            )
    return Export(
        {"a.csv": table(["id", tag, "_NUMERICID", value, time, quality], rows)},
        tags,
        readings(minutes(), kept),
        {"bad_quality": 12},
        n_raw=N,
    )


@spelled(
    ("asset", "property", "when", "value", ","),
    ("Anlage", "Messstelle", "Zeitpunkt", "Messwert", ";"),
    ("設備", "タグ", "日時", "計測値", "\t"),
    ("site", "param", "dt", "v", "|"),
    ("plant_area", "loop", "dt", "pv", ","),
)
def long_with_asset_advice(machine: str, tag: str, time: str, value: str, delimiter: str) -> Export:
    machines = ("K-1", "K-2", "K-3")
    rows, expected = [], []
    for number, name in enumerate(machines):
        values = measure(seed=number)
        expected += readings(minutes(), values, name)
    for i, t in enumerate(minutes()):
        for number, name in enumerate(machines):
            for k, sensor in enumerate(("T", "P", "F")):
                v = expected[number * N + i][2][k]
                rows.append([name, sensor, by("%Y-%m-%d %H:%M:%S")(t), comma(v) if delimiter == ";" else v])
    return Export(
        {"a.csv": table([machine, tag, time, value], rows, delimiter)}, ("T", "P", "F"), expected, n_raw=3 * N
    )


@spelled(
    (
        "_field",
        "_value",
        "%Y-%m-%dT%H:%M:%SZ",
        [
            "#datatype,string,long,dateTime:RFC3339,double,string,string",
            "#group,false,false,false,false,true,true",
            "#default,_result,,,,,",
        ],
        ["", "result", "table"],
        "boiler",
    ),
    (
        "_measurement",
        "_value",
        "%Y-%m-%dT%H:%M:%S.000000000Z",
        [
            "#group,false,false,false,false,true,true",
            "#datatype,string,long,dateTime:RFC3339Nano,double,string,string",
            "#default,mean,,,,,",
        ],
        ["", "result", "table"],
        "value",
    ),
    ("sensor", "reading", "%Y-%m-%d %H:%M:%S", ["# exported by x", "# 3 series"], ["n", "m", "o"], "hall"),
)
def influx_annotated(tag: str, value: str, format: str, above: list[str], first: list[str], other: str) -> Export:
    beside = "_field" if tag == "_measurement" else "_measurement"
    text = long(
        [*first, "_time", value, tag, beside],
        lambda t, n, v: ["", "", TAGS.index(n), t, v, n, other],
        format,
        by_tag=True,
        end="\r\n",
    )
    return Export({"a.csv": "\r\n".join(above) + "\r\n" + text}, **complete())


@spelled(
    ("propertyAlias", "timeInSeconds", "offsetInNanos", "doubleValue", "quality", ","),
    ("TAG", "TS_SECONDS", "NANOSECONDS", "VAL", "QUALITY", "\t"),
    ("asset_property", "epoch", "nanos", "value", "quality", ";"),
)
def sitewise_long(tag: str, seconds: str, nanos: str, value: str, quality: str, delimiter: str) -> Export:
    times = [START + timedelta(seconds=i, milliseconds=250 * (i % 4)) for i in range(N)]
    rows = [
        [name, "DOUBLE", micros(t) // 10**6, t.microsecond * 1000, "GOOD", v]
        for t, values in zip(times, measure(), strict=True)
        for name, v in zip(TAGS, values, strict=True)
    ]
    return Export(
        {"a.csv": table([tag, "data_type", seconds, nanos, quality, value], rows, delimiter)},
        TAGS,
        readings(times, measure()),
        n_raw=N,
    )


@spelled(
    ("VarName", "TimeString", "VarValue", "Validity", "Time_ms", "%d.%m.%Y %H:%M:%S", ";"),
    ("VarName", "TimeString", "VarValue", "Validity", "Time_ms", "%Y-%m-%d %H:%M:%S", ","),
    ("TagName", "Time", "Value", "Valid", "Time_ms", "%m/%d/%Y %I:%M:%S %p", "\t"),
)
def wincc_long(tag: str, time: str, value: str, validity: str, beside: str, format: str, delimiter: str) -> Export:
    values = measure()
    mark = comma if delimiter == ";" else str
    rows = []
    for i, t in enumerate(minutes()):
        milli = mark(f"{(t - START) / timedelta(days=1) * 1e6 + 46082e6:.6f}")
        rows += [[name, t.strftime(format), mark(v), 1, milli] for name, v in zip(TAGS, values[i], strict=True)]
        if i % 60 == 30:
            rows.append(["$RT_OFF$", t.strftime(format), 0, 2, milli])
    rows.append(["$RT_COUNT$", len(rows), 0, 0, 0])
    return Export(
        {"a.csv": table([tag, time, value, validity, beside], rows, delimiter, quote=delimiter == ";", end="\r\n")},
        **complete(),
    )


@spelled(
    ("DateTime", "TagName", "Value", "Quality", "QualityDetail", "OPCQuality", (0, 192, 192), (1, 24, 0)),
    ("Timestamp", "Tag", "vValue", "Quality", "QualityDetail", "opc_quality", (0, 192, 192), (133, 65536, 4)),
    ("ts", "Point ID", "Val", "quality", "quality_detail", "quality_opc", ("Good", 192, 192), ("Bad", 8, 8)),
)
def wonderware_long(time: str, tag: str, value: str, q1: str, q2: str, q3: str, good: tuple, bad: tuple) -> Export:
    values = measure()
    kept, rows = [list(row) for row in values], []
    for i, t in enumerate(minutes()):
        for k, name in enumerate(TAGS):
            is_bad = k == 1 and i % 20 == 7
            if is_bad:
                kept[i][k] = None
            rows.append(
                [by("%Y-%m-%d %H:%M:%S.000")(t), name, 0 if is_bad else values[i][k], *(bad if is_bad else good)]
            )
    return Export(
        {"a.csv": table([time, tag, value, q1, q2, q3], rows)},
        TAGS,
        readings(minutes(), kept),
        {"bad_quality": 6},
        n_raw=N,
    )


@spelled(
    ("tagid", ("intvalue", "floatvalue"), "dataintegrity", 192, 500),
    ("tag_id", ("DoubleValue", "IntValue"), "quality", 192, 0),
    ("pointid", ("NumericValue", "RealValue"), "dataintegrity", 192, 256),
)
def numbers_by_type(tag: str, names: tuple[str, str], quality: str, good: int, bad: int) -> Export:
    """Historians that keep whole numbers and fractions in columns of their own, and sensors by their number."""
    values = measure()
    kept, rows = [list(row) for row in values], []
    for i, t in enumerate(minutes()):
        for k in range(3):
            is_bad = k == 2 and i % 20 == 7
            kept[i][k] = None if is_bad else round(values[i][k]) if k == 2 else values[i][k]
            cell = [round(values[i][k]) if k == 2 else None, None if k == 2 else values[i][k]]
            rows.append([k + 1, *cell, None, bad if is_bad else good, micros(t) // 1000])
    return Export(
        {"a.csv": table([tag, *names, "stringvalue", quality, "t_stamp"], rows)},
        ("1", "2", "3"),
        readings(minutes(), kept),
        {"bad_quality": 6},
        n_raw=N,
    )


@spelled(
    (["Running", "Stopped"], ","),
    (["Ein", "Aus"], ";"),
    (["AUTO", "MANUAL", "LOCAL"], "\t"),
)
def a_tag_with_states(states: list[str], delimiter: str) -> Export:
    """A tag whose values are text never becomes a sensor or a machine."""
    values = measure()
    rows = []
    for i, t in enumerate(minutes()):
        cells = [*zip(TAGS, values[i], strict=True), ("boiler.mode", states[i // 10 % len(states)])]
        rows += [[name, by("%Y-%m-%d %H:%M:%S")(t), comma(v) if delimiter == ";" else v] for name, v in cells]
    return Export(
        {"a.csv": table(["tag", "time", "value"], rows, delimiter)}, **complete(says=("'boiler.mode'.*is text",))
    )


@spelled(("unit", "°C", "°F", ","), ("Einheit", "bar", "mbar", ";"), ("EngUnits", "W", "kW", "\t"))
def a_tag_with_two_units(name: str, first: str, second: str, delimiter: str) -> Export:
    """A tag whose values are in several units is left out; the others get their unit from the column."""
    rows = [
        [
            tag,
            by("%Y-%m-%d %H:%M:%S")(t),
            comma(v) if delimiter == ";" else v,
            second if tag == "b" and i > 60 else first,
        ]
        for i, (t, values) in enumerate(zip(minutes(), measure(), strict=True))
        for tag, v in zip("abc", values, strict=True)
    ]
    found = [(a, c) for a, _, c in measure()]
    return Export(
        {"a.csv": table(["tag", "time", "value", name], rows, delimiter)},
        ("a", "c"),
        readings(minutes(), found),
        n_raw=N,
        units=(first, first),
        says=("'b'.*several units",),
    )


@spelled(("NULL", ","), ("", ";"), ("-", "\t"))
def partial_rows_same_time(word: str, delimiter: str) -> Export:
    mark = comma if delimiter == ";" else str
    rows = [
        [by("%d.%m.%Y %H:%M:%S")(t), *(mark(v) if k == j else word for j, v in enumerate(row))]
        for t, row in zip(minutes(), measure(), strict=True)
        for k in range(3)
    ]
    return Export(
        {"a.csv": table(["Zeit", "a", "b", "c"], rows, delimiter)},
        ("a", "b", "c"),
        readings(minutes(), measure()),
        n_raw=3 * N,
    )


@spelled(("%Y-%m-%dT%H:%M:%S.%fZ", "", ","), ("%d.%m.%Y %H:%M:%S,%f", "", ";"), ("%m/%d/%Y %H:%M:%S.%f", "NaN", "\t"))
def event_driven_wide(format: str, word: str, delimiter: str) -> Export:
    rng = np.random.default_rng(9)
    found: dict = {}
    for k, rhythm in enumerate((40, 70, 55)):
        for t in np.cumsum(rng.uniform(0.5 * rhythm, 1.5 * rhythm, 100)).round(3):
            found.setdefault(START + timedelta(seconds=float(t)), [None] * 3)[k] = round(float(rng.normal(50, 1)), 3)
    found = dict(sorted(found.items()))
    mark = comma if delimiter == ";" else str
    rows = [[t.strftime(format), *(word if v is None else mark(v) for v in row)] for t, row in found.items()]
    return Export(
        {"a.csv": table(["Timestamp", "a", "b", "c"], rows, delimiter)},
        ("a", "b", "c"),
        readings(found, found.values()),
        n_raw=len(found),
        says=("hold_seconds",),
    )
