"""Writing back: the score and the state of each machine to MQTT, for control rooms and historians.

Each batch writes the latest score of each machine, and every anomaly. The last message of a machine is retained:
whoever subscribes later knows its state.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from pwflow_core.config import PlantConfig
from pwflow_core.edge import Score
from pwflow_core.errors import ConfigurationError
from pwflow_core.watching.mqtt import connect, matches

__all__ = ["Returning"]

_BEGIN = datetime(1970, 1, 1, tzinfo=UTC)
_NOT_IN_A_LEVEL = re.compile(r"[/+#\0]")
_MOST_SENSORS = 3


class Returning:
    """Writes scores to the topic of each machine.

    Arguments:
        config: The plant; it has a broker and a topic.

    Raises:
        ConfigurationError: The watch would read what it writes, or no package for MQTT is installed.
    """

    def __init__(self, config: PlantConfig) -> None:
        self._topic = config.watch.publish_to or ""
        self._client = connect(config, "-scores", manual_ack=False)
        for topic in config.watch.topics:
            if matches(topic, self._topic_of("machine")):
                raise ConfigurationError(
                    f"watch.publish_to = {self._topic!r} is among watch.topics ({topic!r}): the watch would read what "
                    "it writes. Choose another topic."
                )
        self._client.loop_start()

    @property
    def is_connected(self) -> bool:
        """Whether the broker is there."""
        return bool(self._client.is_connected())

    def publish(self, scores: Iterable[Score]) -> None:
        """Write the latest of some scores for each machine, and all anomalies; without the broker, nothing."""
        if not self.is_connected:
            return
        latest: dict[str, Score] = {}
        for score in scores:
            before = latest.get(score.machine_id)
            if before is not None and before.is_anomaly:
                self._write(before)
            latest[score.machine_id] = score
        for score in latest.values():
            self._write(score)

    def close(self) -> None:
        """Give back the connection."""
        self._client.disconnect()
        self._client.loop_stop()

    def _write(self, score: Score) -> None:
        self._client.publish(self._topic_of(score.machine_id), _to_json(score), retain=True)

    def _topic_of(self, machine: str) -> str:
        return self._topic.replace("{machine}", _NOT_IN_A_LEVEL.sub("_", machine))


def _to_json(score: Score) -> str:
    caused_by = sorted(score.contributions, key=lambda part: -part.contribution)[:_MOST_SENSORS]
    at = _BEGIN + timedelta(microseconds=score.at)
    return json.dumps(
        {
            "machine": score.machine_id,
            "ts": at.isoformat().replace("+00:00", "Z"),
            "state": "anomaly" if score.is_anomaly else "normal" if score.status == "scored" else score.status,
            "anomaly_score": score.anomaly_score,
            "p_value": score.p_value,
            "segment": score.segment,
            "regime": score.cluster_key,
            "reason": score.reason,
            "sensors": [part.sensor for part in caused_by],
        },
        ensure_ascii=False,
    )
