"""What commands print: text that fits the terminal, JSON for programs, and errors in the form that was asked for."""

from __future__ import annotations

import json
import re
import shutil
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from datetime import UTC, date, datetime
from math import isfinite
from pathlib import Path
from typing import Any

import click

__all__ = ["as_json", "echo_error", "echo_json", "echo_text", "is_id", "wrap_text"]

_NARROWEST = 40
_COMMAND = re.compile(r"`[^`]*`")
_HEAD = re.compile(r" *(?:\S+(?: \S+){0,2} {2,})?")
_KEPT = "\N{NO-BREAK SPACE}"


def echo_text(text: str) -> None:
    """Print text; on a terminal, lines that are too long go on below the column in which their text began."""
    if sys.stdout.isatty():
        text = wrap_text(text, shutil.get_terminal_size().columns)
    click.echo(text)


def wrap_text(text: str, width: int) -> str:
    """Return text in lines of at most `width` characters, with commands between backticks in one piece.

    Arguments:
        text: Lines; one that begins with a few words and two spaces is a row of a list, and goes on below its second
            column.
        width: Of the terminal, in characters; fewer than 40 count as 40.
    """
    room = max(width, _NARROWEST)
    lines = []
    for line in text.split("\n"):
        if len(line) <= room:
            lines.append(line)
            continue
        head = _HEAD.match(line)
        indent = min(len(head[0]) if head else 0, room // 2)
        whole = _COMMAND.sub(lambda command: command[0].replace(" ", _KEPT), line)
        folded = textwrap.wrap(
            whole,
            room,
            subsequent_indent=" " * indent,
            break_long_words=False,
            break_on_hyphens=False,
            replace_whitespace=False,
        )
        lines += [part.replace(_KEPT, " ") for part in folded]
    return "\n".join(lines)


def echo_json(document: Mapping[str, Any]) -> None:
    """Print a result as JSON, and nothing else.

    Times are ISO 8601 with their zone, ids are text, and what cannot be computed is null.
    """
    click.echo(json.dumps(as_json(document), indent=2, ensure_ascii=False))


def echo_error(error: click.ClickException) -> None:
    """Print an error as JSON in the place of the result: its kind, its sentence, and the exit code."""
    kind = type(error.__cause__ or error).__name__
    echo_json({"error": {"kind": kind, "message": error.format_message(), "exit_code": error.exit_code}})


def as_json(value: Any) -> Any:  # noqa: ANN401 - any part of a JSON document
    """Return a value as JSON has it; a time without a zone is UTC, as the tables have it.

    An id is text: programs that read numbers as floats lose digits of those above 2^53.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return as_json(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): as_json(_id_as_text(str(key), item)) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [as_json(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    return str(value) if isinstance(value, Path) else value


def is_id(name: str) -> bool:
    """Whether a field or column of this name holds ids, such as `event_id`."""
    return name.endswith("_id")


def _id_as_text(name: str, value: Any) -> Any:  # noqa: ANN401 - any part of a JSON document
    return str(value) if is_id(name) and isinstance(value, int) else value
