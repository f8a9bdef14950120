"""What a watch does can be asked for over HTTP, by a monitor and by Prometheus."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import urllib.error
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from pwflow_core.watching.duties import Duty
from pwflow_core.watching.standard_input import StandardInput
from tests.watching.conftest import later_readings, make_watch, open_watched


def ask(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - this machine
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_health_and_metrics_tell_what_a_watch_does_and_what_is_wrong(watched):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    plant = open_watched(watched.config.folder, watch={"listen": f"127.0.0.1:{port}"})
    end, begin = os.pipe()
    stream = os.fdopen(end, "rb", buffering=0)
    watch = make_watch(plant, lambda *_: StandardInput(stream, is_csv=True), once=False)
    thread = threading.Thread(target=watch.run)
    thread.start()
    readings = later_readings(120)
    readings.loc[5, "machine"] = "press-9"
    os.write(begin, readings.to_csv(index=False).encode())
    until = time.monotonic() + 30
    while watch.counts.readings < 239:
        assert time.monotonic() < until
        time.sleep(0.02)
    watch.night.facts["last_run"] = {"job": "nightly", "outcome": "success", "ended_at": 1_709_341_200_000_000}
    url = f"http://127.0.0.1:{port}"
    code, body = ask(f"{url}/health")
    health = json.loads(body)
    assert (code, health["is_ok"], health["readings"]) == (200, True, 239)
    assert health["refused"] == {"unknown_machine": 1}
    assert health["model_set_id"] == watch.night.bundle.model_set_id
    assert ask(f"{url}/elsewhere")[0] == 404
    code, body = ask(f"{url}/metrics")
    found = {s.name: s for family in text_string_to_metric_families(body.decode()) for s in family.samples}
    assert code == 200
    assert found["pwflow_watch_anomalies_total"].value == watch.counts.anomalies
    assert found["pwflow_watch_refused_total"].labels == {"plant": "plant", "reason": "unknown_machine"}
    assert found["pwflow_watch_models"].labels["model_set_id"] == health["model_set_id"]
    assert found["pwflow_watch_newest_reading_seconds"].value == 1_709_341_200 + 119 * 60
    assert found["pwflow_watch_lag_seconds"].value < 30
    assert found["pwflow_last_run_ended_seconds"].value == health["last_run"]["ended_at"] == 1_709_341_200
    watch._duties[-1].error = "the disk is full"
    code, body = ask(f"{url}/health")
    assert (code, json.loads(body)["troubles"]) == (503, {"publishing": "the disk is full"})
    os.close(begin)
    thread.join(60)


def test_a_taken_address_and_a_duty_that_fails_stop_nothing(watched, caplog):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        plant = open_watched(watched.config.folder, watch={"listen": f"127.0.0.1:{taken.getsockname()[1]}"})
        assert make_watch(plant).run().readings == 0
    assert "is not free" in caplog.text
    failed = Duty("trying", lambda: 1 // 0, every_seconds=1.0)
    for _ in range(3):
        failed.do()
    assert failed.error == "ZeroDivisionError: integer division or modulo by zero"
    assert caplog.text.count("trying: ZeroDivisionError") == 1
