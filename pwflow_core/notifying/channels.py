"""How a message leaves: through Apprise, or as a signed webhook. Nothing here knows the warehouse or the outbox.

URLs and secrets come from environment variables, and stay out of every error.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from pwflow_core.config import Severity, TargetConfig
from pwflow_core.errors import NotificationError
from pwflow_core.notifying.signing import sign
from pwflow_core.redaction import hide_secrets
from pwflow_core.warehouse import utc_now

__all__ = ["Letter", "send"]

_SECONDS = 15.0
_TYPES: Mapping[Severity, str] = {"low": "info", "medium": "warning", "high": "failure"}
_SHORTEST_SECRET = 4


@dataclass(frozen=True)
class Letter:
    """A message as it is sent.

    Attributes:
        message_id: What the receiver knows it by.
        title: For people, one line.
        body: For people.
        severity: How bad it is.
        facts: For programs.
        picture: PNG; None if there is none.
        is_good: Whether it says that something is over.
    """

    message_id: str
    title: str
    body: str
    severity: Severity
    facts: Mapping[str, object]
    picture: bytes | None = None
    is_good: bool = False


def send(name: str, target: TargetConfig, letter: Letter) -> None:
    """Send a message; on return the other side has taken it.

    Raises:
        NotificationError: It has not, or the environment lacks what the target needs.
    """
    url = _from_environment(name, target.url_env)
    if target.secret_env is None:
        _send_by_apprise(name, url, letter)
    else:
        _send_webhook(name, url, _from_environment(name, target.secret_env), letter)


def _from_environment(name: str, variable: str) -> str:
    value = os.environ.get(variable, "").strip()
    if not value:
        raise NotificationError(
            f"The target {name!r} cannot be reached: the environment variable {variable} is not set where pwflow runs. "
            "Set it there and start that program again."
        )
    return value


def _send_webhook(name: str, url: str, secret: str, letter: Letter) -> None:
    if urlsplit(url).scheme not in ("http", "https"):
        raise NotificationError(
            f"Expected a URL with https:// or http:// for the webhook {name!r}, got one of another kind: a target with "
            "secret_env is a webhook; without it, Apprise sends."
        )
    body = json.dumps(letter.facts, ensure_ascii=False).encode()
    headers = {"Content-Type": "application/json; charset=utf-8", "Idempotency-Key": letter.message_id}
    headers |= sign(secret, letter.message_id, body, at=utc_now())
    request = urllib.request.Request(url, body, headers, method="POST")  # noqa: S310 - http and https only, see above
    try:
        with urllib.request.build_opener(_NoRedirects).open(request, timeout=_SECONDS):
            return
    except urllib.error.HTTPError as error:
        said = f"it answered {error.code} {error.reason}"
    except (OSError, ValueError, http.client.HTTPException) as error:
        said = f"{type(error).__name__}: {getattr(error, 'reason', error)}"
    raise NotificationError(f"The webhook {name!r} did not take the message: {_hide(said, url, secret)}.")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A receiver that has moved has to be named in the variable: what was signed for one is not for another."""

    def redirect_request(self, *_: object) -> None:
        """Follow nothing."""


def _send_by_apprise(name: str, url: str, letter: Letter) -> None:

    with _heard("apprise") as said:
        try:
            is_taken = _notify(name, url, letter)
        except NotificationError:
            raise
        except Exception as error:  # a plugin may raise anything
            is_taken = False
            said.append(f"{type(error).__name__}: {error}")
    if not is_taken:
        because = f": {_hide(' '.join(said)[:400].rstrip('.'), url)}" if said else ""
        raise NotificationError(f"The target {name!r} did not take the message{because}.")


def _notify(name: str, url: str, letter: Letter) -> bool:
    """Return whether Apprise could get rid of a message."""
    import apprise

    plugin = apprise.Apprise.instantiate(url)
    if plugin is None or not plugin.enabled:
        raise NotificationError(
            f"The URL of the target {name!r} cannot be used: expected one that Apprise knows, see "
            "https://appriseit.com, and the package that it may need, such as paho-mqtt for mqtt://."
        )
    _name_message(plugin, letter.message_id)
    sender = apprise.Apprise()
    sender.add(plugin)
    with _identified_mail(letter.message_id):
        is_taken = sender.notify(
            title=letter.title,
            body=letter.body,
            notify_type="success" if letter.is_good else _TYPES[letter.severity],
            body_format="text",
            attach=_attach(letter) if plugin.attachment_support else None,
        )
    return bool(is_taken)


def _name_message(plugin: Any, message_id: str) -> None:  # noqa: ANN401 - any plugin of Apprise
    """Let services that take headers know the message by its id."""
    headers = getattr(plugin, "headers", None)
    if isinstance(headers, dict):
        headers.setdefault("Idempotency-Key", message_id)


def _attach(letter: Letter) -> Any:  # noqa: ANN401 - a class of Apprise
    if letter.picture is None:
        return None
    from apprise.attachment.memory import AttachMemory

    make: Callable[..., Any] = AttachMemory
    return make(letter.picture, name="event.png", mimetype="image/png")


@contextmanager
def _identified_mail(message_id: str) -> Iterator[None]:
    """Give a mail that is sent again the Message-ID that it had: Apprise makes up another one for each attempt."""
    from apprise.plugins.email import base

    names = vars(base)
    made_up = names["make_msgid"]
    own = re.sub(r"[^A-Za-z0-9._-]", "-", message_id)
    names["make_msgid"] = lambda **_: f"<{own}@pwflow>"
    try:
        yield
    finally:
        names["make_msgid"] = made_up


@contextmanager
def _heard(logger_name: str) -> Iterator[list[str]]:
    """Collect the warnings of a library in the block, and keep them from everybody else: they may hold secrets."""
    said: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    logger = logging.getLogger(logger_name)
    before = logger.handlers[:], logger.level, logger.propagate
    logger.handlers, logger.level, logger.propagate = [Collector(logging.WARNING)], logging.WARNING, False
    try:
        yield said
    finally:
        logger.handlers, logger.level, logger.propagate = before


def _hide(text: str, *secrets: str) -> str:
    """Return what a library said, with stars where it shows more of a URL than its kind and host."""
    for part in sorted(_parts(secrets), key=len, reverse=True):
        text = text.replace(part, "***")
    return hide_secrets(text)


def _parts(secrets: tuple[str, ...]) -> set[str]:
    """Return what of some URLs and secrets must not be shown: all but kind, host and port."""
    found: set[str] = set()
    for secret in secrets:
        found.add(secret)
        try:
            url = urlsplit(secret)
        except ValueError:
            continue
        user, _, _ = url.netloc.rpartition("@")
        pieces = re.split(r"[/?&;,:=]", "/".join((user, url.path, url.query, url.fragment)))
        found |= {*pieces, *map(unquote, pieces)}
        if url.scheme not in _HOSTED:
            found.add(url.netloc)  # such as the first token of slack://
    return {part for part in found if len(part) >= _SHORTEST_SECRET}


_HOSTED = ("http", "https", "json", "jsons", "mailto", "mailtos", "mqtt", "mqtts")
"""Kinds of URL whose first part is a host."""
