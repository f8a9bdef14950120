"""`python -m pwflow_dagster.webserver dev …`: `dagster dev …`, whose webserver answers no page but its own.

It has one page more than Dagster's, `/decide`: the forms of all decisions, made by the browser from the configuration
of their jobs, with what waits as the last run has it.

Dagster has no log-in and does what it is asked, also by a plain GET, and so by any page that a browser on this machine
shows. What says that it comes from another page is refused, and so is what comes under a name that is not ours: a
foreign name may be made to point here.
"""

from __future__ import annotations

import base64
import hashlib
import os
import sys
from collections.abc import Sequence
from importlib import resources
from runpy import run_module
from typing import TYPE_CHECKING, Any
from unittest.mock import patch
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from subprocess import Popen

    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["HOST_NAMES_VARIABLE", "DecisionPage", "OwnPagesOnly", "is_own_request"]

HOST_NAMES_VARIABLE = "PWFLOW_HOST_NAMES"
"""Names by which a proxy reaches the webserver, separated by commas."""
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_REFUSAL = b"Refused: this comes from another page, or under a name that `pwflow ui --host-name` does not know.\n"


def is_own_request(method: str, path: str, headers: dict[str, str], host_names: Sequence[str] = ()) -> bool:
    """Whether a request comes from a page of the webserver itself, from a person, or from a program.

    Arguments:
        method: Of HTTP; empty for a websocket.
        path: What is asked for.
        headers: By their names in lower case. Browsers set `Host`, `Origin` and `Sec-Fetch-…`; no page can forge them.
        host_names: Names of the webserver beside those of this machine itself.
    """
    host = headers.get("host", "")
    if urlsplit(f"//{host}").hostname not in (*_LOOPBACK, *host_names):
        return False
    if "origin" in headers:
        return urlsplit(headers["origin"]).netloc == host
    is_followed_link = method == "GET" and headers.get("sec-fetch-mode") == "navigate" and "graphql" not in path
    return headers.get("sec-fetch-site", "none") in ("none", "same-origin") or is_followed_link


class OwnPagesOnly:
    """Refuses what another page asks of the webserver that this is put in front of."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._host_names = os.environ.get(HOST_NAMES_VARIABLE, "").lower().split(",")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with 403."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope.get("headers", ())}
        if scope["type"] == "lifespan" or is_own_request(
            scope.get("method", ""), scope["path"], headers, self._host_names
        ):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            text = [(b"content-type", b"text/plain; charset=utf-8")]
            await send({"type": "http.response.start", "status": 403, "headers": text})
            await send({"type": "http.response.body", "body": _REFUSAL})


class DecisionPage:
    """Answers `/decide` itself, and passes everything else on to the webserver that this is put in front of."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        page = resources.files(__package__).joinpath("decide.html").read_text(encoding="utf-8")
        script = page.split("<script>")[1].split("</script>")[0]
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        policy = (
            f"default-src 'none'; script-src 'sha256-{digest}'; connect-src 'self'; style-src 'unsafe-inline'; "
            "img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
        )
        self._body = page.encode()
        self._headers = [
            (b"content-type", b"text/html; charset=utf-8"),
            (b"content-security-policy", policy.encode()),
            (b"cache-control", b"no-cache"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the page where it is asked for."""
        if scope["type"] == "http" and scope["method"] == "GET" and scope["path"].endswith("/decide"):
            await send({"type": "http.response.start", "status": 200, "headers": self._headers})
            await send({"type": "http.response.body", "body": self._body})
        else:
            await self._app(scope, receive, send)


# A patch fails where a release of Dagster has no such name: then nothing starts, rather than something unguarded.
def _serve() -> None:
    """Be the webserver of Dagster, with the arguments of `dagster-webserver`."""
    from dagster_webserver.webserver import DagsterWebserver
    from starlette.middleware import Middleware

    build = DagsterWebserver.build_middleware
    own = [Middleware(OwnPagesOnly), Middleware(DecisionPage)]
    with patch.object(DagsterWebserver, "build_middleware", lambda self: [*own, *build(self)]):
        run_module("dagster_webserver", run_name="__main__")


def _develop() -> None:
    """Be `dagster dev`, with `_serve` instead of the webserver that it starts."""
    from dagster_shared.ipc import open_ipc_subprocess

    def start(command: Sequence[str], **options: Any) -> Popen[bytes]:  # noqa: ANN401 - as Dagster passes them
        ours = ["pwflow_dagster.webserver" if part == "dagster_webserver" else part for part in command]
        return open_ipc_subprocess(ours, **options)

    with patch("dagster._cli.dev.open_ipc_subprocess", start):
        run_module("dagster", run_name="__main__")


if __name__ == "__main__":
    (_develop if sys.argv[1:2] == ["dev"] else _serve)()
