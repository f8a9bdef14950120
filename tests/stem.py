"""A process that has imported everything and forks a copy of itself for each run: to be killed, or just to start soon.

It reads one JSON line per run (a folder, and code on the plant there or the words of a command), answers with the id of
the copy, and, when that has ended, with how. Nothing is opened before the fork, so a copy is a process like any other.
"""

import contextlib
import gc
import importlib
import json
import os
import resource
import runpy
import signal
import sys
import time
import traceback
from pathlib import Path

PRELOADED = (
    "duckdb",
    "torch",
    "sklearn.mixture",
    "sklearn.cluster",
    "scipy.optimize",
    "pandas",
    "hypothesis",
    "pwflow_dagster.cli",
    "pwflow_dagster.definitions",
    "pwflow_dagster.runs",
)
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


def command(folder: Path, words: list[str], environment: dict[str, str]) -> None:
    """Do what `python -m pwflow_dagster` does with these words."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["pwflow", *words]
    sys.path[0] = ""
    runpy.run_module("pwflow_dagster", run_name="__main__")


def main() -> None:
    for module in PRELOADED:
        importlib.import_module(module)
    names = {
        name: getattr(importlib.import_module(f"pwflow_core.{module}"), name)
        for module, of_module in STEPS.items()
        for name in of_module
    }
    gc.collect()
    gc.freeze()  # no copy looks through what was imported
    print("ready", flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        started = time.monotonic()
        pid = os.fork()
        if pid == 0:
            status = 1
            with contextlib.suppress(BaseException), Path(task["output"]).open("w") as output:
                errors = Path(task["errors"]).open("w") if task["errors"] else output  # noqa: SIM115 - ends with us
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.dup2(output.fileno(), 1)
                os.dup2(errors.fileno(), 2)
                if task["file_limit"] is not None:
                    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                    resource.setrlimit(resource.RLIMIT_FSIZE, (task["file_limit"],) * 2)
                try:
                    if task["words"] is None:
                        run(Path(task["folder"]), task["code"], names)
                    else:
                        command(Path(task["folder"]), task["words"], task["environment"])
                    status = 0
                except SystemExit as end:
                    status = end.code if isinstance(end.code, int) else int(end.code is not None)
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
