"""The report in a real browser: it opens from a file, asks the network for nothing, and every link works.

At every push that is the English one in light colours; at night also the others, and what it looks like on paper.
"""

from __future__ import annotations

import pytest

from tests.conftest import CHROMIUM
from tests.reporting.conftest import ENGLISH_FIRST

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
LONG = pytest.mark.long(reason="2 CPU s each: the page in light colours stays")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")

OVERLAPPING = """() => {
  const wrong = [];
  for (const svg of document.querySelectorAll('figure svg')) {
    if (!svg.checkVisibility()) continue;
    const texts = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
    texts.forEach(([a, p], i) => texts.slice(i + 1).forEach(([b, q]) => {
      const x = Math.min(p.right, q.right) - Math.max(p.left, q.left);
      const y = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
      if (x > 1.5 && y > 3.5) wrong.push([svg.getAttribute('aria-label'), a.slice(0, 40), b.slice(0, 40), x, y]);
    }));
  }
  return wrong;
}"""


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module", params=ENGLISH_FIRST)
def report(request, hostile_report):
    return hostile_report(request.param)


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=LONG)])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_report_opens_without_an_error_a_request_or_a_sideways_scroll(browser, report, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said, asked, dialogs = [], [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: dialogs.append(dialog.message) or dialog.dismiss())
    page.goto(report.as_uri())
    assert (said, dialogs) == ([], [])
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.title").startswith(("Plant report", "プラントレポート"))
    page.close()


def test_every_link_leads_to_what_it_names(browser, report):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(report.as_uri())
    links = page.evaluate(
        "[...new Set([...document.querySelectorAll('a')].map(a => a.getAttribute('href') || "
        "a.getAttribute('xlink:href')))]"
    )
    assert len(links) > 10
    for link in links:
        assert page.evaluate("link => document.getElementById(link.slice(1)) !== null", link), link
    for link in [link for link in links if link != "#top"][:12]:
        page.evaluate("link => { location.hash = link }", link)
        page.wait_for_timeout(60)
        top = page.evaluate("link => document.getElementById(link.slice(1)).getBoundingClientRect().top", link)
        assert top < 900, link
    page.close()


def test_a_search_leaves_what_has_all_its_words_and_counts_it(browser, report):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(report.as_uri())
    shown = "[...document.querySelectorAll('#machines article')].filter(a => !a.hidden).length"
    before = page.evaluate(shown)
    assert before > 1
    machine = page.inner_text("#machines article h3 >> nth=0")
    page.fill("#search", machine)
    assert page.evaluate(shown) == 1
    n_found, n_all = map(int, page.inner_text("#found").split(" / "))
    assert 1 <= n_found < n_all
    page.fill("#search", f"{machine} that no card has")
    assert (page.evaluate(shown), page.inner_text("#found")) == (0, f"0 / {n_all}")
    page.fill("#search", "")
    assert (page.evaluate(shown), page.inner_text("#found"), said) == (before, "", [])
    page.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_no_label_lies_on_another(browser, report, width):
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(report.as_uri())
    page.add_style_tag(content=".regime, .event, .machine { content-visibility: visible !important }")
    assert page.evaluate(OVERLAPPING) == []
    page.close()


@LONG
def test_the_report_prints_on_paper(browser, report, tmp_path):
    page = browser.new_page()
    page.goto(report.as_uri())
    printed = page.pdf(prefer_css_page_size=True)
    assert printed.startswith(b"%PDF")
    assert 5 < printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") < 100
    page.close()
