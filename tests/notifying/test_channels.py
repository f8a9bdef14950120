"""Ways out: mail, Apprise, signed webhooks; and nothing of a URL or a secret in what is said or kept."""

from __future__ import annotations

import email
import email.policy
import json
import logging
import re
import shutil
import subprocess
import time
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from pwflow_core.config import TargetConfig
from pwflow_core.errors import NotificationError
from pwflow_core.notifying.channels import Letter, send
from pwflow_core.notifying.delivering import send_waiting
from pwflow_core.notifying.outbox import Outbox
from pwflow_dagster.cli import main
from tests.conftest import open_plant
from tests.notifying.conftest import NOW, SECRET, notice
from tests.processes import REPOSITORY

PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)
LETTER = Letter("plant.K-1.opened", "New case", "M1 is off.\n", "high", {"id": "plant.K-1.opened"})


def example() -> dict[str, object]:
    """Return the names that the verification example of the docs defines."""
    page = (REPOSITORY / "docs/how-to/notify.md").read_text(encoding="utf-8")
    names: dict[str, object] = {}
    exec(re.search(r"```python\n(.+?)```", page, re.DOTALL)[1], names)  # noqa: S102 - our own docs
    return names


def test_the_example_of_the_docs_verifies_what_is_sent_and_nothing_else(make_notified, receiver):
    plant = make_notified()
    Outbox(plant.config.outbox_path).note([notice("a")], plant.config.notify.targets, now=NOW)
    send_waiting(plant.config)
    [(headers, body)] = receiver.got
    verify = example()["is_from_pwflow"]
    sent_at = int(headers["webhook-timestamp"])
    assert abs(sent_at - time.time()) < 60
    assert verify(SECRET, headers, body)
    assert not verify("another", headers, body)
    assert not verify(SECRET, headers, body + b" ")
    assert not verify(SECRET, headers | {"webhook-id": "b"}, body)
    assert not verify(SECRET, headers | {"webhook-timestamp": str(sent_at + 1)}, body)
    assert not verify(SECRET, headers, body, now=sent_at + 3600)
    assert not verify(SECRET, headers | {"webhook-signature": "v1,"}, body)
    assert headers["idempotency-key"] == headers["webhook-id"] == json.loads(body)["id"]


def test_a_mail_has_words_and_picture_and_keeps_its_id_when_it_is_sent_again(tmp_path, mailbox, monkeypatch):
    monkeypatch.setenv("TEST_MAIL", f"mailto://127.0.0.1:{mailbox.port}/?from=pwflow@a.example&to=shift@b.example")
    values = {"link": "https://reports.example/plant", "targets": {"mail": {"url_env": "TEST_MAIL", "language": "ja"}}}
    plant = open_plant(tmp_path, {"notify": values, "schedule": {"timezone": "Asia/Tokyo"}})
    shown = notice("a", machines=("M1",), sensors=("温度",))
    Outbox(plant.config.outbox_path).note([shown], plant.config.notify.targets, now=NOW)
    mailbox.answers = ["451 try again"]
    _, errors = send_waiting(plant.config, now=NOW, draw=lambda *_: PNG)
    assert "mail" in errors
    send_waiting(plant.config, now=NOW.replace(minute=5), draw=lambda *_: PNG)
    first, second = (email.message_from_bytes(raw, policy=email.policy.default) for raw in mailbox.got)
    assert first["Message-ID"] == second["Message-ID"]
    assert len(second.get_all("Message-ID")) == 1
    assert second["Subject"] == "[plant] 新しいケース：M1, 温度"
    text = second.get_body(("plain",)).get_content()
    assert "https://reports.example/plant" in text
    assert "2026年3月3日 21:00（Asia/Tokyo）" in text, "the clock of the plant, named"
    [picture] = second.iter_attachments()
    assert picture.get_payload(decode=True) == PNG


def test_apprise_gives_receivers_of_json_the_id(receiver, monkeypatch):
    monkeypatch.setenv("TEST_JSON", receiver.url.replace("http://", "json://"))
    send("json", TargetConfig(url_env="TEST_JSON"), LETTER)
    assert receiver.ids == ["plant.K-1.opened"]


def test_a_picture_that_cannot_be_drawn_holds_nothing_up(make_notified, receiver, monkeypatch):
    monkeypatch.setenv("TEST_JSON", receiver.url.replace("http://", "json://"))
    plant = make_notified(notify={"targets": {"json": {"url_env": "TEST_JSON"}}})
    Outbox(plant.config.outbox_path).note([notice("a")], plant.config.notify.targets, now=NOW)

    def fail(*_):
        raise RuntimeError("no such event")

    send_waiting(plant.config, now=NOW, draw=fail)
    assert len(receiver.got) == 1


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        ("slack://hunter2/hunter2", None),
        ("nothing://me:hunter2@127.0.0.1", None),
        ("json://me:hunter2@127.0.0.1:9/hunter2?key=hunter2", None),
        ("mailto://me:hunter2@127.0.0.1:9/?to=a@b.example", None),
        ("mailto://me:hunt%20er2@127.0.0.1:9/?to=a@b.example", None),
        ("http://me:hunter2@127.0.0.1:9/hunter2", "hunter2"),
        ("http://127.0.0.1:9/hunter2?sig=hunter2", "hunter2"),
        ("http://127.0.0.1:99999/hunter2", "hunter2"),
        ("ftp://me:hunter2@127.0.0.1/", "hunter2"),
        ("hunter2", "hunter2"),
    ],
)
def test_no_error_shows_a_secret(tmp_path, url, secret, monkeypatch, caplog, capfd):
    monkeypatch.setenv("TEST_URL", url)
    target = {"url_env": "TEST_URL"}
    if secret is not None:
        monkeypatch.setenv("TEST_SECRET", secret)
        target["secret_env"] = "TEST_SECRET"  # noqa: S105 - a name
    plant = open_plant(tmp_path, {"notify": {"targets": {"x": target}}})
    Outbox(plant.config.outbox_path).note([notice("a")], plant.config.notify.targets, now=NOW)
    with caplog.at_level(logging.DEBUG):
        _, errors = send_waiting(plant.config, now=NOW)
    assert "x" in errors
    said = errors["x"] + caplog.text + "".join(capfd.readouterr())
    said += plant.config.outbox_path.read_bytes().decode(errors="replace")
    assert "hunter2" not in said
    assert "er2" not in said


def test_a_variable_that_is_not_set_is_named(monkeypatch):
    monkeypatch.delenv("TEST_ABSENT", raising=False)
    with pytest.raises(NotificationError, match=r"'mail'.*TEST_ABSENT is not set"):
        send("mail", TargetConfig(url_env="TEST_ABSENT"), LETTER)


def test_pwflow_notify_tries_targets_and_tells_what_is_due(make_notified, receiver, tmp_path):
    make_notified()
    config = tmp_path / "pwflow.toml"
    config.write_text(
        '[source]\npath = "data/*"\n[notify.targets.hook]\nurl_env = "TEST_HOOK_URL"\nsecret_env = "TEST_HOOK_SECRET"\n'
        '[notify.targets.gone]\nurl_env = "TEST_ABSENT"\n'
    )

    def call(*words):
        return CliRunner().invoke(main, ["notify", *words, "--config", str(config)])

    tried = call("--test")
    assert tried.exit_code == 1
    assert "hook: the test was sent" in tried.output
    assert "TEST_ABSENT is not set" in tried.output
    assert call("--test", "hook").exit_code == 0
    assert [document["type"] for document in receiver.documents] == ["pwflow.test"] * 2
    assert len(set(receiver.ids)) == 2, "each test is another one"
    assert "Expected targets of [notify]" in call("--test", "nobody").output
    assert call().exit_code == 0
    assert json.loads(call("--json").output)["targets"][0]["n_sent"] == 0


@pytest.mark.skipif(shutil.which("mosquitto") is None, reason="mosquitto is not installed")
def test_mosquitto_takes_a_message():
    unused_port = 18_831
    paho = pytest.importorskip("paho.mqtt.client")
    broker = subprocess.Popen([shutil.which("mosquitto"), "-p", str(unused_port)])
    try:
        time.sleep(1)
        got: list[bytes] = []
        client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        client.on_message = lambda _client, _data, message: got.append(message.payload)
        client.connect("127.0.0.1", unused_port)
        client.subscribe("pwflow")
        client.loop_start()
        time.sleep(0.5)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TEST_MQTT", f"mqtt://127.0.0.1:{unused_port}/pwflow")
            send("mqtt", TargetConfig(url_env="TEST_MQTT"), LETTER)
        deadline = datetime.now(UTC).timestamp() + 10
        while not got and datetime.now(UTC).timestamp() < deadline:
            time.sleep(0.1)
        assert b"M1 is off." in got[0]
    finally:
        broker.terminate()
        broker.wait()
