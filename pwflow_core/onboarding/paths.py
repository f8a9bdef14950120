"""What the path of a file tells: the machine or the sensor that it is about, beside the day."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from pwflow_core.config import DATE_IN_PATH, path_expression
from pwflow_core.errors import list_few
from pwflow_core.onboarding.names import only_words
from pwflow_core.onboarding.vocabulary import BESIDE_MACHINE, MACHINES, POINTS
from pwflow_core.opening import split_member

__all__ = ["PathColumns", "find_path_columns", "label_paths"]

_IS_DATE = re.compile(rf"(?<!\d){DATE_IN_PATH}(?!\d)")
_NUMBERED_DAY = re.compile(r"(?<![A-Za-z])\d{1,2}(?![A-Za-z\d])")
_HIVE = re.compile(r"([A-Za-z_]\w*)=(.+)")
_TIMES = frozenset({"date", "day", "dt", "year", "month", "hour", "week", "y", "m", "d", "h", "datum", "jahr", "monat"})
_EDGES = " _.+-"
_EDGE = "[ _.+-]*"
_MOST_SHARED = 3


@dataclass(frozen=True, slots=True)
class PathColumns:
    """A column that the path of a file gives.

    Attributes:
        pattern: Regular expression with the columns as named groups.
        name: The column.
        values: What it is, by the label of each file.
        is_tag: Whether it is called like a sensor, not like a machine.
    """

    pattern: str
    name: str
    values: dict[str, str]
    is_tag: bool

    def called(self, name: str) -> PathColumns:
        """Return the same under another name."""
        return replace(self, name=name, pattern=self.pattern.replace(f"(?P<{self.name}>", f"(?P<{name}>"))

    @property
    def sentence(self) -> str:
        """What was found, as a sentence."""
        shown = list_few(sorted(set(self.values.values())), 5)
        return f"The path of a file tells the {self.name} ({shown}): check source.path_columns."


def label_paths(files: Sequence[Path]) -> list[str]:
    """Return the path of each file below the folder that all of them share."""
    texts = [file.as_posix() for file in files]
    folders = [os.path.dirname(split_member(text)[0].as_posix()) for text in texts]  # noqa: PTH120 - as in a URL
    base = os.path.commonpath(folders) if folders else ""
    return [text.removeprefix(base).lstrip("/") for text in texts]


def find_path_columns(files: Sequence[Path], share_times: Callable[[list[int]], bool]) -> PathColumns | None:
    """Find the part of the paths that tells machines or sensors apart: what does not change with the day.

    Arguments:
        files: The exports.
        share_times: Whether files, given by their places, hold the same times.

    Returns:
        The column; None if the paths tell only days apart, or nothing.
    """
    labels = label_paths(files)
    if len(labels) < 2:
        return None
    for found in (*_folders_by_key(labels), _parts(labels)):
        if found is None or len(set(found.values.values())) < 2:
            continue
        if _on_the_same_days(found) or share_times(_one_each(labels, found)):
            return found
    return None


def _one_each(labels: list[str], found: PathColumns) -> list[int]:
    """Return the place of one file for each of a few values."""
    first: dict[str, int] = {}
    for place, label in enumerate(labels):
        first.setdefault(found.values[label], place)
    return list(first.values())[:_MOST_SHARED]


def _on_the_same_days(found: PathColumns) -> bool:
    """Whether files of several values name the same day."""
    by_day: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for label, value in found.values.items():
        if days := tuple(match[0] for match in _IS_DATE.finditer(label)):
            by_day[days].add(value)
    return any(len(values) > 1 for values in by_day.values())


def _folders_by_key(labels: list[str]) -> list[PathColumns]:
    """Return the columns of folders such as `machine=A`, those called like a machine first."""
    keys: Counter[str] = Counter()
    for label in labels:
        keys.update(match[1] for part in PurePosixPath(label).parts[:-1] if (match := _HIVE.fullmatch(part)))
    found = []
    for key, n in keys.items():
        if n < len(labels) or key.lower() in _TIMES:
            continue
        pattern = rf"(?:^|/){re.escape(key)}=(?P<{key}>[^/]+)/"
        values = {label: match[key] for label in labels if (match := re.search(pattern, label))}
        if len(values) == len(labels):
            found.append(PathColumns(pattern, key, values, only_words(key, POINTS, BESIDE_MACHINE)))
    return sorted(found, key=lambda column: not only_words(column.name, MACHINES, BESIDE_MACHINE))


def _parts(labels: list[str]) -> PathColumns | None:
    """Return the part of the path that differs beside days: in one folder, or in the name of the file."""
    split = [PurePosixPath(label).parts for label in labels]
    if len({len(parts) for parts in split}) != 1:
        return None
    keys = [[_without_day(part, is_file=i == len(parts) - 1) for i, part in enumerate(parts)] for parts in split]
    varying = [i for i in range(len(split[0])) if len({key[i] for key in keys}) > 1]
    if len(varying) != 1 or any(not key[varying[0]] for key in keys):
        return None
    place = varying[0]
    is_file = place == len(split[0]) - 1
    own = [parts[place] for parts in split]
    before, after = "(?:^|/)", r"(\.[^/]*)?" if is_file else ""
    if all(map(_begins_with_day, own)):
        before += f"{{date}}{_EDGE}"
    elif any(map(_IS_DATE.search, own)):
        after = f"{_EDGE}{{date}}[^/]*"
    below = "/[^/]+" * (len(split[0]) - 1 - place)
    pattern = f"{before}(?P<part>[^/]+?){after}{below}$"
    values = {}
    for label, key in zip(labels, keys, strict=True):
        match = path_expression(pattern).search(label)
        if match is None or match["part"] != key[place]:
            return None
        values[label] = match["part"]
    return PathColumns(pattern, "part", values, is_tag=False)


def _begins_with_day(part: str) -> bool:
    return bool(_IS_DATE.match(part))


def _without_day(part: str, *, is_file: bool) -> str:
    """Return a part of a path without the day, and without the ending."""
    if is_file:
        part = part.partition(".")[0] if not _IS_DATE.search(part) else re.sub(r"(\.[A-Za-z]\w{0,6}){1,2}$", "", part)
    bare = _IS_DATE.sub("", part)
    if not bare.strip(_EDGES) or _NUMBERED_DAY.fullmatch(bare.strip(_EDGES)):
        return ""
    return bare.strip(_EDGES)
