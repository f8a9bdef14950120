"""Kinds that are about times."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from tests.exports.export import START, Export, N, by, comma, measure, minutes, readings, spelled, table


@spelled(("LocalTime", "UTC Time", 9, ","), ("Ortszeit", "utc", 1, ";"), ("time", "time_gmt", -5, "\t"))
def two_clocks(other: str, name: str, hours: float, delimiter: str) -> Export:
    """Of two times the one in UTC is taken where nobody says a zone."""
    format = "%Y-%m-%d %H:%M:%S"
    rows = [[by(format, hours)(t), t.strftime(format), *v] for t, v in zip(minutes(), measure(), strict=True)]
    return Export(
        {"a.csv": table([other, name, "a", "b", "c"], rows, delimiter)},
        ("a", "b", "c"),
        readings(minutes(), measure()),
        n_raw=N,
        options={"timezone": None},
    )


@spelled(
    ("Date,Time,Millitm", "%m/%d/%Y,%H:%M:%S", ","),
    ("timestamp;ms", "%d.%m.%Y %H:%M:%S", ";"),
    ("Datum;Uhrzeit;Millisekunden", "%d.%m.%Y;%H:%M:%S", ";"),
    ("ts,msec", "unix_s", ","),
)
def milliseconds_in_a_column(header: str, format: str, delimiter: str) -> Export:
    times = [t + timedelta(milliseconds=7 * i % 1000) for i, t in enumerate(minutes(step=1 / 120))]
    values = measure()
    rows = [
        [
            *(str(int(t.replace(tzinfo=UTC).timestamp())) if format == "unix_s" else t.strftime(format)).split(
                delimiter
            ),
            t.microsecond // 1000,
            *row,
        ]
        for t, row in zip(times, values, strict=True)
    ]
    return Export(
        {"a.csv": table([*header.split(delimiter), "a", "b", "c"], rows, delimiter)},
        ("a", "b", "c"),
        readings(times, values),
        n_raw=N,
        says=("holds the milliseconds of the times",),
    )


TWELVE = r"got only 1 to 12, such as '[^']*12:"
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - UTC


@spelled(
    ("time", "tz", "%Y-%m-%d %H:%M:%S", ("+0900",), (9,), ","),
    ("Zeit", "Zeitzone", "%d.%m.%Y %H:%M:%S", ("MEZ",), (1,), ";"),
    ("Timestamp", "UTC Offset", "%m/%d/%Y %I:%M:%S %p", ("-05:00",), (-5,), "\t"),
    ("Date,Time", "time_zone", "%Y-%m-%d,%H:%M:%S", ("Asia/Tokyo",), (9,), ","),
    ("ts", "zone", "%Y-%m-%dT%H:%M", ("EST", "EDT"), (-5, -4), ","),
)
def zone_in_a_column(
    name: str, zone: str, format: str, words: tuple[str, ...], hours: tuple[float, ...], delimiter: str
) -> Export:
    rows = []
    for i, (t, values) in enumerate(zip(minutes(), measure(), strict=True)):
        k = i * len(words) // N
        cells = by(format, hours[k])(t).split(",")
        rows.append([*cells, words[k], *(comma(v) if delimiter == ";" else v for v in values)])
    return Export(
        {"a.csv": table([*name.split(","), zone, "T", "P", "F"], rows, delimiter)},
        ("T", "P", "F"),
        readings(minutes(), measure()),
        n_raw=N,
        says=(f"{zone!r} is the time zone",),
    )


@spelled(("zone", "A"), ("offset", "zero"), ("tz", "oven 3"))
def a_zone_that_is_none(name: str, word: str) -> Export:
    """A column of that name whose words are no time zones is left alone."""
    rows = [
        [by("%Y-%m-%d %H:%M:%S")(t), word if i else "B", *values]
        for i, (t, values) in enumerate(zip(minutes(), measure(), strict=True))
    ]
    return Export(
        {"a.csv": table(["time", name, "T", "P", "F"], rows)}, ("T", "P", "F"), readings(minutes(), measure()), n_raw=N
    )


def micros(time: datetime) -> int:
    return (time - EPOCH) // timedelta(microseconds=1)


def local(time: datetime, zone: str) -> datetime:
    return time.replace(tzinfo=UTC).astimezone(ZoneInfo(zone))


@spelled(
    ("%d.%m.%Y %H:%M:%S", "Europe/Berlin", {1: "MEZ", 2: "MESZ"}, "2026-03-28T23:00", ";"),
    ("%m/%d/%Y %I:%M:%S %p", "America/New_York", {-5: "EST", -4: "EDT"}, "2026-03-08T04:00", "\t"),
    ("%Y/%m/%d %H:%M", "Australia/Sydney", {11: "AEDT", 10: "AEST"}, "2026-04-04T13:00", ","),
)
def cet_cest_suffix(format: str, zone: str, words: dict[int, str], start: str, delimiter: str) -> Export:
    times = minutes(start=datetime.fromisoformat(start), step=5)
    values = measure()

    def spell(time: datetime) -> str:
        clock = local(time, zone)
        return f"{clock.strftime(format)} {words[int(clock.utcoffset() / timedelta(hours=1))]}"

    rows = [[spell(time), *row] for time, row in zip(times, values, strict=True)]
    export = table(["Zeit", "T1", "P1", "F1"], rows, delimiter)
    return Export({"a.csv": export}, ("T1", "P1", "F1"), readings(times, values), n_raw=N)


@spelled(
    ("America/New_York", "2026-10-31T20:00", "%m/%d/%Y %H:%M", False),
    ("Europe/London", "2026-10-24T12:00", "%d/%m/%Y %H:%M:%S", False),
    ("Australia/Lord_Howe", "2026-04-04T02:00", "%Y-%m-%d %H:%M:%S", True),
)
def dst_autumn(zone: str, start: str, format: str, newest_first: bool) -> Export:
    times = minutes(start=datetime.fromisoformat(start), step=10, n=240)
    values = measure(240)
    rows = [[local(time, zone).strftime(format), *row] for time, row in zip(times, values, strict=True)]
    export = table(["when", "a", "b", "c"], rows[::-1] if newest_first else rows)
    return Export({"a.csv": export}, ("a", "b", "c"), readings(times, values), n_raw=240, options={"timezone": zone})


@spelled(
    ("ts", lambda t: str(micros(t)), ","),
    ("UnixTime", lambda t: comma(micros(t) / 1e3), ";"),
    ("_time", lambda t: f"{micros(t) / 1e6:.9e}", ","),
    ("epoch", lambda t: f"{micros(t)}123", "\t"),
    ("time", lambda t: f"{micros(t) / 1e6:.6f}", "|"),
)
def epoch_ns(name: str, spell: Callable[[datetime], str], delimiter: str) -> Export:
    step = 1 if "e" not in spell(START)[3:] else 100 / 6
    times, values = minutes(step=step), measure()
    rows = [[spell(time), *row] for time, row in zip(times, values, strict=True)]
    if delimiter == ";":
        rows = [list(map(comma, row)) for row in rows]
    return Export(
        {"a.csv": table([name, "x", "y", "z"], rows, delimiter)}, ("x", "y", "z"), readings(times, values), n_raw=N
    )


@spelled(
    ("%d/%m/%y %H:%M", "%m/%d/%y %H:%M", "Datum", ";"),
    ("%d/%m/%Y %H:%M:%S", "%m/%d/%Y %I:%M:%S %p", "Fecha", "\t"),
    ("%d-%m-%y %H:%M", "%m-%d-%y %H:%M", "Date", ","),
)
def excel_mangled_dates(first: str, second: str, name: str, delimiter: str) -> Export:
    times, values = minutes(480, step=60, start=datetime(2026, 3, 1)), measure(480)  # noqa: DTZ001 - UTC
    rows = [[t.strftime(second if t.day <= 12 else first), *v] for t, v in zip(times, values, strict=True)]
    return Export({"a.csv": table([name, "x", "y", "z"], rows, delimiter)}, error="no single format")


def days(time: datetime) -> float:
    return (time - datetime(1899, 12, 30)) / timedelta(days=1)  # noqa: DTZ001 - UTC


@spelled(
    ("Zeit", lambda t: comma(f"{days(t):.10f}"), ";"),
    ("Date/Time", lambda t: f"{days(t):.9f}", "\t"),
    ("日時", lambda t: f"{days(t):.14g}", ","),
)
def excel_serial(name: str, spell: Callable[[datetime], str], delimiter: str) -> Export:
    times, values = minutes(), measure()
    rows = [[spell(time), *row] for time, row in zip(times, values, strict=True)]
    if delimiter == ";":
        rows = [list(map(comma, row)) for row in rows]
    return Export(
        {"a.csv": table([name, "x", "y", "z"], rows, delimiter)}, ("x", "y", "z"), readings(times, values), n_raw=N
    )


MONTHS = {
    "German": "Jän Feb Mär Apr Mai Jun Jul Aug Sep Okt Nov Dez",
    "Austrian": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
    "French": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "Spanish": "ene feb mar abr may jun jul ago sep oct nov dic",
}


@spelled(
    ("{0:%d}-{1}-{0:%y} {0:%H:%M:%S}", "German", ";"),
    ("{0:%d} {1} {0:%Y} {0:%H:%M}", "French", "\t"),
    ("{0:%d}/{1}/{0:%Y} {0:%I:%M:%S %p}", "Spanish", ","),
    ("{0:%d}. {1} {0:%Y} {0:%H:%M:%S}.500", "Austrian", ";"),
)
def months_in_other_languages(form: str, language: str, delimiter: str) -> Export:
    months = MONTHS[language].split()
    times = minutes(n=150, step=24 * 60 + 7, start=datetime.fromisoformat("2026-02-01T00:00"))
    values = measure(150)
    rows = [[form.format(time, months[time.month - 1]), *row] for time, row in zip(times, values, strict=True)]
    more = timedelta(milliseconds=500 if form.endswith("500") else 0)
    return Export(
        {"a.csv": table(["Zeit", "a", "b", "c"], rows, delimiter)},
        ("a", "b", "c"),
        readings([time + more for time in times], values),
        n_raw=150,
    )


def _short(time: datetime, format: str, sign: str, *, digits: int) -> str:
    fraction = f"{time.microsecond:06d}"[:digits]
    return time.strftime(format) + (f"{sign}{fraction}" if time.microsecond else "")


@spelled(
    ("%Y/%m/%d %H:%M:%S", ".", 1, ","),
    ("%d.%m.%y %H:%M:%S", ",", 3, ";"),
    ("%m/%d/%Y %H:%M:%S", ":", 3, "\t"),
    ("%Y-%m-%dT%H:%M:%S", ".", 2, "|"),
)
def fraction_omitted(format: str, sign: str, digits: int, delimiter: str) -> Export:
    times = [START + timedelta(milliseconds=100 * i) for i in range(400)]
    values = measure(400)
    rows = [[_short(time, format, sign, digits=digits), *row] for time, row in zip(times, values, strict=True)]
    return Export(
        {"a.csv": table(["Zeitstempel", "a", "b", "c"], rows, delimiter)},
        ("a", "b", "c"),
        readings(times, values),
        n_raw=400,
    )


@spelled(
    ("%Y/%m/%d %H:%M:%S KST", 9, "UTC"),
    ("%d-%b-%Y %H:%M:%S EET", 2, "UTC"),
    ("%m/%d/%Y %I:%M %p CST", -6, "America/Chicago"),
    ("%d/%m/%Y %H:%M:%S GMT+5:30", 5.5, "UTC"),
)
def jst_suffix(format: str, hours: float, zone: str) -> Export:
    times, values = minutes(), measure()
    rows = [[by(format, hours)(time), *row] for time, row in zip(times, values, strict=True)]
    return Export(
        {"a.csv": table(["logged at", "a", "b", "c"], rows)},
        ("a", "b", "c"),
        readings(times, values),
        n_raw=N,
        options={"timezone": zone},
    )


@spelled(
    ("%Y/%m/%d {half}%I:%M:%S", "午前", "午後"),
    ("%Y-%m-%d {half} %I:%M", "오전", "오후"),
    ("%Y年%m月%d日 {half}%I時%M分", "午前", "午後"),
    ("%Y/%m/%d {half} %I:%M:%S", "上午", "下午"),
    ("%m/%d/%Y {half} %I:%M:%S", "AM", "PM"),
    ("{half}%I:%M:%S;%Y/%m/%d", "午前", "午後"),
)
def half_before_the_time(format: str, morning: str, afternoon: str) -> Export:
    times, values = minutes(step=15), measure()
    cells = [t.strftime(format.format(half=afternoon if t.hour >= 12 else morning)) for t in times]
    if morning == "午前":  # its clocks begin with 0
        cells = [cell.replace("前12", "前0").replace("後12", "後0") for cell in cells]
    header = ["時刻", "日付"] if ";" in format else ["日時"]
    rows = [[*cell.split(";"), *row] for cell, row in zip(cells, values, strict=True)]
    return Export({"a.csv": table([*header, "a", "b", "c"], rows)}, ("a", "b", "c"), readings(times, values), n_raw=N)


@spelled(
    ("%Y-%m-%d %H:%M:%S Local",),
    ("%d.%m.%Y %H:%M:%S XYZ",),
    ("%Y-%m-%dT%H:%M:%S IST",),
)
def an_unknown_suffix(format: str) -> Export:
    rows = [[by(format)(time), *row] for time, row in zip(minutes(), measure(), strict=True)]
    return Export({"a.csv": table(["time", "a", "b", "c"], rows)}, error=r"'(Local|XYZ|IST)' is not known")


@spelled(("%Y-%m-%d %I:%M:%S", ","), ("%d.%m.%Y %I:%M", ";"), ("%m/%d/%Y %I:%M:%S", "\t"))
def twelve_hours_without_a_half(format: str, delimiter: str) -> Export:
    rows = [[t.strftime(format), *row] for t, row in zip(minutes(300, step=10), measure(300), strict=True)]
    return Export({"a.csv": table(["time", "a", "b", "c"], rows, delimiter)}, error=TWELVE)


@spelled(
    ("%Y-%m-%d %H:%M:%S[America/Sao_Paulo]", -3),
    ("%d.%m.%Y %H:%M:%S Asia/Kolkata", 5.5),
    ("%Y-%m-%dT%H:%M:%S.000+09:00[Asia/Tokyo]", 9),
    ("%Y-%m-%d %H:%M:%S +0530", 5.5),
    ("%Y-%m-%d %H:%M -03:30", -3.5),
)
def zone_region_suffix(format: str, hours: float) -> Export:
    times, values = minutes(), measure()
    rows = [[by(format, hours)(time), *row] for time, row in zip(times, values, strict=True)]
    return Export({"a.csv": table(["t", "a", "b", "c"], rows)}, ("a", "b", "c"), readings(times, values), n_raw=N)


@spelled(
    ("Datum;Uhrzeit;x;y;z", "%d.%m.%Y", "%H:%M:%S", ";"),
    ("Clock,Day,x,y,z", "%I:%M:%S %p", "%m/%d/%y", ","),
    ("日付\t時刻\tx\ty\tz", "%Y年%m月%d日", "%H時%M分", "\t"),
    ("fecha|hora|x|y|z", "%Y%m%d", "%H%M%S", "|"),
)
def split_date_time_advice(header: str, first: str, second: str, delimiter: str) -> Export:
    times, values = minutes(step=30), measure()
    rows = [[t.strftime(first), t.strftime(second), *v] for t, v in zip(times, values, strict=True)]
    if delimiter == ";":
        rows = [list(map(comma, row[2:])) for row in rows] and [[*row[:2], *map(comma, row[2:])] for row in rows]
    return Export(
        {"a.csv": table(header.split(delimiter), rows, delimiter)}, ("x", "y", "z"), readings(times, values), n_raw=N
    )


@spelled(
    ("{}_ts", "{}_val", "%Y-%m-%dT%H:%M:%SZ", ","),
    ("Zeit {}", "Wert {}", "%d.%m.%Y %H:%M:%S", ";"),
    ("{} Time", "{} (raw)", "%m/%d/%Y %I:%M:%S %p", "\t"),
    ("Timestamp", "{}", "%Y-%m-%d %H:%M:%S", ","),
)
def time_per_channel(time: str, name: str, format: str, delimiter: str) -> Export:
    tags = ("boiler", "mill", "fan")
    header = [text.format(tag) for tag in tags for text in (time, name)]
    values = measure()
    rows, found = [], {}
    for i, row in enumerate(values):
        cells = []
        for k, value in enumerate(row):
            at = START + timedelta(seconds=30 * (k + 1) * i)
            cells += [at.strftime(format), comma(value) if delimiter == ";" else value]
            found.setdefault(at, [None] * 3)[k] = value
        rows.append(cells)
    return Export(
        {"a.csv": table(header, rows, delimiter)},
        tuple(name.format(tag) for tag in tags),
        readings(found, found.values()),
        n_raw=3 * N,
    )
