"""The section `[watch]` of `pwflow.toml`: what `pwflow watch` follows between two nights, and where it says so."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from pwflow_core.config.base import Section

__all__ = ["WatchConfig"]


_BROKER = re.compile(r"mqtts?://(?:\[[0-9a-fA-F:.]+\]|[^\s/@:?#]+)(?::\d{1,5})?/?")
_LISTEN = re.compile(r"(?:(?:\[[0-9a-fA-F:.]+\]|[^\s/@:]+):\d{1,5})?")


class WatchConfig(Section):
    """What `pwflow watch` follows; without `topics` and `sparkplug`, the files of `source.path`."""

    broker: str | None = None
    """MQTT broker such as `mqtt://localhost` or `mqtts://broker.plant:8883`. User and password are in the environment
    variables PWFLOW_MQTT_USER and PWFLOW_MQTT_PASSWORD, never here."""
    topics: tuple[str, ...] = ()
    """Topics with readings as JSON, such as ["plant/{machine}/readings"]: an object with the columns of the source, or
    a list of them. What is in braces is a column that the topic gives; `+` and `#` are as in MQTT."""
    sparkplug: tuple[str, ...] = ()
    """Groups of Sparkplug B that are followed. The machine is the device, metrics are the columns of the source."""
    publish_to: str | None = None
    """Topic that score and state of each machine are written back to, such as `pwflow/{machine}`."""
    listen: str = "127.0.0.1:9464"
    """Address of /health and of /metrics for Prometheus; an empty text for none."""
    poll_seconds: Annotated[float, Field(gt=0, le=3600)] = 1.0
    """How often the folder is looked at for new files and new lines."""
    publish_seconds: Annotated[float, Field(gt=0, le=3600)] = 5.0
    """How often the live scores are written to the file that analysts open. It takes at most a tenth of the time."""
    most_readings: Annotated[int, Field(ge=1_000)] = 1_000_000
    """Live scores that are kept. The night replaces them; without one, the oldest go."""

    @field_validator("broker")
    @classmethod
    def _broker_without_secrets(cls, broker: str | None) -> str | None:
        if broker is not None and not _BROKER.fullmatch(broker):
            raise ValueError(
                "expected mqtt://HOST, mqtts://HOST or the same with a port, without user and password: these are in "
                "PWFLOW_MQTT_USER and PWFLOW_MQTT_PASSWORD"
            )
        return broker

    @field_validator("listen")
    @classmethod
    def _address(cls, listen: str) -> str:
        if not _LISTEN.fullmatch(listen):
            raise ValueError("expected ADDRESS:PORT such as 127.0.0.1:9464, or an empty text")
        return listen

    @field_validator("publish_to")
    @classmethod
    def _topic_for_each_machine(cls, publish_to: str | None) -> str | None:
        if publish_to is not None and ("{machine}" not in publish_to or re.search(r"[+#]|^/|/$|^$", publish_to)):
            raise ValueError("expected a topic with {machine} in it and without + and #, such as pwflow/{machine}")
        return publish_to

    @model_validator(mode="after")
    def _has_a_broker(self) -> WatchConfig:
        used = [name for name in ("topics", "sparkplug", "publish_to") if getattr(self, name)]
        if used and self.broker is None:
            raise ValueError(f"{used[0]}: expected a broker too, such as broker = 'mqtt://localhost'")
        return self

    @property
    def is_mqtt(self) -> bool:
        """Whether readings come from a broker."""
        return bool(self.topics or self.sparkplug)
