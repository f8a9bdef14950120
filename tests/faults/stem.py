"""A process that has imported everything and forks a copy of itself for each run that is to be killed.

It reads one JSON line per run (the folder of a plant and code), answers with the id of the copy, and, when that has
ended, with how. Nothing is opened before the fork, so a copy is a process like any other.
"""

import contextlib
import importlib
import json
import os
import resource
import signal
import sys
import time
import traceback
from pathlib import Path

PRELOADED = ("duckdb", "torch", "sklearn.mixture", "sklearn.cluster", "scipy.optimize", "pandas", "hypothesis")
STEPS = {
    "pipeline.source.ingest": ("ingest_files",),
    "pipeline.readings.deriving": ("derive_readings",),
    "pipeline.regimes.finding": ("fit_cluster_model",),
    "pipeline.regimes.assigning": ("assign_readings",),
    "pipeline.flows.training": ("train_cluster_flows",),
    "pipeline.scoring.densities": ("score_slices",),
    "pipeline.scoring.scores": ("derive_scores",),
    "pipeline.scoring.contributions": ("explain_anomalies",),
    "pipeline.scoring.events": ("derive_events",),
    "pipeline.drift.health": ("derive_health",),
    "pipeline.drift.evidence": ("follow_drift",),
    "pipeline.publishing.publishing": ("publish_warehouse",),
    "pipeline.flows.retention": ("collect_model_files",),
    "reporting": ("build_report", "report_path"),
}


def run(folder: Path, code: str, names: dict[str, object]) -> None:
    from pwflow_core.config import parse_config
    from pwflow_core.plant import Plant

    config = parse_config(json.loads((folder / "config.json").read_text()), name="the test", folder=folder)
    exec(code, {**names, "plant": Plant.open(config), "os": os})  # noqa: S102 - the code of a test


def main() -> None:
    for module in PRELOADED:
        importlib.import_module(module)
    names = {
        name: getattr(importlib.import_module(f"pwflow_core.{module}"), name)
        for module, of_module in STEPS.items()
        for name in of_module
    }
    print("ready", flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        started = time.monotonic()
        pid = os.fork()
        if pid == 0:
            status = 1
            with contextlib.suppress(BaseException), Path(task["output"]).open("w") as output:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
                if task["file_limit"] is not None:
                    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                    resource.setrlimit(resource.RLIMIT_FSIZE, (task["file_limit"],) * 2)
                try:
                    run(Path(task["folder"]), task["code"], names)
                    status = 0
                except BaseException:
                    traceback.print_exc()
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)
        print(pid, flush=True)
        _, code = os.waitpid(pid, 0)
        print(json.dumps([os.waitstatus_to_exitcode(code), time.monotonic() - started]), flush=True)


if __name__ == "__main__":
    main()
