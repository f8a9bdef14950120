"""What goes wrong around a watch: it is killed, the broker or the network goes away, the clock is set back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from datetime import timedelta

import numpy as np
import pytest

from pwflow_core.notifying.delivering import send_waiting, tell
from pwflow_core.warehouse import utc_now
from tests.conftest import query
from tests.notifying.conftest import SECRET, receiver  # noqa: F401 - a fixture
from tests.processes import REPOSITORY
from tests.watching.conftest import add_lines, have_a_night, later_readings, live, make_watch, open_watched
from tests.watching.test_mqtt import broker, client_of, needs_mosquitto, publish, rows_of, wait_for  # noqa: F401

TOPICS = ["plant/{machine}/readings"]
WATCH_BROKER = """
import os, signal, sys
sys.path.insert(0, {repository!r})
os.environ |= {environment!r}
import pwflow_core.watching.mqtt as mqtt
mqtt._KEEPALIVE_SECONDS = mqtt._LONGEST_DELAY_SECONDS = 1
from tests.watching.conftest import make_watch
watch = make_watch(plant, lambda _, positions: mqtt.Broker(plant.config, positions(mqtt.Broker.name)), once=False)
signal.signal(signal.SIGINT, lambda *_: watch.stop())
watch.run()
"""
NETWORK = "pwflow-test"
HERE, THERE = "198.18.7.1", "198.18.7.2"
"""Addresses for tests of networks (RFC 2544)."""


@pytest.fixture
def notified(watched, receiver, monkeypatch):  # noqa: F811
    """Return a function that opens the watched plant with a target that was told all that there is to tell by now."""

    def make(**watch):
        monkeypatch.setenv("TEST_HOOK_URL", receiver.url)
        monkeypatch.setenv("TEST_HOOK_SECRET", SECRET)
        hook = {"url_env": "TEST_HOOK_URL", "secret_env": "TEST_HOOK_SECRET", "most_per_hour": 1000}
        plant = open_watched(watched.config.folder, notify={"targets": {"hook": hook}}, watch=watch)
        tell(plant)
        receiver.got.clear()
        return plant

    return make


def code_of_watch(receiver) -> str:  # noqa: F811
    environment = {"TEST_HOOK_URL": receiver.url, "TEST_HOOK_SECRET": SECRET}
    return WATCH_BROKER.format(repository=str(REPOSITORY), environment=environment)


def assert_nothing_is_lost_or_told_twice(plant, readings, receiver):  # noqa: F811
    """Compare with a night; a message that was sent again after a kill has its id again, and counts once."""
    scores = live(plant)
    messages = dict(zip(receiver.ids, receiver.documents, strict=True))
    told = [(part["kind"], part["subject"]) for message in messages.values() for part in message["notices"]]
    assert len(told) == len(set(told))
    assert len(scores) == len(readings)
    add_lines(plant, readings)
    have_a_night(plant)
    night = query(
        plant,
        "SELECT epoch_us(ts), p_value FROM mart.anomaly_scores WHERE ts >= '2024-03-02 01:00' ORDER BY machine_id, ts",
    )
    assert scores.ts.tolist() == [ts for ts, _ in night]
    np.testing.assert_allclose(
        scores.p_value.astype(float), np.array([p for _, p in night], dtype=float), rtol=0, atol=1e-9
    )
    cases = {f"case {key}" for (key,) in query(plant, "SELECT case_id FROM mart.cases")}
    opened = {subject for kind, subject in told if kind == "opened"}
    assert opened
    assert opened <= cases


def test_a_clock_that_is_set_back_loses_nothing_and_tells_nothing_twice(notified, receiver, monkeypatch):  # noqa: F811
    plant, readings, real = notified(), later_readings(), time.time
    parts = np.array_split(np.arange(len(readings)), 3)
    for hours, part in zip((0, -3, -1), parts, strict=True):
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda hours=hours: real() + 3600 * hours)
            for module in ("watching.cases", "watching.service", "notifying.delivering"):
                patch.setattr(f"pwflow_core.{module}.utc_now", lambda hours=hours: utc_now() + timedelta(hours=hours))
            add_lines(plant, readings.iloc[part])
            make_watch(plant).run()
    make_watch(plant).run()  # the clock is right again: what waited for its time is sent
    (plant.config.folder / "data" / "later.csv").unlink()
    assert_nothing_is_lost_or_told_twice(plant, readings, receiver)


@needs_mosquitto
@pytest.mark.long(reason="50 kills of 2 CPU s: points of the same code are killed one by one at each push")
def test_kills_at_random_moments_and_a_broker_that_restarts_lose_nothing(notified, receiver, broker, stem):  # noqa: F811
    plant, readings = notified(broker=broker.url, topics=TOPICS), later_readings(500)
    rng, code, longest, counts = np.random.default_rng(8), code_of_watch(receiver), 2.5, [0]
    rows = rows_of(readings)
    with client_of(broker) as (client, _):
        process = start_watch(plant, code, [])
        score_the_first(plant, client, rows[0], process)
        process.kill()
        process.wait()
        for turn, part in enumerate(np.array_split(np.arange(1, len(rows) - 10), 50)):
            publish(client, [rows[i] for i in part])
            assert stem.run(plant, code, kill_after=float(rng.uniform(0.0, longest))).was_killed
            counts.append(len(live(plant)))
            if turn % 5 == 4:
                broker.stop()
                broker.start()
                wait_for(client.is_connected)
                if counts[-1] == counts[-5]:  # on a busy machine each was killed before it had begun
                    longest *= 2
        assert len(set(counts)) > 5
        publish(client, rows[-10:])
        finish_in_a_process(plant, code, len(readings))
    assert_nothing_is_lost_or_told_twice(plant, readings, receiver)


@pytest.fixture
def network():
    """Return a function that cuts the network between this machine and a namespace of its own, or joins it again."""
    ip = shutil.which("ip") or shutil.which("ip", path="/usr/sbin:/sbin")
    if ip is None or os.geteuid() != 0:
        pytest.skip("a network namespace takes root and the command ip")

    def run(command: str) -> None:
        subprocess.run([ip, *command.split()], check=True, capture_output=True)

    try:
        run(f"netns add {NETWORK}")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespace can be made here: {error.stderr.decode().strip()}")
    try:
        run(f"link add pwflow-here type veth peer name pwflow-there netns {NETWORK}")
        run(f"addr add {HERE}/30 dev pwflow-here")
        run(f"-n {NETWORK} addr add {THERE}/30 dev pwflow-there")
        run("link set pwflow-here up")
        run(f"-n {NETWORK} link set lo up")
        run(f"-n {NETWORK} link set pwflow-there up")
        yield lambda state: run(f"link set pwflow-here {state}")
    finally:
        run(f"netns del {NETWORK}")


@needs_mosquitto
@pytest.mark.long(reason="three minutes; that a broker goes away and comes back is tried at each push")
def test_a_network_that_is_cut_for_an_hour_loses_nothing(notified, receiver, broker, network):  # noqa: F811
    """The hour is 120 times the keepalive, which is a second here and half a minute elsewhere."""
    broker.stop()
    broker.config.write_text(broker.config.read_text() + f"listener {broker.port} {HERE}\n")
    broker.start()
    plant = notified(broker=f"mqtt://{HERE}:{broker.port}", topics=TOPICS, poll_seconds=0.1)
    readings = later_readings(200)
    rows = rows_of(readings)
    with client_of(broker) as (client, _):
        process = start_watch(plant, code_of_watch(receiver), ["ip", "netns", "exec", NETWORK])
        try:
            score_the_first(plant, client, rows[0], process)
            publish(client, rows[1:100])
            wait_for(lambda: len(live(plant)) == 100, 120)
            network("down")
            publish(client, rows[100:200])
            time.sleep(120.0)
            assert len(live(plant)) == 100
            publish(client, rows[200:300])
            network("up")
            publish(client, rows[300:])
            wait_for(lambda: len(live(plant)) == len(readings), 300)
        finally:
            process.send_signal(2)
            output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    tell_what_waits(plant)
    assert_nothing_is_lost_or_told_twice(plant, readings, receiver)


def score_the_first(plant, client, row, process) -> None:
    """Publish a reading until it is scored: before the watch has subscribed, the broker keeps nothing for it."""
    for _ in range(150):
        assert process.poll() is None, process.stdout.read()
        publish(client, [row])
        time.sleep(2.0)
        if (plant.config.watch_folder / "live.sqlite").exists() and len(live(plant)):
            return
    raise AssertionError("the watch did not begin")


def finish_in_a_process(plant, code: str, n_readings: int) -> None:
    """Watch until all readings have come, and end as a person would end it."""
    process = start_watch(plant, code, [])
    try:
        wait_for(lambda: len(live(plant)) == n_readings, 300)
    finally:
        process.send_signal(2)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    tell_what_waits(plant)


def tell_what_waits(plant) -> None:
    """Send what could not be sent from where the watch was."""
    send_waiting(plant.config, now=utc_now() + timedelta(days=1))


def start_watch(plant, code: str, before: list[str]) -> subprocess.Popen[str]:
    from tests.conftest import _PREAMBLE
    from tests.processes import python_path

    return subprocess.Popen(
        [*before, sys.executable, "-c", _PREAMBLE + code, str(plant.config.folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": python_path()},
    )
