"""Following a stream of lines: scored in batches of what has arrived, by the newest bundle, from where it stopped."""

from __future__ import annotations

import json
import os
import selectors
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from pwflow_core.edge.bundle import open_bundle, read_manifest
from pwflow_core.edge.lines import LineReader
from pwflow_core.edge.scorer import EdgeScorer, Score
from pwflow_core.errors import SourceError
from pwflow_core.files import put_file

__all__ = ["Followed", "follow"]

_MOST_BYTES = 1 << 20
_LONGEST_LINE = 1 << 21


@dataclass(frozen=True)
class Followed:
    """What became of a stream of lines.

    Attributes:
        counts: How many were scored, by status, or refused, by reason.
        examples: What was refused first, by reason.

    """

    counts: Counter[str]
    examples: Mapping[str, str]


def follow(
    folder: Path,
    lines: BinaryIO,
    scores: TextIO,
    *,
    is_csv: bool = False,
    state_file: Path | None = None,
    only_anomalies: bool = False,
) -> Followed:
    """Score lines as they arrive, until their stream ends.

    A bundle that is exported meanwhile is used from the next batch on. The state is written after the scores of a
    batch: after a kill in between, readings that are sent again are scored again, and none is lost.

    Arguments:
        folder: The bundle.
        lines: Lines of readings, see `LineReader`: JSON in UTF-8, CSV in the encoding of the source.
        scores: Gets a JSON object for each score.
        is_csv: Whether lines are CSV with a header.
        state_file: Where the state is kept over restarts; None to begin where the bundle ends.
        only_anomalies: Write only the scores of anomalies.

    Raises:
        ModelFileError: The bundle or the state is missing or damaged.
        SourceError: The source of the plant has no lines of readings, or the header of CSV lacks a column.

    """
    bundle = open_bundle(folder)
    scorer, reader = EdgeScorer(bundle), LineReader(bundle.document["source"], is_csv=is_csv)
    if state_file is not None and state_file.exists():
        scorer.restore(state_file.read_bytes())
    counts: Counter[str] = Counter()
    encoding = _encoding(bundle.document["source"]) if is_csv else "utf-8"
    for batch in _batches(lines, encoding):
        manifest = read_manifest(folder)
        if manifest != bundle.manifest:
            bundle, state = open_bundle(folder), scorer.state()
            counts += scorer.refused
            scorer = EdgeScorer(bundle)
            scorer.restore(state)
            counts += reader.refused
            reader = reader.with_source(bundle.document["source"])
        readings = reader.read(batch)
        found = scorer.score(
            readings.machine, readings.at, readings.values, readings.segment, not_numbers=readings.not_numbers
        )
        for score in found:
            counts["anomalies" if score.is_anomaly else score.status] += 1
            if score.is_anomaly or not only_anomalies:
                scores.write(_to_json(score) + "\n")
        scores.flush()
        if state_file is not None:
            put_file(state_file, scorer.state())
    return Followed(counts + scorer.refused + reader.refused, reader.examples)


def _encoding(source: Mapping[str, Any]) -> str:
    """Return the encoding of lines of CSV.

    Raises:
        SourceError: A byte that ends a line in it is a part of other letters too.

    """
    encoding: str = source.get("encoding") or "utf-8"
    if encoding.startswith(("utf-16", "utf-32")):
        raise SourceError(f"Expected lines in UTF-8 or another encoding of single bytes, got {encoding}: convert them.")
    return encoding


def _batches(lines: BinaryIO, encoding: str) -> Iterator[list[str]]:
    """Yield the whole lines that have arrived, as soon as there are any."""
    descriptor, rest = lines.fileno(), b""
    with selectors.DefaultSelector() as selector:
        try:
            selector.register(descriptor, selectors.EVENT_READ)
        except PermissionError:  # a file, which is always ready
            selector.close()
        while True:
            if selector.get_map() is not None:
                selector.select()
            data = os.read(descriptor, _MOST_BYTES)
            *whole, rest = (rest + data).split(b"\n")
            if not data or len(rest) > _LONGEST_LINE:
                whole, rest = [*whole, rest], b""
            if whole:
                yield [line.decode(encoding, errors="surrogateescape") for line in whole]
            if not data:
                return


def _to_json(score: Score) -> str:
    document = asdict(score)
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=document.pop("at"))
    document = {"ts": moment.isoformat().replace("+00:00", "Z")} | document
    del document["row"]
    return json.dumps(document)
