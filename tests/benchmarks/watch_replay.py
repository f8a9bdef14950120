"""The days of the simulated plant through a watch, over a real mosquitto: are live scores those of the night?

    python tests/benchmarks/watch_replay.py --speed 1000

The plant learns from its first days, as the demo does. Then paho publishes each later reading as a message of JSON
(QoS 1), in the order of time, `--speed` times as fast as it was made (0: as fast as it goes). A watch in a process of
its own takes them from the broker and tells a webhook. A night is done whenever a part of the days has come, while
readings of the next part arrive: what a nightly run does, in this process. Its scores, sensors, events and cases are
compared with the live ones of that part. With `--drift` the nights follow drift too: a verdict takes up events in its
own case, and the watch knows it only once a night has found it. Needs mosquitto. Not part of the test suite: some
minutes, and an hour at `--speed 1000`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
from measuring import command_line
from plants import TINY, bundled_config, learn_and_score, read_all
from watch import MOSQUITTO, cpu_seconds

from pwflow_core.pipeline.cases.deriving import derive_cases
from pwflow_core.pipeline.decisions.verdicts import Decider
from pwflow_core.pipeline.drift.evidence import follow_drift
from pwflow_core.pipeline.drift.health import derive_health
from pwflow_core.pipeline.regimes.assigning import assign_readings
from pwflow_core.pipeline.scoring.contributions import explain_anomalies
from pwflow_core.pipeline.scoring.densities import score_slices
from pwflow_core.pipeline.scoring.events import derive_events
from pwflow_core.pipeline.scoring.scores import derive_scores
from pwflow_core.plant import Plant
from pwflow_core.simulation import SENSORS, write_exports

TOPIC = "plant/{machine}/readings"
NAMES = [sensor.name for sensor in SENSORS]
DAY_SECONDS = 86_400
CASES_OF_EVENTS = """
    SELECT event.event_id, event.machine_id, event.n_readings, (
        SELECT arg_max(case_id, told_at) FROM mart.case_events AS told
        WHERE told.machine_id = event.machine_id
          AND told.started_at <= event.ended_at AND told.ended_at >= event.started_at
    ) AS case_id
    FROM mart.anomaly_events AS event WHERE event.ended_at > ? AND event.started_at <= ? ORDER BY ALL
"""


def open_in(folder: Path, port: int, *, smoke: bool) -> Plant:
    hook = {"url_env": "REPLAY_HOOK_URL", "secret_env": "REPLAY_HOOK_SECRET", "most_per_hour": 1_000}
    return Plant.open(
        bundled_config(
            folder,
            watch={"broker": f"mqtt://127.0.0.1:{port}", "topics": [TOPIC], "listen": ""},
            notify={"targets": {"hook": hook}},
            **(TINY if smoke else {}),
        )
    )


def rest_of_night(plant: Plant, run: str, *, drift: bool) -> None:
    explain_anomalies(plant)
    derive_events(plant)
    derive_health(plant)
    if drift:
        follow_drift(plant, run_id=run)
    derive_cases(plant, by=Decider(run, run))


def have_a_night(plant: Plant, run: str, *, drift: bool) -> None:
    """Do what a nightly run does with the files of the source."""
    read_all(plant)
    assign_readings(plant)
    for _ in score_slices(plant):
        pass
    derive_scores(plant)
    rest_of_night(plant, run, drift=drift)


def serve(folder: Path, port: int, *, smoke: bool) -> None:
    """Watch in this process until it is interrupted; print what it took."""
    from pwflow_core.watching.mqtt import Broker
    from pwflow_core.watching.service import Watch

    plant = open_in(folder, port, smoke=smoke)
    watch = Watch(plant, lambda _, positions: Broker(plant.config, positions(Broker.name)))
    signal.signal(signal.SIGINT, lambda *_: watch.stop())
    watch.run()
    middle, most = watch.counts.lags.percentiles(50, 99)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    print(
        json.dumps(
            {
                "readings": watch.counts.readings,
                "refused": dict(+watch.counts.refused),
                "nights": watch.counts.nights,
                "p50": middle,
                "p99": most,
                "mib": int(status["VmHWM"].split()[0]) / 1024,
            }
        )
    )


class Hook:
    """Takes what people are told."""

    def __init__(self) -> None:
        self.told: Counter[tuple[str, str, str]] = Counter()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler) -> None:  # noqa: N805 - self is the hook
                document = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
                self.told.update((one["kind"], one["subject"], one["id"]) for one in document["notices"])
                handler.send_response(204)
                handler.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        os.environ["REPLAY_HOOK_URL"] = f"http://127.0.0.1:{self.server.server_port}/hook"
        os.environ["REPLAY_HOOK_SECRET"] = "signs"  # noqa: S105 - of a receiver on this machine


class Sender:
    """Publishes readings at a pace."""

    def __init__(self, port: int, speed: float) -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.max_inflight_messages_set(1000)
        self._client.max_queued_messages_set(20_000)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._speed = speed

    def send(self, readings: pd.DataFrame) -> None:
        """Publish readings that are in the order of time."""
        begun, first = time.monotonic(), readings.timestamp.iloc[0]
        for row in readings.astype(object).where(readings.notna(), None).to_dict(orient="records"):
            at, machine = row.pop("timestamp"), row.pop("machine")
            if self._speed:
                time.sleep(max(0.0, begun + (at - first).total_seconds() / self._speed - time.monotonic()))
            text = json.dumps({"timestamp": at.isoformat(), **row})
            while self._client.publish(TOPIC.replace("{machine}", machine), text, qos=1).rc:  # too many on their way
                time.sleep(0.005)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def read_export(path: Path) -> pd.DataFrame:
    """Return the readings of a day in the order of time; of equal times those of the first row come first."""
    frame = duckdb.sql(f"SELECT * FROM read_parquet('{path}')").df()
    return frame.sort_values("timestamp", kind="stable", ignore_index=True)


def wait_for_night(plant: Plant, store: Path) -> None:
    """Wait until the watch has taken up the last night."""
    from pwflow_core.watching.night import read_night

    then = time.monotonic() + 600
    while time.monotonic() < then:
        with closing(sqlite3.connect(store, timeout=60)) as live:
            [(taken_up,)] = live.execute("SELECT value FROM facts WHERE fact = 'night'").fetchall()
        night = read_night(plant.config.watch_folder)
        if night.name == taken_up and night.commit == plant.warehouse.last_commit_number():
            return
        time.sleep(1.0)
    raise AssertionError("the watch did not take up the night")


def wait_until_quiet(store: Path, until: pd.Timestamp) -> None:
    """Wait until a time has come in the store, for each machine, and no more scores come."""
    last, then = -1, time.monotonic() + 3_600
    while time.monotonic() < then:
        with closing(sqlite3.connect(store, timeout=60)) as live:
            rows = live.execute("SELECT max(ts) FROM live_scores GROUP BY machine_id").fetchall()
            n = live.execute("SELECT count(*) FROM live_scores").fetchone()[0]
        wanted = until.value // 1000 - 10 * 60 * 1_000_000  # a machine may be silent at the end
        if n == last and len(rows) == 3 and min(at for (at,) in rows) >= wanted:
            return
        last = n
        time.sleep(2.0)
    raise AssertionError("the watch did not keep up")


def take_live(plant: Plant, store: Path, since: pd.Timestamp, until: pd.Timestamp) -> dict[str, Any]:
    """Return live scores of a stretch of time, the sensors that explain them, and the events that the watch finds."""
    from pwflow_core.watching.cases import derive_live_cases
    from pwflow_core.watching.night import read_night
    from pwflow_core.watching.store import LiveStore

    with tempfile.TemporaryDirectory() as name:
        copy = Path(name) / "live.sqlite"
        with closing(sqlite3.connect(store, timeout=60)) as live, closing(sqlite3.connect(copy)) as target:
            live.backup(target)
        with closing(sqlite3.connect(copy)) as live:
            scores = pd.read_sql_query("SELECT * FROM live_scores", live)
            parts = pd.read_sql_query("SELECT reading_id, sensor, contribution FROM live_contributions", live)
        scores["ts"] = pd.to_datetime(scores.ts, unit="us")
        scores = scores[(scores.ts > since) & (scores.ts <= until)]
        night = read_night(plant.config.watch_folder)
        found = derive_live_cases(plant, night, LiveStore(copy), Path(name))
    return {"scores": scores, "parts": parts[parts.reading_id.isin(scores.reading_id)], "events": found.events}


def compare(live: dict[str, Any], plant: Plant, since: pd.Timestamp, until: pd.Timestamp) -> dict[str, Any]:
    """Return how live scores differ from those of the night."""
    with plant.warehouse.snapshot() as connection:
        night = connection.execute(
            "SELECT * FROM mart.anomaly_scores WHERE ts > ? AND ts <= ?", [since.to_pydatetime(), until.to_pydatetime()]
        ).df()
        parts = connection.execute(
            "SELECT reading_id, sensor, contribution FROM mart.sensor_contributions SEMI JOIN night USING (reading_id)"
        ).df()
        events = connection.execute(CASES_OF_EVENTS, [since.to_pydatetime(), until.to_pydatetime()]).fetchall()
    both = live["scores"].merge(night, on="reading_id", suffixes=("", "_night"))
    judged = both[(both.status == "scored") & (both.status_night == "scored")]
    sensors = live["parts"].merge(parts, on=["reading_id", "sensor"], how="outer", suffixes=("", "_night"))
    theirs = {
        (event["event_id"], event["machine_id"], event["n_readings"], event["case_id"]) for event in live["events"]
    }
    ours = set(events)
    return {
        "live": len(live["scores"]),
        "night": len(night),
        "both": len(both),
        "judged": len(judged),
        "status": int(
            ((both.status != both.status_night) | (both.reason.fillna("") != both.reason_night.fillna(""))).sum()
        ),
        "regime": int((judged.cluster_key != judged.cluster_key_night).sum()),
        "p": float(np.abs(judged.p_value - judged.p_value_night).max()),
        "density": float(np.abs(judged.log_density - judged.log_density_night).max()),
        "anomalies": int(judged.is_anomaly_night.sum()),
        "anomaly": int((judged.is_anomaly.astype(bool) != judged.is_anomaly_night.astype(bool)).sum()),
        "sensors": int(len(sensors) - np.isclose(sensors.contribution, sensors.contribution_night, atol=1e-6).sum()),
        "n_events": len(ours),
        "events": len({event[:3] for event in ours} ^ {event[:3] for event in theirs}),
        "cases": len(ours ^ theirs),
    }


def replay(folder: Path, *, learn_days: int, days: int, speed: float, n_nights: int, drift: bool, smoke: bool) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    hook = Hook()
    source = folder / "source"
    exports = list(write_exports(source, days=days).exports)
    plant = open_in(folder / "plant", port, smoke=smoke)
    target = folder / "plant" / "exports"
    target.mkdir(parents=True)
    for path in exports[:learn_days]:
        shutil.copy(path, target)
    read_all(plant)
    learn_and_score(plant)
    rest_of_night(plant, "first", drift=drift)
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 1000\nmax_queued_messages 0\n"
    )
    broker = subprocess.Popen([MOSQUITTO, "-c", config], stderr=subprocess.DEVNULL)
    command = [sys.executable, "-W", "ignore", __file__, "--serve", folder / "plant", "--port", str(port)]
    watching = subprocess.Popen([*command, *(["--smoke"] if smoke else [])], stdout=subprocess.PIPE)
    store = plant.config.watch_folder / "live.sqlite"
    while not store.exists():
        assert watching.poll() is None, "the watch ended"
        time.sleep(0.2)
    time.sleep(5.0)  # it has subscribed
    begun = cpu_seconds(watching.pid)
    sender, nights, found = Sender(port, speed), list[threading.Thread](), []
    parts = [list(part) for part in np.array_split(np.arange(learn_days, days), n_nights)]
    since = read_export(exports[learn_days - 1]).timestamp.max().tz_convert(None)
    started = time.monotonic()
    print(
        "| night | live, night, both judge | other status | largest difference of p | of log-density, nats | "
        "anomalies, other | other regime | other sensors | events, other | other case |\n"
        "|---|---|---|---|---|---|---|---|---|---|",
        flush=True,
    )
    for number, part in enumerate(parts, 1):
        readings = pd.concat([read_export(exports[day]) for day in part], ignore_index=True)
        until = readings.timestamp.max().tz_convert(None)
        sender.send(readings)
        if nights:
            nights[-1].join()
            wait_for_night(plant, store)
        wait_until_quiet(store, until)
        live = take_live(plant, store, since, until)
        for day in part:
            shutil.copy(exports[day], target)

        def do_night(run=f"night-{number}", live=live, since=since, until=until) -> None:
            have_a_night(plant, run, drift=drift)
            found.append(compare(live, plant, since, until))
            say(run, found[-1])

        nights.append(threading.Thread(target=do_night))
        nights[-1].start()
        since = until
    nights[-1].join()
    seconds = time.monotonic() - started
    cpu = cpu_seconds(watching.pid) - begun
    time.sleep(8.0)  # it takes up the last night, and tells
    watching.send_signal(signal.SIGINT)
    took = json.loads(watching.stdout.read().splitlines()[-1])
    watching.wait()
    sender.close()
    broker.terminate()
    broker.wait()
    twice = [notice for notice, n in hook.told.items() if n > 1]
    opened = Counter(subject for kind, subject, _ in hook.told if kind == "opened")
    with plant.warehouse.snapshot() as connection:
        cases = {f"case {key}" for (key,) in connection.execute("SELECT case_id FROM mart.cases").fetchall()}
    print(
        f"\n{took['readings']:,} readings in {seconds:,.0f} s, {took['nights']} nights taken up; "
        f"lag p50 {took['p50']:.2f} s, p99 {took['p99']:.2f} s; {1e6 * cpu / took['readings']:,.0f} µs of CPU time per "
        f"reading; {took['mib']:.0f} MiB; refused: {took['refused'] or 'none'}\n"
        f"told: {len(hook.told)} notices, {len(twice)} of them twice; {len(opened)} cases opened live, "
        f"{sum(n > 1 for n in opened.values())} of them more than once, {len(set(opened) - cases)} that no night knows"
    )
    wrong = sum(row[key] for row in found for key in ("status", "regime", "anomaly", "sensors", "events"))
    assert all(row["live"] == row["night"] == row["both"] for row in found), "readings were lost"
    assert max(row["p"] for row in found) <= 1e-6
    assert not wrong
    assert not twice
    if not drift:
        assert not sum(row["cases"] for row in found)
        assert set(opened) <= cases, f"told and in no night: {sorted(set(opened) - cases)}"


def say(run: str, row: dict[str, Any]) -> None:
    print(
        f"| {run} | {row['live']:,}, {row['night']:,}, {row['judged']:,} | {row['status']} | {row['p']:.1e} | "
        f"{row['density']:.1e} | {row['anomalies']:,}, {row['anomaly']} | {row['regime']} | {row['sensors']} | "
        f"{row['n_events']}, {row['events']} | {row['cases']} |",
        flush=True,
    )


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--days", type=int, default=60, help="days of the plant")
    parser.add_argument("--learn-days", type=int, default=21, help="days that are there before the watch begins")
    parser.add_argument("--nights", type=int, default=3, help="how many nights there are in the days that are replayed")
    parser.add_argument("--speed", type=float, default=0.0, help="times the speed of the plant; 0: as fast as it goes")
    parser.add_argument("--drift", action="store_true", help="follow drift in each night too")
    parser.add_argument("--serve", type=Path, help="watch the plant in this folder, in this process")
    parser.add_argument("--port", type=int, default=0, help="with --serve: the broker to follow")
    arguments = parser.parse_args()
    smoke = arguments.smoke
    if arguments.serve:
        serve(arguments.serve, arguments.port, smoke=smoke)
        return
    if MOSQUITTO is None:
        print("skipped: mosquitto is not installed")
        return
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        replay(
            Path(name),
            learn_days=2 if smoke else arguments.learn_days,
            days=4 if smoke else arguments.days,
            speed=arguments.speed,
            n_nights=2 if smoke else arguments.nights,
            drift=arguments.drift,
            smoke=smoke,
        )


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    main()
