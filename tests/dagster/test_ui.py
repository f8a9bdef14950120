"""`pwflow ui` for real: webserver and daemon on loopback, on the same data, and behind the proxy of SECURITY.md."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import duckdb
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from pwflow_core.simulation import write_exports
from pwflow_dagster.names import DECISIONS
from tests.conftest import CHROMIUM
from tests.processes import REPOSITORY, Stem, clean_environment

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
PASSWORD = "three blind mice"  # noqa: S105 - of this test
CONFIG = """
[plant]
name = "shown"
[source]
path = "exports/*.parquet"
timestamp = "timestamp"
machine = "machine"
[clustering]
n_clusters = 2
[flow]
max_rows = 1000
max_steps = 300
[report]
languages = []
"""
QUERY = """
{ assetNodes {
    assetKey { path } partitionStats { numMaterialized } assetMaterializations(limit: 1) { runId }
} }
"""
NGINX_CONFIG = """
daemon off;
master_process off;
pid nginx.pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path bodies;
    proxy_temp_path proxied;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    {server}
}}
"""


def ask(port: int, deadline: float) -> dict:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql",
        json.dumps({"query": QUERY}).encode(),
        {"Content-Type": "application/json"},
    )
    while True:
        try:
            with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - loopback
                answer = json.load(response)
            if answer["data"]["assetNodes"]:
                return answer["data"]
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            pass
        assert time.monotonic() < deadline, "the webserver did not answer in time"
        time.sleep(0.5)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def shown_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shown")


@pytest.fixture(scope="module")
def ui(stem: Stem, shown_folder: Path) -> Iterator[int]:
    """Start `pwflow ui` on a plant that has been run once; return its port."""
    folder = shown_folder
    write_exports(folder, days=1)
    (folder / "pwflow.toml").write_text(CONFIG)
    done = stem.command(folder, "run")
    assert done.code == 0, done.errors
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-m", "pwflow_dagster", "ui", "--port", str(port)],
        cwd=folder,
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as server:
        try:
            ask(port, time.monotonic() + 120)
            yield port
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)


def test_the_ui_shows_what_a_run_made_and_answers_on_this_machine_only(ui: int):
    nodes = {node["assetKey"]["path"][-1]: node for node in ask(ui, time.monotonic() + 120)["assetNodes"]}
    assert len(nodes) == 14
    assert nodes["cluster_flow"]["partitionStats"]["numMaterialized"] == 2
    assert all(node["assetMaterializations"] for node in nodes.values())
    with socket.socket() as outside:
        outside.settimeout(2)
        host = socket.gethostbyname(socket.gethostname())
        assert host.startswith("127.") or outside.connect_ex((host, ui)) != 0


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
def test_a_decision_is_made_by_clicks_and_its_form_says_what_came_of_it(ui: int, shown_folder: Path):
    """The launchpad of Dagster is never opened, and no line of YAML is written."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 900})
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.goto(f"http://127.0.0.1:{ui}/decide")
        page.wait_for_selector("main[aria-busy=false]", timeout=60_000)
        forms = page.eval_on_selector_all("form", "forms => forms.map(form => form.id)")
        assert sorted(forms) == sorted(DECISIONS)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        [row] = page.eval_on_selector_all("#overview tbody tr", "rows => rows.map(row => row.innerText)")
        assert "train_and_score: success" in row, "what waits in each plant, and how its last run ended"
        page.fill("#who", "Ada")
        page.click("td button:text-is('c0001')")
        page.click("summary:text-is('Name regime')")
        assert page.input_value("#name_regime [name=cluster_key]") == "c0001"
        page.fill("#name_regime [name=name]", "roughing, B")
        page.click("#name_regime button")
        page.wait_for_selector("#name_regime output.good", timeout=60_000)
        page.fill("#name_regime [name=cluster_key]", "c9999")
        page.click("#name_regime button")
        page.wait_for_selector("#name_regime output.bad", timeout=60_000)
        assert "Expected the key of a regime (c0001, c0002), got 'c9999'" in page.inner_text("#name_regime output")
        page.click("summary:text-is('Answer drift')")
        assert page.eval_on_selector_all("#answer_drift input", "all => all.map(one => one.name)") == ["verdict_ids"]
        page.fill("#answer_drift [name=verdict_ids]", "0123456789ab, ba9876543210")
        page.click("#answer_drift button")
        page.wait_for_selector("#answer_drift output.bad", timeout=120_000)
        assert "0123456789ab" in page.inner_text("#answer_drift output")
        assert said == []
        browser.close()
    [warehouse] = shown_folder.rglob("*warehouse.duckdb")
    with duckdb.connect(warehouse, read_only=True) as connection:
        named = connection.execute("SELECT cluster_key, name, named_by FROM mart.regime_names").fetchall()
    assert named == [("c0001", "roughing, B", "Ada")]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "evil.example:{port}"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 403),
        ({"Origin": "http://127.0.0.1:{port}", "Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_the_ui_does_what_its_own_pages_ask_and_what_no_other_page_does(ui: int, headers, status: int):
    given = {name: value.format(port=ui) for name, value in headers.items()}
    with contextlib.closing(HTTPConnection("127.0.0.1", ui, timeout=30)) as connection:
        connection.request("GET", "/graphql?query={version}", headers=given)
        assert connection.getresponse().status == status


def test_no_other_page_can_follow_runs(ui: int):
    def follow(origin: str):
        return connect(f"ws://127.0.0.1:{ui}/graphql", subprotocols=["graphql-ws"], origin=origin, proxy=None)

    with follow(f"http://127.0.0.1:{ui}") as followed:
        assert followed.response.status_code == 101
    with pytest.raises(InvalidStatus) as refused, follow("http://evil.example"):
        pass
    assert refused.value.response.status_code == 403


class Proxy:
    """The proxy, as who comes from outside sees it."""

    def __init__(self, port: int, certificate: Path) -> None:
        self.trust = ssl.create_default_context(cafile=certificate)
        self.address = f"127.0.0.1:{port}"
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self.trust)
        )

    def get(self, path: str, password: str | None = None) -> tuple[int, str]:
        """Return the status and the text of a page."""
        request = urllib.request.Request(f"https://{self.address}{path}", headers=credentials(password))
        try:
            with self._opener.open(request, timeout=30) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


def credentials(password: str | None) -> dict[str, str]:
    """Return the headers of somebody who gives a password."""
    given = base64.b64encode(f"operator:{password}".encode()).decode()
    return {} if password is None else {"Authorization": f"Basic {given}"}


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Callable[[int], Proxy]]:
    """Return a function that starts nginx, as SECURITY.md has it, in front of a webserver on a port."""
    if NGINX is None:
        pytest.skip("there is no nginx on this machine")
    certificate, key, passwords = tmp_path / "pwflow.pem", tmp_path / "pwflow.key", tmp_path / "pwflow.htpasswd"
    names = "subjectAltName=DNS:pwflow.example.org,IP:127.0.0.1"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=pwflow.example.org",
         "-addext", names, "-keyout", key, "-out", certificate],
        check=True,
        capture_output=True,
    )  # fmt: skip
    hashed = subprocess.run(["openssl", "passwd", "-apr1", PASSWORD], check=True, capture_output=True, text=True)
    passwords.write_text(f"operator:{hashed.stdout}")
    with contextlib.ExitStack() as running:

        def start(upstream: int) -> Proxy:
            port = free_port()
            [server] = re.findall(r"```nginx\n(.+?)```", (REPOSITORY / "SECURITY.md").read_text(), re.DOTALL)
            for written, here in {
                "443": f"127.0.0.1:{port}",
                "127.0.0.1:3000": f"127.0.0.1:{upstream}",
                "/etc/ssl/pwflow.pem": str(certificate),
                "/etc/ssl/pwflow.key": str(key),
                "/etc/nginx/pwflow.htpasswd": str(passwords),
            }.items():
                assert server.count(written) == 1, written
                server = server.replace(written, here)
            (tmp_path / "nginx.conf").write_text(NGINX_CONFIG.format(server=server))
            process = subprocess.Popen([NGINX, "-p", tmp_path, "-c", "nginx.conf", "-e", "stderr"])
            running.callback(process.wait, timeout=30)
            running.callback(process.terminate)
            deadline = time.monotonic() + 30
            with socket.socket() as client:
                while client.connect_ex(("127.0.0.1", port)) != 0:
                    assert process.poll() is None, "nginx did not start"
                    assert time.monotonic() < deadline, "nginx did not listen in time"
                    time.sleep(0.1)
            return Proxy(port, certificate)

        yield start


@pytest.mark.parametrize("password", [None, "", "three blind rats"])
def test_the_proxy_lets_nobody_in_without_the_password(ui: int, proxy, password: str | None):
    outside = proxy(ui)
    for path in ("/", "/graphql?query={version}", "/server_info"):
        status, page = outside.get(path, password)
        assert status == 401
        assert "dagster" not in page.lower()
    with pytest.raises(InvalidStatus) as refused, open_socket(outside, password):
        pass
    assert refused.value.response.status_code == 401


def open_socket(outside: Proxy, password: str | None):
    """Open what the pages follow runs by."""
    return connect(
        f"wss://{outside.address}/graphql",
        ssl=outside.trust,
        subprotocols=["graphql-ws"],
        additional_headers=credentials(password),
        proxy=None,
        open_timeout=30,
    )


def test_behind_the_proxy_the_pages_answer_and_follow_runs(ui: int, proxy):
    outside = proxy(ui)
    status, page = outside.get("/", PASSWORD)
    assert (status, "dagster" in page.lower()) == (200, True)
    status, answer = outside.get("/graphql?query={version}", PASSWORD)
    assert (status, list(json.loads(answer)["data"])) == (200, ["version"])
    with open_socket(outside, PASSWORD) as followed:
        assert followed.response.status_code == 101
        assert followed.subprotocol == "graphql-ws"
        followed.send(json.dumps({"type": "connection_init", "payload": {}}))
        assert json.loads(followed.recv(timeout=30))["type"] == "connection_ack"


def test_the_password_goes_no_further_than_the_proxy(proxy):
    came = []

    class Recorder(BaseHTTPRequestHandler):
        def do_GET(self):
            came.append(dict(self.headers))
            self.send_response(204)
            self.end_headers()

    with HTTPServer(("127.0.0.1", 0), Recorder) as webserver:
        threading.Thread(target=webserver.serve_forever, daemon=True).start()
        try:
            assert proxy(webserver.server_port).get("/", PASSWORD)[0] == 204
        finally:
            webserver.shutdown()
    [headers] = came
    assert "Authorization" not in headers
