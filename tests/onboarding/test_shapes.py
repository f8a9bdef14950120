"""From a folder to readings in one go: exports of every shape end as the readings that they hold.

Each is written by `pwflow init`, ingested by what that wrote, and counted by SQL.
"""

import io
import zipfile
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from pwflow_core.config import load_config
from pwflow_core.onboarding import initialise
from pwflow_core.plant import Plant
from tests.conftest import put_file, query, read_all

N = 150
HEAD = "time,temp,press,flow"
START = datetime(2026, 3, 1)  # noqa: DTZ001 - as written in a file
RNG = np.random.default_rng(5)
VALUES = {
    "temp": (55 + RNG.normal(0, 1, N)).round(3),
    "press": (5 + RNG.normal(0, 0.1, N)).round(4),
    "flow": (110 + RNG.normal(0, 3, N)).round(2),
}
TIMES = [START + timedelta(minutes=i) for i in range(N)]
ALL_OK = {"machine": {"ok": N}}

Files = Mapping[str, str | bytes]

AT_NIGHT = {
    "numeric ids",
    "a dashboard",
    "with machines",
    "two delimiters behind",
    "cp1252",
    "UTF-16",
    "UTF-8 with a mark",
    "the day before the machine",
    "machines in folders",
    "OPC numbers",
    "in Japanese",
}


def kinds(names: Iterable[str]) -> list[object]:
    """Return what to run with, in part at night."""
    reason = "1 CPU s each: exports that differ as much from the others stay at each push"
    return [pytest.param(name, marks=pytest.mark.long(reason=reason)) if name in AT_NIGHT else name for name in names]


def at(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"


def table(header: str, line: Callable[[int, str], str], end: str = "") -> str:
    return "\n".join([header, *(line(i, at(time)) for i, time in enumerate(TIMES))]) + "\n" + end


def comma(value: float) -> str:
    return str(value).replace(".", ",")


def wide(i: int, time: str, delimiter: str = ",") -> str:
    return delimiter.join([time, *(str(values[i]) for values in VALUES.values())])


def long(header: str, line: Callable[[str, str, float], str]) -> str:
    rows = [line(at(time), name, values[i]) for i, time in enumerate(TIMES) for name, values in VALUES.items()]
    return "\n".join([header, *rows]) + "\n"


def take_in(folder: Path, files: Files, **options: object) -> tuple[Plant, list[str]]:
    for name, content in files.items():
        put_file(folder / "exports" / name, content)
    made = initialise(folder / "exports", folder, timezone="UTC", **options)
    plant = Plant.open(load_config(made.path))
    read_all(plant)
    return plant, list(made.assumptions)


def counts(plant: Plant) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for machine, quality, n in query(plant, "SELECT machine_id, quality, count(*) FROM core.readings GROUP BY ALL"):
        found.setdefault(machine, {})[quality] = n
    return found


def sensors(plant: Plant) -> list[str]:
    return list(plant.config.sensors)


def archive(members: Files) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return packed.getvalue()


LONG: dict[str, tuple[Files, dict[str, dict[str, int]], list[str]]] = {
    "a historian with quality": (
        {"a.csv": long("PointName;Zeitstempel;Messwert;Qualität", lambda t, n, v: f"{n};{t};{comma(v)};Gut")},
        ALL_OK,
        ["temp", "press", "flow"],
    ),
    "numeric ids": (
        {"a.csv": long("sensor_id,ts,val", lambda t, n, v: f"{100 + list(VALUES).index(n)},{t},{v}")},
        ALL_OK,
        ["100", "101", "102"],
    ),
    "a dashboard": ({"a.csv": long("metric\ttime\tvalue", lambda t, n, v: f"plant.{n}\t{t}\t{v}")}, ALL_OK, []),
    "named otherwise": ({"a.csv": long("what,when,value", lambda t, n, v: f"{n},{t},{v}")}, ALL_OK, list(VALUES)),
    "in Japanese": ({"a.csv": long("タグ名,日時,値", lambda t, n, v: f"{n},{t},{v}").encode("cp932")}, ALL_OK, []),
    "with machines": (
        {"a.csv": "unit;signal;ts;wert\n" + "".join(
            f"{m};{n};{at(t)};{v[i] + k}\n"
            for i, t in enumerate(TIMES) for k, m in enumerate(("K1", "K2")) for n, v in VALUES.items()
        )},
        {"K1": {"ok": N}, "K2": {"ok": N}},
        ["temp", "press", "flow"],
    ),
    "with machines and a word for sensors that is in no list": (
        {"a.csv": "anlage;stelle;wert;zeit\n" + "".join(
            f"{m};{n};{v[i] + k};{at(t)}\n"
            for i, t in enumerate(TIMES) for k, m in enumerate(("K1", "K2")) for n, v in VALUES.items()
        )},
        {"K1": {"ok": N}, "K2": {"ok": N}},
        ["temp", "press", "flow"],
    ),
    "annotated": (
        {"a.csv": "#datatype,string,long,dateTime:RFC3339,double,string\n#group,a,b,c,d,true\n#default,,,,,\n"
         + long(",result,table,_time,_value,_field", lambda t, n, v: f",,{list(VALUES).index(n)},{t},{v},{n}")},
        ALL_OK,
        ["temp", "press", "flow"],
    ),
    "tags as files": (
        {f"{n}_20260301.csv": table("time,value", lambda i, t, v=v: f"{t},{v[i]}") for n, v in VALUES.items()},
        ALL_OK,
        ["flow", "press", "temp"],
    ),
    "several columns of values": (
        {"a.csv": long("tag,time,value_float,value_int", lambda t, n, v: f"{n},{t},{v},"
         if n != "flow" else f"{n},{t},,{v:.0f}")},
        ALL_OK,
        ["temp", "press", "flow"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", kinds(LONG))
def test_a_long_export_becomes_one_reading_per_machine_and_time(tmp_path, kind):
    files, expected, names = LONG[kind]
    plant, _ = take_in(tmp_path, files)
    assert plant.config.source.layout == "long"
    assert counts(plant) == expected
    assert not names or sensors(plant) == names
    assert query(plant, "SELECT count(*) FROM mart.rejected_readings") == [(0,)]


WIDE: dict[str, tuple[Files, dict[str, dict[str, int]]]] = {
    "a last delimiter": ({"a.csv": table(HEAD.replace(",", ";"), lambda i, t: wide(i, t, ";") + ";")}, ALL_OK),
    "two delimiters behind": ({"a.csv": table(HEAD, lambda i, t: wide(i, t) + ",,")}, ALL_OK),
    "units below the header": ({"a.csv": table("time,temp,press,flow\n,°C,bar,l/min", wide)}, ALL_OK),
    "lines above and below": (
        {"a.csv": "Report: daily\nPlant: A\n\n" + table(HEAD, wide, "\nEnd of report\n")}, ALL_OK,
    ),
    "lines above that differ by day": (
        {"a.csv": "Site A\n" + "\n".join(table(HEAD, wide).splitlines()[:101]) + "\n",
         "b.csv": "Site A\nShift 2\n\n" + "\n".join([HEAD, *table("", wide).splitlines()[101:]]) + "\n"},
        ALL_OK,
    ),
    "cp1252": ({"a.csv": table("Zeit;T °C;Druck;Durchfluß", lambda i, t: wide(i, t, ";")).encode("cp1252")}, ALL_OK),
    "UTF-16": ({"a.csv": table("time\ttemp\tpress\tflow", lambda i, t: wide(i, t, "\t")).encode("utf-16")}, ALL_OK),
    "UTF-16 without a mark": ({"a.csv": table(HEAD, wide).encode("utf-16-le")}, ALL_OK),
    "UTF-8 with a mark": ({"a.csv": table(HEAD, wide).encode("utf-8-sig")}, ALL_OK),
    "Shift-JIS": ({"a.csv": table("日時,温度(℃),圧力(MPa),流量", wide).encode("cp932")}, ALL_OK),
    "folders of machines": (
        {f"asset={m}/date=2026-03-01/part.csv": table(HEAD, wide) for m in "AB"},
        {"A": {"ok": N}, "B": {"ok": N}},
    ),
    "the day before the machine": (
        {f"20260301-{m}.csv": table(HEAD, wide) for m in ("K1", "K2")},
        {"K1": {"ok": N}, "K2": {"ok": N}},
    ),
    "machines in folders": (
        {f"{m}/2026-03-01.csv": table(HEAD, wide) for m in ("mill", "press")},
        {"mill": {"ok": N}, "press": {"ok": N}},
    ),
    "an archive of machines": (
        {"all.zip": archive({f"{m}_01.03.2026.csv": table(HEAD, wide) for m in ("K1", "K2")})},
        {"K1": {"ok": N}, "K2": {"ok": N}},
    ),
    "rows with a sensor each": (
        {"a.csv": "time,temp,press,flow\n" + "".join(
            f"{at(t)}{',' * (k + 1)}{v[i]}{',' * (2 - k)}\n"
            for i, t in enumerate(TIMES) for k, v in enumerate(VALUES.values())
        )},
        ALL_OK,
    ),
    "newest first": ({"a.csv": "\n".join([HEAD, *table("", wide).splitlines()[:0:-1]])}, ALL_OK),
}  # fmt: skip


@pytest.mark.parametrize("kind", kinds(WIDE))
def test_a_wide_export_in_any_dress_becomes_its_readings(tmp_path, kind):
    files, expected = WIDE[kind]
    plant, _ = take_in(tmp_path, files)
    assert counts(plant) == expected
    assert len(sensors(plant)) == 3


QUALITIES = {
    "behind the name": (
        "temp,temp_quality,press,flow",
        lambda i, v: f"{v[0]},{'Bad' if i < 20 else 'Good'},{v[1]},{v[2]}",
    ),
    "OPC numbers": ("temp,temp.q,press,flow", lambda i, v: f"{v[0]},{0 if i < 20 else 192},{v[1]},{v[2]}"),
    "of the whole row": ("temp,press,flow,Quality", lambda i, v: f"{v[0]},{v[1]},{v[2]},{'BAD' if i < 20 else 'GOOD'}"),
    "in Japanese": ("temp,temp 品質,press,flow", lambda i, v: f"{v[0]},{'異常' if i < 20 else '正常'},{v[1]},{v[2]}"),
}


@pytest.mark.parametrize("kind", kinds(QUALITIES))
def test_a_column_of_quality_is_no_sensor_and_bad_values_are_missing(tmp_path, kind):
    header, line = QUALITIES[kind]
    content = table(f"time,{header}", lambda i, t: f"{t},{line(i, [v[i] for v in VALUES.values()])}")
    plant, _ = take_in(tmp_path, {"a.csv": content})
    assert sensors(plant) == ["temp", "press", "flow"]
    assert counts(plant) == {"machine": {"ok": N - 20, "missing": 20}}
    n_bad = 60 if "whole" in kind else 20
    assert query(plant, "SELECT reason, count(*) FROM mart.rejected_readings GROUP BY ALL") == [("bad_quality", n_bad)]


@pytest.mark.parametrize(
    ("name", "states"),
    [("motor", "RUN STOP"), ("ofen", "läuft steht"), ("unit", "alpha beta"), ("pump", "運転 停止")],
)  # fmt: skip
def test_a_state_is_a_process_condition_and_no_machine(tmp_path, name, states):
    content = table(f"{HEAD},{name}", lambda i, t: f"{wide(i, t)},{states.split()[i // 15 % 2]}")
    plant, _ = take_in(tmp_path, {"a.csv": content})
    assert counts(plant) == ALL_OK
    assert len(query(plant, "SELECT DISTINCT segment FROM core.readings")) in (1, 2)


@pytest.mark.parametrize("names", [("Time {}", "{}"), ("{} timestamp", "{} value"), ("t_{}", "{}")])
def test_sensors_with_time_columns_of_their_own_are_joined_by_time(tmp_path, names):
    header, lines = [], []
    for name in VALUES:
        header += [names[0].format(name), names[1].format(name)]
    for i in range(N):
        row = []
        for k, values in enumerate(VALUES.values(), start=1):
            row += [f"{START + timedelta(seconds=30 * k * i):%Y-%m-%d %H:%M:%S}", str(values[i])]
        lines.append(",".join(row))
    plant, _ = take_in(tmp_path, {"a.csv": "\n".join([",".join(header), *lines]) + "\n"})
    columns = ", ".join(f'"{name}"' for name in sensors(plant))
    at_ten = query(plant, f"SELECT {columns} FROM core.readings WHERE ts = '2026-03-01 00:30:00'")
    assert at_ten == [(VALUES["temp"][60], VALUES["press"][30], VALUES["flow"][20])]
    assert counts(plant)["machine"]["ok"] >= N


def test_the_last_value_of_a_sensor_with_times_of_its_own_holds_for_a_written_time(tmp_path):
    rng = np.random.default_rng(1)
    seconds = np.sort(rng.choice(60 * N, 3 * N, replace=False))
    lines = []
    for second in seconds:
        k = int(rng.integers(3))
        values = ["" if j != k else str(v[second // 60]) for j, v in enumerate(VALUES.values())]
        lines.append(",".join([at(START + timedelta(seconds=int(second))), *values]))
    plant, said = take_in(tmp_path, {"a.csv": "\n".join([HEAD, *lines]) + "\n"})
    assert all(sensor.hold_seconds for sensor in plant.config.sensors.values())
    assert any("hold_seconds" in sentence for sentence in said)
    found = counts(plant)["machine"]
    assert found["ok"] > 0.9 * 3 * N
    [(n_late,)] = query(
        plant,
        """
        SELECT count(*) FROM core.readings AS reading JOIN core.filled_values AS filled USING (reading_id)
        WHERE filled.temp IS NOT NULL AND NOT EXISTS (
            FROM core.readings AS other WHERE other.temp = filled.temp AND other.ts < reading.ts
            AND epoch(reading.ts) - epoch(other.ts) <= ?)
        """,
        plant.config.sensors["temp"].hold_seconds,
    )
    assert n_late == 0


def test_angles_wrapping_counters_and_totalisers_are_told(tmp_path):
    def line(i: int, time: str) -> str:
        angle = (350 + 20 * (i % 7) / 6) % 360
        return f"{wide(i, time)},{angle:.1f},{(450 * i) % 65536},{1000 + 2 * i}"

    rows = table("time,temp,press,flow,wind_direction,pulses,total_m3", line).splitlines()
    plant, said = take_in(tmp_path, {"a.csv": "\n".join([rows[0], *rows[:0:-1]]) + "\n"})
    assert sensors(plant) == ["temp", "press", "flow", "wind_direction"]
    assert any("'pulses'" in sentence and "begins again" in sentence for sentence in said)
    assert any("'total_m3'" in sentence for sentence in said)
    [(low, high)] = query(plant, "SELECT min(wind_direction), max(wind_direction) FROM core.readings")
    assert high - low <= 20.1


def test_what_is_not_read_is_named(tmp_path):
    day = table(HEAD, wide)
    later = day.replace("2026-03-01", "2026-03-02")
    files = {"a.csv": day, "b.zip": archive({"b.csv": later}), "c.xlsx": b"no spreadsheet", "d.pdf": b"%PDF"}
    plant, said = take_in(tmp_path, files)
    assert counts(plant) == {"machine": {"ok": 2 * N}}
    assert any("c.xlsx" in sentence for sentence in said)
    assert any("d.pdf" in sentence for sentence in said)


@pytest.mark.parametrize("name", ["press", "motor", "Pumpe"])
def test_a_sensor_that_is_called_like_a_machine_stays_a_sensor(tmp_path, name):
    text = table(f"time,temp,{name}", lambda i, t: f"{t},{VALUES['temp'][i]},{180 + (i * i) % 97}")
    plant, _ = take_in(tmp_path, {"a.csv": text})
    assert counts(plant) == ALL_OK
    assert sensors(plant) == ["temp", name]


def test_files_that_disagree_about_the_decimal_sign_are_refused_not_a_thousand_times_too_large(tmp_path):
    files = {
        "1.csv": table("time;temp;press", lambda i, t: f"{t};{50 + i / 1000:.3f};{3 + i / 1000:.3f}"),
        "2.csv": table(
            "time;temp;press", lambda i, t: f"2026-04{t[7:]};{50 + i / 1000:.3f};{3 + i / 1000:.3f}".replace(".", ",")
        ),
    }
    plant, _ = take_in(tmp_path, files)
    assert query(plant, "SELECT max(temp) < 100, max(press) < 100 FROM core.readings") == [(True, True)]
    assert query(plant, "SELECT count(*) FROM mart.rejected_readings WHERE reason = 'not_a_number'") == [(2 * N,)]


def test_a_k_behind_some_numbers_is_no_unit(tmp_path):
    text = table(
        "time,temp,flow", lambda i, t: f"{t},{VALUES['temp'][i]},{f'{1 + i / 100}k' if i % 2 else 900 + i / 2}"
    )
    plant, _ = take_in(tmp_path, {"a.csv": text})
    held = query(plant, "SELECT * FROM core.readings LIMIT 1") and sensors(plant)
    assert "flow" not in held or query(plant, "SELECT min(flow) > 800 FROM core.readings") == [(True,)]


def test_qualities_are_known_by_what_they_say_or_beside_which_sensor_they_stand(tmp_path):
    """A word for quality that is in no list, codes of one digit, and a bare q in a long export."""
    said = table(
        "time,temp,press,Status",
        lambda i, t: f"{t},{VALUES['temp'][i]},{VALUES['press'][i]},{'Bad' if i == 7 else 'Good'}",
    )
    coded = table(
        "time,temp,temp_q,press,press_q", lambda i, t: f"{t},{VALUES['temp'][i]},{2 * (i == 7)},{VALUES['press'][i]},0"
    )
    bare = "id,ts,v,q\n" + "".join(
        f"{n},{at(t)},{v[i]},{24 if i == 7 else 192}\n" for i, t in enumerate(TIMES) for n, v in VALUES.items()
    )
    for number, text in enumerate((said, coded, bare)):
        plant, _ = take_in(tmp_path / str(number), {"a.csv": text})
        assert set(sensors(plant)) <= set(VALUES), number
        assert counts(plant) == {"machine": {"ok": N - 1, "missing": 1}}, number
