"""Sparkplug B: what the nodes and devices of a plant report, as one line for each moment that they report of.

A device reports what changed. So a reading has the last value of each of its metrics, since its birth certificate. The
machine is the device, or the node if it has none; metrics are the columns of the source.

The wire format is read with the package protobuf, by the numbers of the fields in `sparkplug_b.proto` of Eclipse Tahu.
The libraries for Sparkplug in Python want an MQTT client of before 2024, with which no program can keep a message first
and acknowledge it then.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

__all__ = ["PREFIX", "Nodes", "ask_for_birth", "payload_class"]

PREFIX = "spBv1.0"
_BOOLEAN = 11
_TIME, _MACHINE = "sparkplug time", "sparkplug machine"
_MOST_NODES = 10_000
_MOST_METRICS = 10_000
_FIELDS = {"name": (1, 9), "alias": (2, 4), "timestamp": (3, 4), "datatype": (4, 13), "is_null": (7, 8)}
_VALUES = {
    "int_value": (10, 13),
    "long_value": (11, 4),
    "float_value": (12, 2),
    "double_value": (13, 1),
    "boolean_value": (14, 8),
    "string_value": (15, 9),
}
_SIGNED = {1: 8, 2: 16, 3: 32, 4: 64}
"""Bits of the signed types, which are sent as unsigned ones."""


@dataclass
class _Node:
    """A node or device: the names of its metrics by their numbers, and their last values."""

    names: dict[str, str] = field(default_factory=dict)
    types: dict[str, int] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)


class Nodes:
    """What is known of nodes and devices.

    Arguments:
        positions: What `read` noted in an earlier watch, by place.

    Attributes:
        refused: Messages that could not be read, by reason.
        unborn: Topics of the commands to nodes whose birth certificates are not known.
    """

    def __init__(self, positions: Mapping[str, str]) -> None:
        self.refused: Counter[str] = Counter()
        self.unborn: set[str] = set()
        self._nodes = {place: _Node(**json.loads(known)) for place, known in positions.items()}

    @staticmethod
    def rules(source: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the lines of `read` are read by, given the part `source` of the rules of a bundle."""
        clock = {"timestamp": _TIME, "timestamp_format": "unix_ms", "timezone": None, "times": None}
        return {**source, **clock, "machine": _MACHINE if source["machine"] else None}

    def read(self, topic: str, payload: bytes, positions: dict[str, str]) -> list[str]:
        """Return the readings of a message as lines of JSON, and put what is known then into `positions`.

        Arguments:
            topic: Its topic, `spBv1.0/GROUP/TYPE/NODE` or `spBv1.0/GROUP/TYPE/NODE/DEVICE`.
            payload: What it holds.
            positions: Gets what is known of the node or device.
        """
        _, group, kind, *names = [*topic.split("/"), "", ""][:5]
        place = "/".join(filter(None, (group, *names)))
        if kind not in ("NBIRTH", "DBIRTH", "NDATA", "DDATA", "NDEATH", "DDEATH"):
            return []  # commands and states of hosts
        if kind.endswith("DEATH"):
            for known in [k for k in self._nodes if k == place or k.startswith(f"{place}/")]:
                self._nodes[known].values.clear()
                positions[known] = json.dumps(asdict(self._nodes[known]))
            return []
        try:
            message = payload_class().FromString(payload)
        except Exception:  # of a kind that depends on the release of protobuf
            self.refused["malformed_sparkplug"] += 1
            return []
        if kind.endswith("BIRTH"):
            if place not in self._nodes and len(self._nodes) >= _MOST_NODES:
                self.refused["unknown_machine"] += 1
                return []
            self._nodes[place] = _Node()
        node = self._nodes.get(place)
        if node is None:
            self.refused["no_birth_certificate"] += 1
            if len(self.unborn) < _MOST_NODES:
                self.unborn.add(f"{PREFIX}/{group}/NCMD/{names[0]}")
            return []
        moments = self._moments(node, message, is_birth=kind.endswith("BIRTH"))
        machine = next(filter(None, reversed(names)), "")
        lines = []
        for moment in sorted(moments):
            node.values |= moments[moment]
            lines.append(json.dumps({**node.values, _TIME: moment, _MACHINE: machine}))
        positions[place] = json.dumps(asdict(node))
        return lines

    def _moments(self, node: _Node, message: Any, *, is_birth: bool) -> dict[int, dict[str, Any]]:  # noqa: ANN401
        """Return the values of a message by their times, ms since 1970."""
        moments: dict[int, dict[str, Any]] = {}
        for metric in message.metrics:
            name = metric.name or node.names.get(str(metric.alias), "")
            if is_birth and name and len(node.types) < _MOST_METRICS:
                node.types[name] = metric.datatype
                if metric.HasField("alias"):
                    node.names[str(metric.alias)] = name
            if name not in node.types:
                self.refused["unknown_metric"] += 1
                continue
            moments.setdefault(metric.timestamp or message.timestamp, {})[name] = _value(
                metric, metric.datatype or node.types[name]
            )
        return moments


def _value(metric: Any, datatype: int) -> Any:  # noqa: ANN401 - what protobuf makes
    kind = next((name for name in _VALUES if metric.HasField(name)), None)
    if kind is None or metric.is_null:
        return None
    value = getattr(metric, kind)
    bits = _SIGNED.get(datatype)
    if bits is not None and kind in ("int_value", "long_value"):
        value &= (1 << bits) - 1
        value -= (value >> (bits - 1)) << bits
    return value


def ask_for_birth() -> bytes:
    """Return the command by which a host asks a node for its birth certificates."""
    payload = payload_class()(timestamp=int(1000 * time.time()))
    payload.metrics.add(name="Node Control/Rebirth", datatype=_BOOLEAN, boolean_value=True)
    asked: bytes = payload.SerializeToString()
    return asked


@cache
def payload_class() -> Any:  # noqa: ANN401 - a class that protobuf makes
    """Return the class of payloads, with the fields that are read here; protobuf skips the others."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="pwflow_sparkplug.proto", package="pwflow", syntax="proto2")
    metric, payload = file.message_type.add(name="Metric"), file.message_type.add(name="Payload")
    for name, (number, kind) in {**_FIELDS, **_VALUES}.items():
        metric.field.add(name=name, number=number, type=kind, label=1)
    payload.field.add(name="timestamp", number=1, type=4, label=1)
    payload.field.add(name="metrics", number=2, type=11, label=3, type_name=".pwflow.Metric")
    payload.field.add(name="seq", number=3, type=4, label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("pwflow.Payload"))
