"""MQTT: readings as JSON objects or as Sparkplug B, each acknowledged once its scores are on the disk.

The session is kept by the broker while the watch is away, so what comes with QoS 1 waits there. What was sent twice,
because an acknowledgement was lost, is refused by its time.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pwflow_core.config import PlantConfig
from pwflow_core.edge.lines import LineReader, Readings
from pwflow_core.errors import ConfigurationError
from pwflow_core.watching.arriving import Arrived, join_readings
from pwflow_core.watching.sparkplug import PREFIX, Nodes, ask_for_birth

if TYPE_CHECKING:
    from paho.mqtt.client import Client

__all__ = ["Broker", "connect", "matches"]

_USER, _PASSWORD = "PWFLOW_MQTT_USER", "PWFLOW_MQTT_PASSWORD"
_PORTS = {"mqtt": 1883, "mqtts": 8883}
_KEEPALIVE_SECONDS = 30
_LONGEST_DELAY_SECONDS = 30
_ASK_AGAIN_SECONDS = 60.0
_MOST_WAITING = 10_000
_MOST_MESSAGES = 5_000
_MOST_BYTES = 1_000_000
_NAME = re.compile(r"\{([^{}/]+)\}")


def connect(config: PlantConfig, suffix: str, *, manual_ack: bool) -> Client:
    """Return a client of the configured broker, which connects as soon as its loop runs, and again when it is cut.

    Raises:
        ConfigurationError: No package for MQTT is installed.
    """
    try:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion
    except ImportError:
        raise ConfigurationError("watch.broker takes the package paho-mqtt: pip install 'pwflow[watch]'.") from None
    url = urlsplit(config.watch.broker or "")
    client = Client(
        CallbackAPIVersion.VERSION2,
        client_id=f"pwflow-{config.plant.name}{suffix}",
        clean_session=False,
        manual_ack=manual_ack,
    )
    if user := os.environ.get(_USER):
        client.username_pw_set(user, os.environ.get(_PASSWORD))
    if url.scheme == "mqtts":
        client.tls_set()
    client.reconnect_delay_set(1, _LONGEST_DELAY_SECONDS)
    client.connect_async(url.hostname or "localhost", url.port or _PORTS[url.scheme], _KEEPALIVE_SECONDS)
    return client


def matches(pattern: str, topic: str) -> bool:
    """Tell whether a topic is one of those that a subscription means."""
    from paho.mqtt.client import topic_matches_sub

    return bool(topic_matches_sub(_subscribed(pattern), topic))


@dataclass(frozen=True)
class _Message:
    topic: str
    payload: bytes
    number: int
    qos: int
    at: float


class Broker:
    """What comes from a broker.

    Arguments:
        config: The plant.
        positions: What an earlier watch knew of Sparkplug nodes.

    Raises:
        ConfigurationError: No package for MQTT is installed.
    """

    name = "mqtt"
    is_over = False

    def __init__(self, config: PlantConfig, positions: Mapping[str, str]) -> None:
        self.refused: Counter[str] = Counter()
        self._topics = config.watch.topics
        self._patterns = [(_expression(topic), topic) for topic in self._topics]
        self._groups = config.watch.sparkplug
        self._nodes = Nodes(positions)
        self._asked_at: dict[str, float] = {}
        self._reader: LineReader | None = None
        self._spark_reader: LineReader | None = None
        self._machine: str | None = None
        self._n_sensors = 0
        self._waiting: deque[_Message] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        self._client = connect(config, "", manual_ack=True)
        self._client.on_connect = self._subscribe
        self._client.on_message = self._receive
        self._client.loop_start()

    @property
    def is_connected(self) -> bool:
        """Whether the broker is there."""
        return bool(self._client.is_connected())

    def use(self, rules: Mapping[str, Any]) -> None:
        """See `Source`."""
        self._count()
        self._reader = LineReader(rules)
        self._spark_reader = LineReader(self._nodes.rules(rules))
        self._machine, self._n_sensors = rules["machine"], len(rules["sensors"])

    def take(self, wait_seconds: float) -> Arrived | None:
        """See `Source`."""
        with self._changed:
            if not self._waiting:
                self._changed.wait(wait_seconds)
            messages = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MOST_MESSAGES))]
            self._changed.notify_all()
        if not messages:
            return None
        parts, positions = list[Readings](), dict[str, str]()
        for message in messages:
            parts += self._read(message, positions)
        self._count()
        return Arrived(join_readings(parts, self._n_sensors), messages[0].at, positions, messages)

    def settle(self, arrived: Arrived) -> None:
        """See `Source`: only now does the broker forget what was sent."""
        for message in arrived.handle:
            if message.qos:
                self._client.ack(message.number, message.qos)

    def close(self) -> None:
        """See `Source`."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._client.disconnect()
        self._client.loop_stop()

    def _read(self, message: _Message, positions: dict[str, str]) -> list[Readings]:
        """Return the readings of a message, and note what its node is known by from then on."""
        if self._reader is None or self._spark_reader is None:
            return []
        if len(message.payload) > _MOST_BYTES:
            self.refused["message_too_long"] += 1
            return []
        if message.topic.startswith(f"{PREFIX}/") and self._groups:
            lines = self._nodes.read(message.topic, message.payload, positions)
            self.refused += self._nodes.refused
            self._nodes.refused.clear()
            self._ask_for_births()
            return [self._spark_reader.read(lines)] if lines else []
        return [self._reader.read(self._lines(message))]

    def _ask_for_births(self) -> None:
        """Ask nodes for their birth certificates, each once in a while."""
        now = time.monotonic()
        for topic in self._nodes.unborn:
            if now - self._asked_at.get(topic, -_ASK_AGAIN_SECONDS) >= _ASK_AGAIN_SECONDS:
                self._asked_at[topic] = now
                self._client.publish(topic, ask_for_birth())
        self._nodes.unborn.clear()

    def _lines(self, message: _Message) -> list[str]:
        """Return the readings of a message as lines; what its topic says is a column of each."""
        said = next((m.groupdict() for pattern, _ in self._patterns if (m := pattern.fullmatch(message.topic))), {})
        text = message.payload.decode("utf-8", errors="surrogateescape").strip()
        if not said and not text.startswith("["):
            return [text or "{"]
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return ["{"]
        named = {_name_of(key): value for key, value in said.items()}
        rows = found if isinstance(found, list) else [found]
        return [json.dumps({**named, **row}) if isinstance(row, dict) else "{" for row in rows]

    def _subscribe(self, client: Client, *_: object) -> None:
        for topic in self._topics:
            client.subscribe(_subscribed(topic), qos=1)
        for group in self._groups:
            client.subscribe(f"{PREFIX}/{group}/#", qos=1)

    def _receive(self, client: Client, data: object, message: Any) -> None:  # noqa: ANN401 - a message of paho
        """Take a message; while too many wait, nothing is read from the broker."""
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        taken = _Message(topic, message.payload[: _MOST_BYTES + 1], message.mid, message.qos, time.time())
        with self._changed:
            while len(self._waiting) >= _MOST_WAITING and not self._is_closed:
                self._changed.wait(1.0)
            self._waiting.append(taken)
            self._changed.notify_all()

    def _count(self) -> None:
        for reader in (self._reader, self._spark_reader):
            if reader is not None:
                self.refused += reader.refused
                reader.refused.clear()


def _subscribed(topic: str) -> str:
    """Return what is subscribed to: a level in braces stands for any."""
    return _NAME.sub("+", topic)


def _expression(topic: str) -> re.Pattern[str]:
    """Return the pattern of the topics of a subscription, with a group for each level in braces."""
    parts = []
    for place, level in enumerate(topic.split("/")):
        named = _NAME.fullmatch(level)
        if named:
            parts.append(f"(?P<_{place}_{named[1].encode().hex()}>[^/]*)")
        else:
            parts.append({"+": "[^/]*", "#": ".*"}.get(level, re.escape(level)))
    return re.compile("/".join(parts), re.DOTALL)


def _name_of(group: str) -> str:
    return bytes.fromhex(group.rpartition("_")[2]).decode()
