"""Health and metrics: what the watch does, over HTTP, for a monitor and for Prometheus."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from prometheus_client import Metric

    from pwflow_core.config import PlantConfig

__all__ = ["Described", "serving", "write_metrics"]

_log = logging.getLogger("pwflow.watch")


class Described(Protocol):
    """What can be told of a watch."""

    @property
    def config(self) -> PlantConfig:
        """The configuration of its plant."""

    def describe(self) -> dict[str, Any]:
        """Return what there is to know of it now, as JSON has it."""


@contextmanager
def serving(watch: Described) -> Iterator[None]:
    """Answer /health and /metrics in the block; where the address is taken, say so and go on without."""
    host, _, port = watch.config.watch.listen.rpartition(":")
    if not port:
        yield
        return
    try:
        server = ThreadingHTTPServer((host.strip("[]"), int(port)), _handler(watch))
    except OSError as error:
        _log.warning("Nobody can ask for /health: %s is not free (%s). Set watch.listen.", f"{host}:{port}", error)
        yield
        return
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.2,), name="health", daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def write_metrics(described: dict[str, Any]) -> bytes:
    """Return what is known of a watch in the text format of Prometheus.

    Raises:
        ImportError: The package prometheus-client is not installed.
    """
    from prometheus_client import CollectorRegistry, generate_latest

    class Found:
        def collect(self) -> list[Metric]:
            return list(_metrics(described))

    registry: Any = CollectorRegistry()  # it takes whatever collects
    registry.register(Found())
    written: bytes = generate_latest(registry)
    return written


def _metrics(found: dict[str, Any]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    plant = found["plant"]

    def gauge(name: str, about: str, value: float | None) -> Iterator[Metric]:
        if value is not None:
            metric = GaugeMetricFamily(name, about, labels=["plant"])
            metric.add_metric([plant], value)
            yield metric

    def counters(name: str, about: str, label: str, values: dict[str, float]) -> Metric:
        metric = CounterMetricFamily(name, about, labels=["plant", label])
        for key, value in values.items():
            metric.add_metric([plant, key], value)
        return metric

    yield counters("pwflow_watch_readings", "Readings by status.", "status", found["by_status"])
    yield counters("pwflow_watch_refused", "What was not scored, by reason.", "reason", found["refused"])
    anomalies = CounterMetricFamily("pwflow_watch_anomalies", "Anomalies.", labels=["plant"])
    anomalies.add_metric([plant], found["anomalies"])
    yield anomalies
    lag = GaugeMetricFamily(
        "pwflow_watch_lag_seconds",
        "Seconds from the arrival of a batch until its scores were on the disk.",
        labels=["plant", "quantile"],
    )
    for quantile, key in (("0.5", "p50"), ("0.99", "p99")):
        if found["lag_seconds"] is not None:
            lag.add_metric([plant, quantile], found["lag_seconds"][key])
    yield lag
    models = GaugeMetricFamily("pwflow_watch_models", "The models in use.", labels=["plant", "model_set_id"])
    models.add_metric([plant, found["model_set_id"] or ""], 1)
    yield models
    run = found["last_run"] or {}
    yield from gauge("pwflow_watch_newest_reading_seconds", "Time of the latest reading.", found["newest_reading"])
    yield from gauge("pwflow_watch_ok", "Whether all is well.", float(found["is_ok"]))
    yield from gauge("pwflow_last_scored_seconds", "When a run scored readings last.", found["last_scored_at"])
    if run:
        yield from gauge("pwflow_last_run_ended_seconds", "When the last run ended.", run["ended_at"])
        yield from gauge("pwflow_last_run_success", "Whether the last run succeeded.", run["outcome"] == "success")


def _handler(watch: Described) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            described = watch.describe()
            if self.path == "/health":
                code = 200 if described["is_ok"] else 503
                self._answer(code, "application/json", json.dumps(described, ensure_ascii=False).encode())
            elif self.path == "/metrics":
                try:
                    self._answer(200, "text/plain; version=0.0.4; charset=utf-8", write_metrics(described))
                except ImportError:
                    self._answer(501, "text/plain", b"pip install 'pwflow[watch]' for metrics\n")
            else:
                self._answer(404, "text/plain", b"/health or /metrics\n")

        def _answer(self, code: int, kind: str, body: bytes) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    return Handler
