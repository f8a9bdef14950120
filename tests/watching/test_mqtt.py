"""MQTT over a real broker: readings in, scores out, and no reading lost or doubled by a broker that goes away."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from pwflow_core.errors import ConfigurationError
from pwflow_core.watching.mqtt import Broker
from pwflow_core.watching.returning import Returning
from pwflow_core.watching.sparkplug import Nodes, ask_for_birth, payload_class
from tests.conftest import config_of, query
from tests.watching.conftest import add_lines, have_a_night, later_readings, live, make_watch, open_watched

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
needs_mosquitto = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


class RealBroker:
    """A mosquitto on this machine, that keeps sessions and messages in a file."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.config = folder / "mosquitto.conf"
        self.config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence true\n"
            f"persistence_location {folder}/\nautosave_interval 1\nautosave_on_changes true\n"
            "max_inflight_messages 200\nmax_queued_messages 0\nuser root\n"
        )
        self.start()

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process = subprocess.Popen([MOSQUITTO, "-c", str(self.config)], stderr=subprocess.DEVNULL)
        wait_for(self._answers)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture
def broker(tmp_path):
    (tmp_path / "broker").mkdir()
    made = RealBroker(tmp_path / "broker")
    yield made
    made.stop()


def wait_for(test, seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.02)


@contextmanager
def client_of(broker: RealBroker, topic: str | None = None):
    """Yield a client, and the messages of a topic that it got."""
    client, got = Client(CallbackAPIVersion.VERSION2), []
    client.on_message = lambda _client, _data, message: got.append((message.topic, message.payload, message.retain))
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    if topic:
        client.subscribe(topic, qos=1)
    yield client, got
    client.disconnect()
    client.loop_stop()


@contextmanager
def watching(plant):
    """Run a watch of a broker in a thread."""
    watch = make_watch(plant, lambda _, positions: Broker(plant.config, positions(Broker.name)), once=False)
    thread = threading.Thread(target=watch.run)
    thread.start()
    wait_for(lambda: watch._source is not None and watch._source.is_connected)
    yield watch
    watch.stop()
    thread.join(60)
    assert not thread.is_alive()


def rows_of(readings) -> list[dict]:
    return readings.astype(object).where(readings.notna(), None).to_dict(orient="records")


def publish(client: Client, rows: list[dict]) -> None:
    for row in rows:
        machine = row["machine"]
        said = {name: value for name, value in row.items() if name != "machine"}
        client.publish(f"plant/{machine}/readings", json.dumps(said), qos=1).wait_for_publish(20)


@needs_mosquitto
def test_readings_over_a_broker_that_goes_away_are_scored_once_and_as_the_night_does(watched, broker):
    plant = open_watched(
        watched.config.folder,
        watch={
            "broker": broker.url,
            "topics": ["plant/{machine}/readings", "batches"],
            "publish_to": "pwflow/{machine}",
            "poll_seconds": 0.02,
        },
    )
    readings = later_readings(110)
    readings.loc[readings.index[100:120], "pressure"] += 25.0
    rows = rows_of(readings)
    with client_of(broker, "pwflow/+") as (client, written):
        with watching(plant) as watch:
            publish(client, rows[:60])
            client.publish("batches", json.dumps(rows[60:100]), qos=1)
            wait_for(lambda: watch.counts.readings == 100)
            broker.stop()
            wait_for(lambda: "source" in watch.troubles)
            broker.start()
            wait_for(lambda: client.is_connected() and watch._source.is_connected and not watch.troubles)
            client.subscribe("pwflow/+", qos=1)
            publish(client, rows[100:140])
            wait_for(lambda: watch.counts.readings == 140)
        publish(client, rows[140:180])  # nobody watches: the broker keeps them
        with watching(plant) as watch:
            publish(client, rows[180:] + rows[170:175])
            wait_for(lambda: watch.counts.readings == 80 and watch.counts.refused.total() == 5)
            assert watch.counts.refused["late"] + watch.counts.refused["duplicate"] == 5
            states = {topic: json.loads(payload)["state"] for topic, payload, _ in written}
            wait_for(lambda: len({topic for topic, *_ in written}) == 2)
    scores = live(plant)
    assert len(scores) == len(readings) == 220
    add_lines(plant, readings)
    have_a_night(plant)
    night = query(
        plant,
        "SELECT epoch_us(ts), p_value, is_anomaly FROM mart.anomaly_scores WHERE ts >= '2024-03-02 01:00' "
        "ORDER BY machine_id, ts",
    )
    assert scores.ts.tolist() == [ts for ts, *_ in night]
    np.testing.assert_allclose(
        scores.p_value.astype(float), np.array([p for _, p, _ in night], dtype=float), rtol=0, atol=1e-6
    )
    found = {
        (json.loads(p)["machine"], json.loads(p)["ts"]) for _, p, _ in written if json.loads(p)["state"] == "anomaly"
    }
    assert len(found) >= 0.5 * scores.is_anomaly.sum() > 0
    assert set(states) <= {"pwflow/press-1", "pwflow/press-2"}


@needs_mosquitto
def test_bad_input_on_the_wire_is_counted_by_its_kind_and_the_watch_goes_on(watched, broker):
    topics = {"topics": ["plant/{machine}/readings", "other/#"], "sparkplug": ["works"]}
    plant = open_watched(watched.config.folder, watch={"broker": broker.url, **topics})
    good = {"ts": "2024-03-02T01:00:00Z", "recipe": "B", "temperature": 30.0, "pressure": 13.0}
    with client_of(broker) as (client, _), watching(plant) as watch:
        bad = [
            ("plant/press-1/readings", b"{"),
            ("plant/press-1/readings", b"\xff\xfe\x00"),
            ("plant/press-1/readings", b"[1, {}, null]"),
            ("plant/press-1/readings", b""),
            ("plant/press-1/readings", json.dumps(good | {"ts": "soon"}).encode()),
            ("plant/nobody/readings", json.dumps(good).encode()),
            ("other/" + "t" * 65_000, json.dumps(good).encode()),
            ("other/x", json.dumps(good | {"machine": "m" * 900_000}).encode()),
            ("other/x", b"x" * 1_500_000),
            ("other/x", b"[" * 100_000),
            ("spBv1.0/works/DDATA/n/press-1", b"no protobuf"),
            ("spBv1.0/works/DDATA/n/press-1", payload_class()(timestamp=1).SerializeToString()),
            ("spBv1.0/works", b""),
            ("plant/press-1/readings", json.dumps(good | {"temperature": "warm"}).encode()),
            ("plant/press-2/readings", b'{"ts": "2024-03-02T01:00:00Z", "recipe": "B", "temperature": NaN}'),
        ]
        for topic, payload in bad:
            client.publish(topic, payload, qos=1).wait_for_publish(20)
        client.publish("plant/press-1/readings", json.dumps(good | {"ts": "2024-03-02T01:01:00Z"}), qos=1)
        wait_for(lambda: watch.counts.readings == 3)
    refused = dict(watch.counts.refused)
    assert refused.pop("malformed_line") >= 5
    assert refused.pop("missing_timestamp") == 1
    assert refused == {
        "unreadable_timestamp": 1,
        "unknown_machine": 2,
        "missing_machine": 1,
        "message_too_long": 1,
        "malformed_sparkplug": 1,
        "no_birth_certificate": 1,
    }
    assert watch.counts.by_status == {"invalid": 1, "missing": 1, "scored": 1}


BIRTH = bytes.fromhex(
    "08809db3e5df3112210a0b74656d7065726174757265100118809db3e5df31200a690000000000803e40121b0a087072657373757265100218"
    "809db3e5df31200350fcffffff0f12160a06726563697065100318809db3e5df31200c7a01421801"
)
"""Made by pysparkplug 0.6.1: a device with temperature 30.5 (alias 1), pressure -4 (Int32) and recipe "B"."""
DATA = bytes.fromhex("08e0f1b6e5df311212100118e0f1b6e5df31690000000000403f401802")
"""Made by pysparkplug 0.6.1: a minute later, alias 1 is 31.25."""


@pytest.mark.quick
def test_sparkplug_devices_report_what_changed_and_readings_have_the_last_of_each():
    nodes, kept = Nodes({}), {}
    assert nodes.read("spBv1.0/works/DDATA/n/press-1", DATA, kept) == []
    assert nodes.unborn == {"spBv1.0/works/NCMD/n"}
    lines = nodes.read("spBv1.0/works/DBIRTH/n/press-1", BIRTH, kept)
    lines += nodes.read("spBv1.0/works/DDATA/n/press-1", DATA, kept)
    said = {"temperature": 30.5, "pressure": -4, "recipe": "B"}
    begun = {"sparkplug time": 1_709_341_200_000, "sparkplug machine": "press-1"}
    assert [json.loads(line) for line in lines] == [
        said | begun,
        said | begun | {"temperature": 31.25, "sparkplug time": 1_709_341_260_000},
    ]
    restarted = Nodes(kept)
    [line] = restarted.read("spBv1.0/works/DDATA/n/press-1", DATA, {})
    assert json.loads(line)["pressure"] == -4
    assert restarted.read("spBv1.0/works/NDEATH/n", b"", {}) == []
    [line] = restarted.read("spBv1.0/works/DDATA/n/press-1", DATA, {})
    assert "pressure" not in json.loads(line), "what it said before it was gone does not hold"
    assert restarted.read("spBv1.0/works/NCMD/n", b"", {}) == restarted.read("spBv1.0/STATE/host", b"", {}) == []
    asked = payload_class().FromString(ask_for_birth())
    assert (asked.metrics[0].name, asked.metrics[0].boolean_value) == ("Node Control/Rebirth", True)


@needs_mosquitto
def test_sparkplug_over_a_broker_is_scored_and_an_unborn_node_is_asked_for_its_birth(watched, broker):
    plant = open_watched(watched.config.folder, watch={"broker": broker.url, "sparkplug": ["works"]})
    with client_of(broker, "spBv1.0/works/NCMD/#") as (client, got):
        with watching(plant) as watch:
            client.publish("spBv1.0/works/DDATA/n/press-1", DATA, qos=1)
            wait_for(lambda: got)
            client.publish("spBv1.0/works/DBIRTH/n/press-1", BIRTH, qos=1)
            wait_for(lambda: watch.counts.readings == 1)
        with watching(plant) as watch:
            client.publish("spBv1.0/works/DDATA/n/press-1", DATA, qos=1)
            wait_for(lambda: watch.counts.readings == 1)
    assert [topic for topic, *_ in got] == ["spBv1.0/works/NCMD/n"]
    scores = live(plant)
    assert scores.ts.tolist() == [1_709_341_200_000_000, 1_709_341_260_000_000]
    assert set(scores.segment) == {"B"}


@pytest.mark.quick
def test_a_broker_is_named_without_secrets_and_the_watch_never_reads_what_it_writes():
    for wrong in (
        {"broker": "mqtt://me:hunter2@host"},
        {"topics": ["a"]},
        {"broker": "mqtt://host", "publish_to": "scores"},
        {"broker": "mqtt://host", "publish_to": "{machine}/#"},
        {"listen": "9464"},
    ):
        with pytest.raises(ConfigurationError, match=r"watch"):
            config_of(watch=wrong)
    loop = config_of(watch={"broker": "mqtt://host", "topics": ["pwflow/#"], "publish_to": "pwflow/{machine}"})
    with pytest.raises(ConfigurationError, match="would read what it writes"):
        Returning(loop)
    with pytest.raises(ConfigurationError) as refused:
        config_of(watch={"broker": "mqtt://me:hunter2@host"})
    assert "hunter2" not in str(refused.value)
