"""Asking for a copy of the night, in a process of its own, whenever the warehouse has changed and is at rest."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from pwflow_core.config import PlantConfig
from pwflow_core.errors import LiveStoreError, NotFittedError

__all__ = ["CopyNight", "copy_in_a_process"]

_log = logging.getLogger("pwflow.watch")

CopyNight = Callable[[PlantConfig, Path], None]
_MOST_SECONDS = 1800


def copy_in_a_process(config: PlantConfig, folder: Path) -> None:
    """Copy the night into the folder of the watch, see `copying`.

    Raises:
        NotFittedError: There is nothing to score by yet.
        LiveStoreError: It failed; what was copied before stays in use.
    """
    values = config.model_dump(mode="json", exclude_unset=True)
    done = subprocess.run(  # noqa: S603 - this program
        [sys.executable, "-m", "pwflow_core.watching.copying", str(folder)],
        input=json.dumps({"config": values, "folder": str(config.folder.absolute())}),
        capture_output=True,
        text=True,
        timeout=_MOST_SECONDS,
        check=False,
    )
    if done.returncode == 0:
        return
    said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    kind, _, message = said.partition(": ")
    if kind == NotFittedError.__name__:
        raise NotFittedError(message)
    raise LiveStoreError(f"What the watch needs of the warehouse could not be copied: {said}")
