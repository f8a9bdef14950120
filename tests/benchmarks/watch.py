"""What watching takes: lag and CPU time per reading at 100, 1,000 and 10,000 readings a second, on one core.

    python tests/benchmarks/watch.py

A plant with 100 machines, eight sensors and eight regimes is trained. A process of its own, bound to one core, watches
it: lines of CSV on standard input, or a message of JSON for each reading over a mosquitto on this machine (QoS 1). This
process sends readings at a steady rate, ten times a second. The lag is from the moment when a reading is sent until
its score is written; CPU time is all of the watching process, with its events, cases and published file. Prints a
Markdown table. Not part of the test suite: some minutes.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from edge import readings_of
from measuring import command_line

N_SENSORS, N_MACHINES, TICKS = 8, 100, 10
START = 1_704_067_200
NAMES = [f"s{i}" for i in range(N_SENSORS)]
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")


def configuration(broker: str | None, max_steps: int) -> dict[str, Any]:
    watch = {"listen": ""} | ({"broker": broker, "topics": ["readings"]} if broker else {})
    return {
        "clustering": {"n_clusters": 8},
        "flow": {"max_steps": max_steps},
        "features": {"windows": []},
        "watch": watch,
    }


def open_in(folder: Path, broker: str | None, max_steps: int = 1):
    from plants import open_plant

    return open_plant(folder, NAMES, {"path": "data/*.parquet"}, **configuration(broker, max_steps))


def train(folder: Path, n_rows: int, max_steps: int) -> int:
    """Train a plant and copy what the watch needs; return when its readings end, seconds since 1970."""
    import pandas as pd
    from plants import learn_and_score, plant_of, read_all

    from pwflow_core.watching.copying import copy_night

    frame = pd.DataFrame(readings_of(n_rows, N_SENSORS), columns=NAMES)
    minutes = np.arange(n_rows) // N_MACHINES
    frame.insert(0, "ts", pd.to_datetime(START + 60 * minutes, unit="s"))
    frame.insert(1, "machine", [f"m{i % N_MACHINES}" for i in range(n_rows)])
    plant = plant_of(folder, frame, NAMES, **configuration(None, max_steps))
    read_all(plant)
    learn_and_score(plant)
    copy_night(plant, plant.config.watch_folder)
    return START + 60 * int(minutes[-1])


def serve(folder: Path, broker: str | None) -> None:
    """Watch in this process, on one core, until it is interrupted; print what it took."""
    import signal

    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    from pwflow_core.watching.mqtt import Broker
    from pwflow_core.watching.service import Watch
    from pwflow_core.watching.standard_input import StandardInput

    plant = open_in(folder, broker)

    def open_source(night, positions):
        return Broker(plant.config, positions(Broker.name)) if broker else StandardInput(sys.stdin.buffer, is_csv=True)

    watch = Watch(plant, open_source)
    signal.signal(signal.SIGINT, lambda *_: watch.stop())
    watch.run()
    used = os.times()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    peak = int(status["VmHWM"].split()[0]) / 1024
    print(json.dumps({"cpu": used.user + used.system, "mib": peak, "readings": watch.counts.readings}))


class Lines:
    """Sends readings as lines of CSV."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._write((",".join(["ts", "machine", *NAMES]) + "\n").encode())

    def send(self, rows: list[dict[str, Any]]) -> None:
        text = io.StringIO()
        for row in rows:
            text.write(",".join(map(str, row.values())) + "\n")
        self._write(text.getvalue().encode())

    def end(self) -> None:
        self._process.stdin.close()

    def _write(self, data: bytes) -> None:
        self._process.stdin.write(data)
        self._process.stdin.flush()


class Messages:
    """Sends readings as messages of JSON."""

    def __init__(self, port: int) -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.max_inflight_messages_set(1000)
        self._client.max_queued_messages_set(20_000)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def send(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            text = json.dumps(row)
            while self._client.publish("readings", text, qos=1).rc:  # too many are on their way
                time.sleep(0.005)

    def end(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def send_all(send: Callable[[list[dict[str, Any]]], None], rate: int, seconds: float, since: int) -> dict[str, float]:
    """Send readings at a rate; return when each was sent, by machine and time."""
    n = int(rate * seconds)
    X = readings_of(n, N_SENSORS, seed=3).round(6)
    sent: dict[str, float] = {}
    begin, done = time.time(), 0
    while done < n:
        time.sleep(max(0.0, begin + done / rate + 1 / TICKS - time.time()))
        now = time.time()
        until = min(n, max(done + 1, int((now - begin) * rate)))
        rows = []
        for i in range(done, until):
            at = since + 60 * (1 + i // N_MACHINES)
            stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
            rows.append({"ts": stamp, "machine": f"m{i % N_MACHINES}", **dict(zip(NAMES, X[i].tolist(), strict=True))})
            sent[f"m{i % N_MACHINES} {at}"] = now
        send(rows)
        done = until
    return sent


def measure(folder: Path, source: str, rate: int, seconds: float, since: int) -> list[float]:
    """Return p50 and p99 of the lag, CPU time per reading in µs, the share of the core, and the peak memory in MiB."""
    for left in folder.glob(".pwflow/*.watch/live.sqlite*"):
        left.unlink()
    with tempfile.TemporaryDirectory() as place, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        broker = None
        if source == "MQTT":
            config = Path(place) / "mosquitto.conf"
            config.write_text(
                f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 1000\nmax_queued_messages 0\n"
            )
            broker = subprocess.Popen([MOSQUITTO, "-c", config], stderr=subprocess.DEVNULL)
            time.sleep(1.0)
        url = ["--broker", f"mqtt://127.0.0.1:{port}"] if broker else []
        watching = subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__, "--serve", folder, *url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        store = next(folder.glob(".pwflow/*.watch")) / "live.sqlite"
        while not store.exists():
            time.sleep(0.1)
        time.sleep(3.0)  # it has started
        begun = cpu_seconds(watching.pid)
        sender = Messages(port) if broker else Lines(watching)
        sent = send_all(sender.send, rate, seconds, since)
        with closing(sqlite3.connect(store, timeout=60)) as live:
            until = time.time() + 600
            while live.execute("SELECT count(*) FROM live_scores").fetchone()[0] < len(sent) and time.time() < until:
                time.sleep(0.5)
            rows = live.execute("SELECT machine_id, ts / 1000000, scored_at / 1e6 FROM live_scores").fetchall()
        sender.end()
        watching.send_signal(2)
        found = json.loads(watching.stdout.read().splitlines()[-1])
        watching.wait()
        if broker:
            broker.terminate()
            broker.wait()
    assert len(rows) == len(sent), f"{len(sent) - len(rows)} readings were lost"
    lag = np.array([scored_at - sent[f"{machine} {at}"] for machine, at, scored_at in rows])
    taken = max(scored_at for *_, scored_at in rows) - min(sent.values())
    cpu = found["cpu"] - begun
    return [*np.percentile(lag, (50, 99)), 1e6 * cpu / len(rows), cpu / taken, found["mib"]]


def cpu_seconds(process: int) -> float:
    """Return the CPU time of a process so far."""
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--serve", type=Path, help="watch the plant in this folder, in this process")
    parser.add_argument("--broker", help="with --serve: the broker to follow")
    parser.add_argument("--rates", default="100,1000,10000", help="readings a second")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each rate lasts")
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.broker)
        return
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    smoke = arguments.smoke
    print(
        "| source | readings a second | lag p50, s | lag p99, s | CPU per reading, µs | CPU s per s | memory, MiB |\n"
        "|---|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as name:
        since = train(Path(name), 20_000 if smoke else 60_000, 20 if smoke else 100)
        for source in ("lines", "MQTT"):
            if source == "MQTT" and MOSQUITTO is None:
                print("MQTT: skipped, mosquitto is not installed")
                continue
            for rate in (100,) if smoke else map(int, arguments.rates.split(",")):
                middle, most, cpu, share, mib = measure(
                    Path(name), source, rate, 2 if smoke else arguments.seconds, since
                )
                print(
                    f"| {source} | {rate:,} | {middle:.2f} | {most:.2f} | {cpu:,.0f} | {share:.2f} | {mib:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    main()
