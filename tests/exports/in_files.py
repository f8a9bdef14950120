"""Kinds that are about files: their names, their encoding, what is above, below and beside the rows."""

from __future__ import annotations

from datetime import timedelta

from tests.exports.export import START, Export, N, archive, by, comma, measure, minutes, readings, spelled, table

HEAD = ("temp", "press", "flow")


def wide(
    header: str = "time,temp,press,flow", *, seed: int = 7, day: int = 0, format: str = "%Y-%m-%dT%H:%M:%SZ"
) -> str:
    delimiter = ";" if ";" in header else "\t" if "\t" in header else ","
    times = minutes(start=START + timedelta(days=day))
    mark = comma if delimiter == ";" else str
    rows = [[by(format)(t), *map(mark, row)] for t, row in zip(times, measure(seed=seed), strict=True)]
    return table(header.split(delimiter) if header else [], rows, delimiter)


def expected(*parts: tuple[str, int, int]) -> list:
    return [
        row
        for machine, seed, day in parts
        for row in readings(minutes(start=START + timedelta(days=day)), measure(seed=seed), machine)
    ]


ONE = expected(("machine", 7, 0))


@spelled(
    ("日時,温度(℃),圧力(MPa),流量(L/min)", "euc_jp", "%Y/%m/%d %H:%M:%S"),
    ("Zeit;Kessel (°C);Druck (bar);Durchfluß", "cp1252", "%d.%m.%Y %H:%M:%S"),
    ("时间,温度,压力,流量", "gb18030", "%Y-%m-%d %H:%M:%S"),
    ("Время;Температура;Давление;Расход", "cp1251", "%d.%m.%Y %H:%M:%S"),
    ("Czas\tCiśnienie\tPrzepływ\tPrędkość", "utf-16-be", "%Y-%m-%d %H:%M"),
    ("시간,온도,압력,유량", "cp949", "%Y-%m-%d %H:%M:%S"),
)
def cp932(header: str, encoding: str, format: str) -> Export:
    text = wide(header, format=format)
    names = header.replace(";", ",").replace("\t", ",").split(",")
    return Export({"a.csv": text.encode(encoding)}, tuple(names[1:]), ONE, n_raw=N)


@spelled(
    ("{day:%Y%m%d}_{m}.csv", "kiln", "mill"),
    ("{m}/{day:%Y}/{day:%m}/{day:%d}.csv", "Linie 1", "Linie 2"),
    ("{m}.{day:%d-%m-%Y}.csv", "K01", "K02"),
    ("export_{m}_{day:%Y-%m-%d}.csv", "north", "south"),
)
def file_per_machine_day(name: str, first: str, second: str) -> Export:
    parts = [(m, s + d, d) for s, m in ((0, first), (10, second)) for d in range(3)]
    files = {name.format(day=START + timedelta(days=d), m=m): wide(seed=s, day=d) for m, s, d in parts}
    rows = expected(*parts)
    if name.startswith("export"):
        rows = [(f"export_{m}", t, v) for m, t, v in rows]
    return Export(files, HEAD, rows, n_raw=6 * N)


@spelled(
    ("{tag}.csv", "Zeit;Wert", "%d.%m.%Y %H:%M:%S", ";"),
    ("{tag}/2026-03-14.csv", "timestamp,reading", "%Y-%m-%dT%H:%M:%SZ", ","),
    ("20260314 {tag}.txt", "Date\tValue", "%m/%d/%Y %H:%M", "\t"),
)
def file_per_sensor(name: str, header: str, format: str, delimiter: str) -> Export:
    tags = ("TI-101", "PI-101", "FI-101")
    mark = comma if delimiter == ";" else str
    files = {
        name.format(tag=tag): table(
            header.split(delimiter),
            [[by(format)(t), mark(row[k])] for t, row in zip(minutes(), measure(), strict=True)],
            delimiter,
        )
        for k, tag in enumerate(tags)
    }
    return Export(files, tags, readings(minutes(), measure()), n_raw=3 * N)


@spelled(
    ("device={m}/part-0.csv", "K1", "K2"),
    ("year=2026/month=03/day=14/asset={m}/x.csv", "Kiln A", "Kiln B"),
    ("dt=2026-03-14/unit={m}/0000.csv", "7", "8"),
)
def hive_folders(name: str, first: str, second: str) -> Export:
    files = {name.format(m=m): wide(seed=s) for m, s in ((first, 1), (second, 2))}
    return Export(files, HEAD, expected((first, 1, 0), (second, 2, 0)), n_raw=2 * N)


@spelled(
    ("sep=;\nBericht: Tag\n\n", "Zeit;T;P;F", "%d.%m.%Y %H:%M:%S", "\nZeilen: 120\n"),
    ("# logger 7\n# rate 60 s\n", "time,T,P,F", "%Y-%m-%d %H:%M:%S", ""),
    ("Device\tX7\nSerial\t0012\n\n\n", "Date\tT\tP\tF", "%Y/%m/%d %H:%M", "END\n"),
    ("", "time,T,P,F\ntemp of boiler,x,y,z\n,°C,bar,l/min", "%Y-%m-%dT%H:%M:%SZ", ""),
)
def metadata_lines_advice(above: str, header: str, format: str, below: str) -> Export:
    first, *others = header.split("\n")
    text = wide(first, format=format)
    head, _, body = text.partition("\n")
    n_below = bool(below.strip())
    return Export(
        {"a.csv": above + "\n".join([head, *others]) + "\n" + body + below},
        ("T", "P", "F"),
        ONE,
        {"malformed_line": 1} if n_below else {},
        n_raw=N,
    )


@spelled(
    (
        "Tag;T1;P1;F1\nBezeichnung;Kessel oben;Kessel Druck;Durchfluss\nEinheit;°C;bar;l/min",
        ";",
        "%d.%m.%Y %H:%M:%S",
        ("T1", "P1", "F1"),
    ),
    ("time,T1,P1,F1\n,Boiler outlet,Drum,Feed\n,degC,bar,m3/h", ",", "%Y-%m-%dT%H:%M:%SZ", ("T1", "P1", "F1")),
    ("日時\tT1\tP1\tF1\n\t温度\t圧力\t流量\n\t℃\tMPa\tL/min", "\t", "%Y/%m/%d %H:%M", ("T1", "P1", "F1")),
    (
        "[LOGGING],RCPU_1\nDATETIME,FLOAT,FLOAT,SHORT\nTIME,D100,D102,D104",
        ",",
        "%Y/%m/%d %H:%M:%S",
        ("FLOAT", "FLOAT_1", "SHORT"),
    ),
)
def three_header_rows(header: str, delimiter: str, format: str, names: tuple[str, ...]) -> Export:
    text = wide(header.split("\n")[0], format=format).partition("\n")[2]
    return Export({"a.csv": f"{header}\n{text}"}, names, ONE, n_raw=N)


@spelled(
    ({"notes.docx": b"PK", "02.csv.bak": b"x"}, (r"\.docx", r"\.bak")),
    ({"old.xls": b"\xd0\xcf\x11\xe0", "sub/more.json": b"{}"}, (r"\.xls", r"\.json")),
    ({"b.xlsx": b"not a sheet", "c.zip": archive({"c.csv": wide(seed=2, day=1)})}, (r"b\.xlsx",)),
)
def mixed_folder(others: dict[str, bytes], says: tuple[str, ...]) -> Export:
    rows = ONE + (expected(("machine", 2, 1)) if "c.zip" in others else [])
    return Export({"a.csv": wide(), **others}, HEAD, rows, n_raw=len(rows), says=says)


@spelled(
    ("time;temp;press;flow", ";", "%d.%m.%Y %H:%M:%S"),
    ("time,temp,press,flow", ",,", "%Y-%m-%dT%H:%M:%SZ"),
    ("time\ttemp\tpress\tflow", "\t", "%Y/%m/%d %H:%M"),
)
def trailing_delimiter(header: str, end: str, format: str) -> Export:
    head, *lines = wide(header, format=format).splitlines()
    return Export({"a.csv": "\n".join([head, *(line + end for line in lines)]) + "\n"}, HEAD, ONE, n_raw=N)


def _columns(format: str, delimiter: str, end: str, order: tuple[int, ...]) -> str:
    mark = comma if delimiter == ";" else str
    rows = []
    for k, tag in enumerate(("Tag.1", "Tag.2", "Tag.3")):
        for t, row in zip(minutes(), measure(), strict=True):
            cells = [tag, by(format)(t), mark(row[k])]
            rows.append([cells[i] for i in order])
    return table([], rows, delimiter, quote=delimiter == ",").replace("\n", f"{end}\n")


@spelled(
    ("%m/%d/%Y %I:%M:%S %p", ",", ",", (1, 0, 2)),
    ("%d.%m.%Y %H:%M:%S", ";", "", (0, 1, 2)),
    ("%Y-%m-%dT%H:%M:%SZ", "\t", "", (1, 2, 0)),
)
def headerless_ampm(format: str, delimiter: str, end: str, order: tuple[int, ...]) -> Export:
    return Export(
        {"a.csv": _columns(format, delimiter, end, order)},
        ("Tag.1", "Tag.2", "Tag.3"),
        readings(minutes(), measure()),
        n_raw=N,
        says=("no header|no line with names",),
    )


@spelled(("%Y-%m-%d %H:%M:%S", ","), ("%d.%m.%Y %H:%M:%S", ";"), ("%m/%d/%Y %I:%M:%S %p", "\t"))
def headerless_wide(format: str, delimiter: str) -> Export:
    text = wide(delimiter.join("abcd"), format=format).partition("\n")[2]
    return Export(
        {"a.csv": text}, ("column_2", "column_3", "column_4"), ONE, n_raw=N, says=("no header|no line with names",)
    )


@spelled(("12,13,14",), ("7;8;9",), ("a,b,c",))
def headerless_in_doubt(line: str) -> Export:
    return Export({"a.csv": f"{line}\n" * 200}, error="first line with column names|timestamp column")


@spelled(
    ("time", "%Y-%m-%d %H:%M:%S", "SELECT * FROM read_csv('{folder}/a.csv')"),
    ("stamp", "%Y-%m-%dT%H:%M:%S", "SELECT * FROM read_csv('{folder}/a.csv', all_varchar = true)"),
    ("Zeit", "%Y-%m-%d %H:%M:%S", "FROM '{folder}/a.csv' ORDER BY press;"),
)
def source_sql_without_sensors(name: str, format: str, sql: str) -> Export:
    return Export(
        {"a.csv": wide(f"{name},temp,press,flow", format=format)},
        HEAD,
        ONE,
        n_raw=N,
        sql=sql,
        source={"timestamp": name},
    )


@spelled((0, 512), (300, 4096), (2000, 700), (0, 40_000))
def power_failure(place: int, n_zeros: int) -> Export:
    """A logger whose power fails leaves zeros at the end of a file; or amid it, and goes on in another line."""
    times, values = minutes(2 * N), measure(2 * N)
    rows = [[by("%Y-%m-%d %H:%M:%S")(time), *row] for time, row in zip(times, values, strict=True)]
    first, second = (table(["time", "a", "b", "c"], part).encode() for part in (rows[:N], rows[N:]))
    at = second.index(b"\n", place) + 1 if place else len(second)
    zeros = b"\0" * n_zeros + (b"\n" if place else b"")
    return Export(
        {"a.csv": first, "b.csv": second[:at] + zeros + second[at:]},
        ("a", "b", "c"),
        readings(times, values),
        {"malformed_line": 1},
    )


@spelled((".dat",), (".asc",), (".001",))
def other_endings(ending: str) -> Export:
    return Export({f"Table1{ending}": wide()}, error=rf"by a pattern \('.*/\*\{ending}'\)")
