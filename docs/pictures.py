"""Make the pictures of the documentation from a demo that has run: `python tests/pictures.py docs/images`.

Starts `pwflow ui` on the demo in the current folder (or PWFLOW_HOME) as a user does, with its drift sensor, and looks
at it with a headless Chromium. Run `pwflow demo` first, and leave its verdicts: the pictures show them open.
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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from pwflow_core.demo import demo_config
from pwflow_core.plant import Plant
from pwflow_core.reporting import report_path

PATIENCE_MS = 600_000
LOCATION = "pwflow_dagster.definitions"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="Folder of the pictures.")
    parser.add_argument("--only", nargs="*", choices=["report", "dagster"], default=["report", "dagster"])
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        if "report" in chosen.only:
            picture_report(browser.new_page(viewport={"width": 1180, "height": 1900}), chosen.folder)
        if "dagster" in chosen.only:
            with ui() as address:
                wide = browser.new_page(viewport={"width": 2900, "height": 900})
                picture_graph(wide, address, chosen.folder)
                wide.close()
                page = browser.new_page(viewport={"width": 1500, "height": 900})
                picture_partition(page, address, chosen.folder)
                picture_sensor(page, address, chosen.folder)
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
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(1)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=60)


def picture_graph(page: Page, address: str, folder: Path) -> None:
    page.goto(f"{address}/asset-groups", timeout=PATIENCE_MS)
    page.get_by_text("4_publication").first.wait_for(timeout=PATIENCE_MS)
    page.get_by_text("Hide navigation").click()
    page.mouse.click(1500, 800)
    page.keyboard.press("Alt+KeyE")  # expand all groups
    page.wait_for_timeout(12_000)
    page.screenshot(path=folder / "asset-graph.png")


def picture_partition(page: Page, address: str, folder: Path) -> None:
    page.goto(f"{address}/assets/demo/cluster_flow?view=partitions&partition=c0005", timeout=PATIENCE_MS)
    page.get_by_text("training curve").first.wait_for(timeout=PATIENCE_MS)
    page.wait_for_timeout(10_000)
    page.screenshot(path=folder / "cluster-partition.png")


def picture_sensor(page: Page, address: str, folder: Path) -> None:
    page.goto(f"{address}/locations/{LOCATION}/sensors/drift", timeout=PATIENCE_MS)
    page.get_by_text("answer_drift").first.wait_for(timeout=PATIENCE_MS)
    page.wait_for_timeout(90_000)  # a tick or two
    page.screenshot(path=folder / "drift-sensor.png")


def picture_report(page: Page, folder: Path) -> None:
    plant = Plant.open(demo_config())
    with plant.warehouse.snapshot() as connection:
        moved = connection.execute(
            "SELECT cluster_keys[1] FROM mart.drift_verdicts WHERE verdict = 'regime_moved' ORDER BY night LIMIT 1"
        ).fetchone()
    page.goto(report_path(plant.config, "en").as_uri(), timeout=PATIENCE_MS)
    page.locator("#glance").screenshot(path=folder / "report-glance.png")
    if moved:
        regime = page.locator(f"#regime-{moved[0]}")
        regime.scroll_into_view_if_needed()  # what is far away is not drawn yet
        page.wait_for_timeout(5_000)
        regime.screenshot(path=folder / "report-regime.png")


if __name__ == "__main__":
    main()
