"""`pwflow init`: from a file, folder or glob to a `pwflow.toml` on disk."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import available_timezones

from pwflow_core.config import DEFAULT_FILE, parse_config
from pwflow_core.errors import ConfigurationError
from pwflow_core.onboarding.discovery import find_exports
from pwflow_core.onboarding.findings import Inspection
from pwflow_core.onboarding.inspection import inspect_source
from pwflow_core.onboarding.named_zone import find_named_zone
from pwflow_core.onboarding.writing import write_config
from pwflow_core.storage import replacing

__all__ = ["Ask", "Initialisation", "initialise"]

Ask = Callable[[str, str, Callable[[str], None]], str]
"""A question to a person, with its default and a check that raises ConfigurationError; returns the answer."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_ASSUMED_ZONE = "UTC"
_TO_CHECK = re.compile(r"\bcheck\b|\bassumed\b", re.IGNORECASE)
_LEFT_OUT = re.compile(r"\brefused\b|^Does not read|^Leaves out|\bset source\.|\btake it out\b|\bperhaps\b")


@dataclass(frozen=True, slots=True)
class Initialisation:
    """What `pwflow init` did.

    Attributes:
        path: The configuration that was written.
        patterns: Paths or globs of the exports that it names.
        assumptions: What was assumed, one sentence each, the doubtful ones first.
        inspection: What was found in the exports.
    """

    path: Path
    patterns: tuple[str, ...]
    assumptions: tuple[str, ...]
    inspection: Inspection


def initialise(
    target: Path,
    output: Path,
    *,
    name: str | None = None,
    timestamp: str | None = None,
    timezone: str | None = None,
    machine: str | None = None,
    segments: Sequence[str] | None = None,
    ignore: Sequence[str] = (),
    encoding: str | None = None,
    overwrite: bool = False,
    ask: Ask | None = None,
) -> Initialisation:
    """Look at exports and write a configuration that runs as it is.

    Arguments:
        target: A CSV or Parquet file, a folder of them, or a glob.
        output: The file to write, or the folder to write `pwflow.toml` into.
        name: Name of the plant; "plant" if it is not given.
        timestamp: Timestamp column, where it should not be guessed.
        timezone: IANA time zone of timestamps that carry none.
        machine: Machine column, where it should not be guessed.
        segments: Columns of process conditions, where they should not be guessed; empty for none.
        ignore: Columns to leave out.
        encoding: Encoding of text that is not UTF-8, where it should not be guessed.
        overwrite: Whether to replace a configuration that is there.
        ask: Asks a person what the exports do not say; without it the default is taken, and named.

    Raises:
        SourceError: The target cannot be read, or has no timestamp or no numeric column.
        ConfigurationError: A configuration is there already, or a name or time zone is none.
    """
    path = output / DEFAULT_FILE if output.is_dir() else output
    _check_arguments(path, name, timezone, overwrite=overwrite)
    exports = find_exports(target, path.absolute().parent)
    inspection = inspect_source(
        exports.files,
        timestamp=timestamp,
        timezone=timezone,
        machine=machine,
        segments=segments or (),
        ignore=ignore,
        guess_segments=segments is None,
        encoding=encoding,
    )
    doubts = []
    if inspection.is_naive and timezone is None:
        timezone = find_named_zone(inspection.timestamp)
        if timezone is not None:
            doubts.append(f"The name of the time column tells its time zone: it is read as {timezone}. Check this.")
    if inspection.is_naive and timezone is None and ask is not None:
        timezone = ask("The times name no time zone. Zone of these times", _ASSUMED_ZONE, _check_zone)
    text = write_config(inspection, patterns=exports.patterns, name=name or "plant", timezone=timezone)
    parse_config(tomllib.loads(text), name=str(path), folder=path.absolute().parent)
    _replace(path, text)
    if inspection.is_naive and timezone is None:
        doubts.append("The times name no time zone: UTC is assumed, so check source.timezone.")
    assumptions = sorted((*doubts, *exports.assumptions, *inspection.assumptions), key=_certainty)
    return Initialisation(path, exports.patterns, tuple(assumptions), inspection)


def _certainty(sentence: str) -> int:
    """Return how sure an assumption is: what is to be checked, what is left out or refused, what is plain to see."""
    if _TO_CHECK.search(sentence):
        return 0
    return 1 if _LEFT_OUT.search(sentence) else 2


def _check_arguments(path: Path, name: str | None, timezone: str | None, *, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise ConfigurationError(
            f"Expected to write a new {path}, but there is one already: give --overwrite to replace it, or "
            "another --output."
        )
    if name is not None and not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"Expected a plant name of letters, digits and underscores, got {name!r}: choose another --name."
        )
    if timezone is not None:
        _check_zone(timezone)


def _check_zone(timezone: str) -> None:
    if timezone not in available_timezones():
        raise ConfigurationError(
            f"Expected an IANA time zone such as 'UTC' or 'Europe/Berlin', got {timezone!r}: correct --timezone."
        )


def _replace(path: Path, text: str) -> None:
    """Write the file as a whole, or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as fresh:
            fresh.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written ({error.strerror}): give another --output.") from None
