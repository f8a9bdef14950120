"""What the webserver answers: its own pages, people and programs of this machine, and no page of another origin."""

from __future__ import annotations

import pytest

from pwflow_dagster.webserver import is_own_request

pytestmark = pytest.mark.quick

HERE = {"host": "127.0.0.1:3000"}
PROXY = "pwflow.example.org"


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("POST", "/graphql", HERE),  # a program
        ("GET", "/", {"host": "localhost:3000", "sec-fetch-site": "none", "sec-fetch-mode": "navigate"}),
        ("GET", "/", {"host": "[::1]:3000"}),
        ("POST", "/graphql", {**HERE, "origin": "http://127.0.0.1:3000", "sec-fetch-site": "same-origin"}),
        ("GET", "/assets", {**HERE, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}),  # a link in a mail
        ("", "/graphql", {**HERE, "origin": "http://127.0.0.1:3000"}),
        ("POST", "/graphql", {"host": PROXY, "origin": f"https://{PROXY}", "sec-fetch-site": "same-origin"}),
    ],
)
def test_its_own_pages_people_and_programs_are_answered(method, path, headers):
    assert is_own_request(method, path, headers, [PROXY])


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("POST", "/graphql", {**HERE, "origin": "https://evil.example", "sec-fetch-site": "cross-site"}),
        ("POST", "/graphql", {**HERE, "origin": "null"}),
        ("POST", "/graphql", {**HERE, "origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-site"}),
        ("GET", "/graphql", {**HERE, "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}),  # a picture
        ("GET", "/graphql", {**HERE, "sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"}),
        ("GET", "/graphql", {**HERE, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}),  # a link
        ("POST", "/graphql", {"host": "evil.example:3000", "origin": "http://evil.example:3000"}),  # DNS rebinding
        ("GET", "/", {"host": "127.0.0.1.evil.example"}),
        ("GET", "/", {"host": "evil.example", "sec-fetch-site": "none", "sec-fetch-mode": "navigate"}),
        ("", "/graphql", {**HERE, "origin": "http://evil.example"}),
        ("GET", "/", {}),
    ],
)
def test_what_another_page_asks_is_refused(method, path, headers):
    assert not is_own_request(method, path, headers, [PROXY])
