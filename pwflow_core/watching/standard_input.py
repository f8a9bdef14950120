"""Lines on standard input, JSON or CSV: scored as soon as they are there, until they end."""

from __future__ import annotations

import os
import selectors
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, BinaryIO

from pwflow_core.edge.lines import LineReader
from pwflow_core.watching.arriving import Arrived

__all__ = ["StandardInput"]

_MOST_BYTES = 1 << 19
_LONGEST_LINE = 1 << 20


class StandardInput:
    """Lines of a stream; whoever writes it waits while readings are scored.

    Arguments:
        stream: The stream.
        is_csv: Whether lines are CSV with a header.
    """

    name = "standard input"

    def __init__(self, stream: BinaryIO, *, is_csv: bool = False) -> None:
        self.refused: Counter[str] = Counter()
        self._stream, self._is_csv = stream, is_csv
        self._rest, self._encoding = b"", "utf-8"
        self._is_over = self._is_skipping = False
        self._reader: LineReader | None = None

    @property
    def is_over(self) -> bool:
        """Whether the stream has ended."""
        return self._is_over

    def use(self, rules: Mapping[str, Any]) -> None:
        """See `Source`."""
        self._count()
        before = self._reader
        self._reader = LineReader(rules, is_csv=self._is_csv) if before is None else before.with_source(rules)
        self._encoding = (rules.get("encoding") or "utf-8") if self._is_csv else "utf-8"

    def take(self, wait_seconds: float) -> Arrived | None:
        """See `Source`."""
        if self._is_over or self._reader is None or not self._is_ready(wait_seconds):
            return None
        at = time.time()
        data = os.read(self._stream.fileno(), _MOST_BYTES)
        *whole, self._rest = (self._rest + data).split(b"\n")
        if self._is_skipping and whole:
            whole, self._is_skipping = whole[1:], False
        if self._is_skipping or len(self._rest) > _LONGEST_LINE:
            self.refused["malformed_line"] += not self._is_skipping
            self._rest, self._is_skipping = b"", True
        if not data:
            whole, self._rest = [*whole, self._rest], b""
        self._is_over = not data
        lines = [line.decode(self._encoding, errors="surrogateescape") for line in whole]
        readings = self._reader.read(lines)
        self._count()
        return Arrived(readings, at) if readings.machine else None

    def settle(self, arrived: Arrived) -> None:
        """See `Source`."""

    def close(self) -> None:
        """See `Source`."""

    def _is_ready(self, wait_seconds: float) -> bool:
        with selectors.DefaultSelector() as selector:
            try:
                selector.register(self._stream.fileno(), selectors.EVENT_READ)
            except PermissionError:  # a file, which is always ready
                return True
            return bool(selector.select(wait_seconds))

    def _count(self) -> None:
        if self._reader is not None:
            self.refused += self._reader.refused
            self._reader.refused.clear()
