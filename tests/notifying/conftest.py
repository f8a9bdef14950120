"""Receivers on this machine, and a plant with verdicts that were recorded without training anything."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from pwflow_core.notifying.notices import Notice
from pwflow_core.pipeline.decisions.verdicts import Decider, StoredVerdict, record_verdicts
from pwflow_core.plant import Plant
from tests.conftest import open_plant

DAY = date(2026, 3, 2)
NOW = datetime(2026, 3, 3, 12)  # noqa: DTZ001 - naive UTC, as in the tables
SECRET = "hunter2-signs"  # noqa: S105 - of a receiver on this machine


@dataclass
class Receiver:
    """A program that takes webhooks; `answers` are given first, then 204 for good. None cuts the connection."""

    url: str
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    answers: list[int | None] = field(default_factory=list)

    @property
    def documents(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.got]

    @property
    def ids(self) -> list[str]:
        return [headers["idempotency-key"] for headers, _ in self.got]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
            answer = found.answers.pop(0) if found.answers else 204
            if answer is None:
                self.close_connection = True
                return
            self.send_response(answer)
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Receiver(f"http://127.0.0.1:{server.server_port}/hook")
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield found
        server.shutdown()


@dataclass
class Mailbox:
    """A mail server; `answers` are given first, then 250 for good."""

    port: int
    got: list[bytes] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)

    async def handle_DATA(self, _server, _session, envelope) -> str:  # noqa: N802 - the name is aiosmtpd's
        self.got.append(envelope.content)
        return self.answers.pop(0) if self.answers else "250 taken"


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        found = Mailbox(free.getsockname()[1])
    controller = Controller(found, hostname="127.0.0.1", port=found.port)
    controller.start()
    yield found
    controller.stop()


def verdict(name: str, kind: str = "machine_moved", **changes: Any) -> StoredVerdict:
    answer = {"outage": "none", "regime_moved": "retrain"}.get(kind, "ask")
    values: dict[str, Any] = {
        "cluster_keys": (f"c000{name}",),
        "machine_ids": (f"press-{name}",),
        "sensors": ("pressure",),
    }
    values |= {"since": DAY, "effect_size": 1.0, "summary": f"press-{name} moved.", "answer": answer} | changes
    return StoredVerdict(name, DAY, kind, **values)


def record(plant: Plant, *verdicts: StoredVerdict) -> None:
    with plant.warehouse.transaction() as connection:
        record_verdicts(connection, verdicts, by=Decider("the test"))


def notice(name: str, at: datetime = NOW, **changes: Any) -> Notice:
    values: dict[str, Any] = {"kind": "opened", "subject": f"case {name}", "severity": "medium", "at": at}
    return Notice(f"{name}.opened", **(values | {"summary": f"{name} is off."} | changes))


@pytest.fixture
def make_notified(tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Plant]:
    """Return a plant whose target `hook` is the receiver; changes are those of the target, then of the plant."""

    def make(target: Mapping[str, Any] | None = None, **changes: Any) -> Plant:
        monkeypatch.setenv("TEST_HOOK_URL", receiver.url)
        monkeypatch.setenv("TEST_HOOK_SECRET", SECRET)
        hook = {"url_env": "TEST_HOOK_URL", "secret_env": "TEST_HOOK_SECRET"} | dict(target or {})
        return open_plant(tmp_path, {"notify": {"targets": {"hook": hook}}} | changes)

    return make
