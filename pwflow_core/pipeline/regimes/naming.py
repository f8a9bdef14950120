"""Names of regimes: what people call them, shown beside the keys that they keep for good.

A name is given by a row that is only ever added; a row without a name takes it back. Sentences in the warehouse have
keys alone, and get the names when they are shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import duckdb

from pwflow_core.errors import RegimeError, UnknownClusterError, list_few
from pwflow_core.pipeline.decisions.verdicts import Decider
from pwflow_core.pipeline.source.source import read_source
from pwflow_core.plant import Plant
from pwflow_core.warehouse import fetch_value, insert_row, utc_now

__all__ = ["NamedRegime", "RegimeNames", "label_regime", "name_regime", "read_names"]

_LONGEST = 60
_KEY = re.compile(r"c\d{4,}")
_KEY_OR_COMMAND = re.compile(r"`[^`]*`|(?<![\w-])(c\d{4,})(?![\w-]| \()")


@dataclass(frozen=True)
class RegimeNames:
    """The names of regimes, by key.

    Attributes:
        of: The names; regimes without one are left out.
        ambiguous: Keys that are also what a machine, a sensor or a process condition is called: in a sentence they
            may stand for that.
    """

    of: Mapping[str, str] = field(default_factory=dict)
    ambiguous: frozenset[str] = frozenset()

    def label(self, key: str | None) -> str:
        """Return a key with its name behind it, see `label_regime`."""
        return label_regime(key, self.of.get(key or ""))

    def labels(self, keys: Iterable[str]) -> list[str]:
        """Return the same for several keys."""
        return [self.label(key) for key in keys]

    def spell_out(self, text: str) -> str:
        """Return a sentence with the names behind the keys in it; commands between backticks stay as they are."""

        def named(found: re.Match[str]) -> str:
            key = found[1]
            return found[0] if key is None or key in self.ambiguous else self.label(key)

        return _KEY_OR_COMMAND.sub(named, text) if self.of else text


@dataclass(frozen=True)
class NamedRegime:
    """A regime whose name a person changed.

    Attributes:
        cluster_key: Its key.
        name: Its name now; None if it has none any more.
        previous: Its name before; None if it had none.
    """

    cluster_key: str
    name: str | None
    previous: str | None


def label_regime(key: str | None, name: str | None) -> str:
    """Return a key with the name of its regime behind it, such as `c0003 (roughing, B)`; nothing without a key."""
    return f"{key} ({name})" if key and name else key or ""


def read_names(connection: duckdb.DuckDBPyConnection) -> RegimeNames:
    """Return the names that regimes have now."""
    rows = connection.execute(
        "SELECT cluster_key, arg_max_null(name, change_number) AS last FROM mart.regime_names GROUP BY cluster_key "
        "HAVING last IS NOT NULL ORDER BY cluster_key"
    ).fetchall()
    if not rows:
        return RegimeNames()
    names = dict(rows)
    known = connection.execute(
        "SELECT DISTINCT unnest([machine_id, segment]) FROM core.readings "
        "WHERE list_contains($keys, machine_id) OR list_contains($keys, segment)",
        {"keys": list(names)},
    ).fetchall()
    others = {name for (name,) in known} | {sensor.name for sensor in read_source(connection).sensors}
    return RegimeNames(names, frozenset(names) & others)


def name_regime(plant: Plant, cluster_key: str, name: str, *, by: Decider, reason: str = "") -> NamedRegime:
    """Give a regime a name, or take its name away with an empty one; nothing is recorded where that changes nothing.

    Arguments:
        plant: The plant.
        cluster_key: The regime; one that is retired may be named too.
        name: At most 60 characters on one line, such as `roughing, B`.
        by: Who names it.
        reason: Why.

    Raises:
        UnknownClusterError: The regime does not exist.
        RegimeError: The name is too long, cannot be shown on a line, or another regime in use has it.
    """
    wanted = _check_name(name)
    with plant.warehouse.transaction() as connection:
        regimes = dict(connection.execute("SELECT cluster_key, status FROM mart.clusters ORDER BY ALL").fetchall())
        if cluster_key not in regimes:
            active = [key for key, status in regimes.items() if status == "active"]
            raise UnknownClusterError(
                f"Expected the key of a regime ({list_few(active, 8) or 'there is none yet'}), got "
                f"{cluster_key[:80]!r}: `pwflow regimes` lists them."
            )
        names = read_names(connection).of
        for other, given in names.items():
            is_same = wanted is not None and given.casefold() == wanted.casefold()
            if is_same and other != cluster_key and regimes.get(other) == "active":
                raise RegimeError(
                    f"{other} is called {given!r} already: give {cluster_key} another name, or take that one away with "
                    f"`pwflow name {other} ''` first."
                )
        before = names.get(cluster_key)
        if wanted != before:
            number = fetch_value(connection, "SELECT coalesce(max(change_number), 0) + 1 FROM mart.regime_names")
            values = {"change_number": number, "cluster_key": cluster_key, "name": wanted, "named_at": utc_now()}
            insert_row(connection, "mart.regime_names", values | {"named_by": by.name, "reason": reason or None})
    return NamedRegime(cluster_key, wanted, before)


def _check_name(name: str) -> str | None:
    """Return a name as it is kept; None for an empty one."""
    wanted = " ".join(name.split())
    if len(wanted) > _LONGEST or not wanted.isprintable() or "`" in wanted or _KEY.fullmatch(wanted):
        raise RegimeError(
            f"Expected a name of at most {_LONGEST} characters that can be read on a line, without backticks, and not "
            f"the key of a regime, got {name[:80]!r}: give a shorter or plainer one."
        )
    return wanted or None
