"""Make the pictures of the documentation from a demo that has run: `python docs/pictures.py docs/images`.

Starts `pwflow ui` on the demo in the current folder (or PWFLOW_HOME) as a user does, with its drift sensor, and looks
at it with a headless Chromium. Run `pwflow demo` first, and leave its verdicts: the pictures show them open. Then it
decides by clicking alone, as the tutorial says one can: it runs the whole path, opens a partition, trains its regime
again, approves the regime that a verdict proposes and rolls a flow back, and fails where that comes to nothing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from pwflow_core.demo import demo_config
from pwflow_core.plant import Plant
from pwflow_core.reporting import report_path

PATIENCE_MS = 600_000
LOCATION = "pwflow_dagster.definitions"
SUBJECTS = ("report", "dagster", "clicks")
IN_FORCE = "SELECT flow_version FROM mart.flow_versions WHERE cluster_key = ? AND in_force"
DECISIONS = "SELECT count(*) FROM mart.flow_decisions WHERE cluster_key = ?"
PROPOSED = "SELECT verdict_id FROM mart.drift_verdicts WHERE verdict = 'new_regime' AND status = 'open' ORDER BY night"
EVENTS = """
    SELECT event_id FROM mart.anomaly_events
    WHERE n_readings BETWEEN 10 AND 60 AND summary LIKE '%coolant% and coolant% was expected%'
    ORDER BY started_at DESC
"""
MOVED = "SELECT cluster_keys[1] FROM mart.drift_verdicts WHERE verdict = 'regime_moved' ORDER BY night LIMIT 1"
REGIMES = "SELECT cluster_key FROM mart.clusters WHERE status = 'active'"
SWITCHED = """
    SELECT cluster_key, flow_version, made.previous_version
    FROM mart.flow_decisions AS made
    JOIN mart.flow_versions AS flow USING (cluster_key, flow_version)
    WHERE flow.in_force AND made.decision = 'promoted' AND made.previous_version <> flow_version
    ORDER BY made.decided_at DESC
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="Folder of the pictures.")
    parser.add_argument("--only", nargs="*", choices=SUBJECTS, default=SUBJECTS)
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        if "report" in chosen.only:
            picture_report(browser.new_page(viewport={"width": 1180, "height": 1900}), chosen.folder)
        if {"dagster", "clicks"} & set(chosen.only):
            with ui() as address:
                if "dagster" in chosen.only:
                    page = browser.new_page(viewport={"width": 1280, "height": 960})
                    picture_sensor(page, address, chosen.folder)
                    picture_partition(page, address, chosen.folder)
                    picture_graph(browser.new_page(viewport={"width": 2900, "height": 900}), address, chosen.folder)
                if "clicks" in chosen.only:
                    decide_by_clicking(browser.new_page(viewport={"width": 1500, "height": 900}), address)
        browser.close()


@contextmanager
def ui() -> Iterator[str]:
    """Run `pwflow ui` on a free port, and return its address once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "pwflow_dagster", "ui", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until(lambda: is_open(port), "an answer of `pwflow ui`")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=60)


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"Waited {PATIENCE_MS / 1000:.0f} seconds for {what} in vain.")
        time.sleep(1)


def picture_graph(page: Page, address: str, folder: Path) -> None:
    page.goto(f"{address}/asset-groups", timeout=PATIENCE_MS)
    page.get_by_text("4_publication").first.wait_for(timeout=PATIENCE_MS)
    page.get_by_text("Hide navigation").click()
    page.mouse.click(1500, 800)
    page.keyboard.press("Alt+KeyE")  # expand all groups
    page.wait_for_timeout(12_000)
    page.screenshot(path=folder / "asset-graph.png", clip={"x": 420, "y": 180, "width": 2430, "height": 580})


def picture_partition(page: Page, address: str, folder: Path) -> None:
    [(moved,)] = ask(MOVED)
    open_partition(page, address, moved)
    page.wait_for_timeout(10_000)
    page.screenshot(path=folder / "cluster-partition.png")


def picture_sensor(page: Page, address: str, folder: Path) -> None:
    page.goto(f"{address}/locations/{LOCATION}/sensors/drift", timeout=PATIENCE_MS)
    page.get_by_text("answer_drift").first.wait_for(timeout=PATIENCE_MS)
    wait_until(lambda: bool(ask(SWITCHED)), "a regime with a second flow, by the drift sensor")
    page.wait_for_timeout(90_000)  # the end of that run, and a tick or two
    page.screenshot(path=folder / "drift-sensor.png")


def picture_report(page: Page, folder: Path) -> None:
    page.goto(report_path(demo_config(), "en").as_uri(), timeout=PATIENCE_MS)
    page.locator("#glance").screenshot(path=folder / "report-glance.png")
    for (event_id,) in ask(EVENTS):
        if page.locator(f"#event-{event_id}").count():  # the report shows the worst and the latest in full
            picture_card(page, f"#event-{event_id}", folder / "event.png")
            break
    for (moved,) in ask(MOVED):
        picture_card(page, f"#regime-{moved}", folder / "report-regime.png")


def picture_card(page: Page, card: str, file: Path) -> None:
    for _ in range(2):  # what is far away is not drawn yet, and moves when what is above it is
        page.locator(card).evaluate("card => card.scrollIntoView()")
        page.wait_for_timeout(3_000)
    page.locator(card).screenshot(path=file)


def decide_by_clicking(page: Page, address: str) -> None:
    """Do in the UI what a person does there, and look in the warehouse at what came of it."""
    page.set_default_timeout(PATIENCE_MS)
    launch(page, address, "whole_path")
    say("whole_path succeeded")
    open_partition(page, address, "c0001")
    page.get_by_text("[Show Markdown]").first.click()
    page.locator("img[src^='data:image/png']").first.wait_for()
    say("the partition c0001 of cluster_flow shows its training curve")
    retrain(page, address, "c0001")
    approve(page, address)
    roll_back(page, address)


def approve(page: Page, address: str) -> None:
    """Approve the regime that the first open verdict proposes."""
    [(verdict_id,), *_] = ask(PROPOSED)
    before = ask(REGIMES)
    launch(page, address, "approve_regime", f"{{ops: {{run_approval: {{config: {{verdict_id: '{verdict_id}'}}}}}}}}")
    [(key,)] = set(ask(REGIMES)) - set(before)
    open_partition(page, address, key)
    say(f"{key}, which verdict {verdict_id} proposed, was approved")


def roll_back(page: Page, address: str) -> None:
    """Return to the flow that a regime had before; the drift sensor has given one a new flow by now."""
    wait_until(lambda: bool(ask(SWITCHED)), "a regime with a second flow, by the drift sensor")
    [(key, version, previous), *_] = ask(SWITCHED)
    launch(page, address, "roll_back_flow", f"{{ops: {{run_rollback: {{config: {{cluster_key: {key}}}}}}}}}")
    if ask(IN_FORCE, key) != [(previous,)]:
        raise RuntimeError(f"Expected {previous[:12]} in use for {key} again, got {ask(IN_FORCE, key)}.")
    say(f"{key} was rolled back from {version[:12]} to {previous[:12]}")


def launch(page: Page, address: str, job: str, config: str = "") -> None:
    """Start a job from its launchpad, and wait until its run has succeeded."""
    page.goto(f"{address}/jobs")
    page.get_by_text(job, exact=True).first.click()
    page.get_by_text("Launchpad", exact=True).first.click()
    editor = page.locator(".CodeMirror").first
    editor.wait_for()
    page.wait_for_timeout(3_000)  # the defaults are filled in
    if config:
        editor.click()
        page.keyboard.press("Control+a")
        page.keyboard.insert_text(config)
    page.get_by_role("button", name="Launch Run").click()
    page.wait_for_url("**/runs/*")
    page.get_by_text("Success", exact=True).or_(page.get_by_text("Failure", exact=True)).first.wait_for()
    if page.get_by_text("Failure", exact=True).count():
        raise RuntimeError(f"The run of {job} failed: see {page.url}.")


def retrain(page: Page, address: str, key: str) -> None:
    """Train the flow of one regime again, from the job."""
    before = ask(DECISIONS, key)
    page.goto(f"{address}/jobs")
    page.get_by_text("retrain_cluster", exact=True).first.click()
    page.get_by_text("Materialize all").first.click()
    page.get_by_text("Select a partition or create one").click()
    page.get_by_text(key, exact=True).locator("visible=true").last.click()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Launch 1 run").click()
    wait_until(lambda: ask(DECISIONS, key) != before, f"a decision about a new flow of {key}")
    say(f"{key} was trained again")


def open_partition(page: Page, address: str, key: str) -> None:
    page.goto(f"{address}/assets/demo/cluster_flow?view=partitions&partition={key}", timeout=PATIENCE_MS)
    page.get_by_text("training curve").first.wait_for(timeout=PATIENCE_MS)


def ask(query: str, *values: str) -> list[tuple]:
    with Plant.open(demo_config()).warehouse.snapshot() as connection:
        return connection.execute(query, list(values)).fetchall()


def say(done: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {done}", flush=True)


if __name__ == "__main__":
    main()
