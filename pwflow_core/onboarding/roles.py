"""What the columns are for: machine, segments, sensors, or nothing, each with the reason."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from pwflow_core.errors import list_few
from pwflow_core.onboarding.angles import is_wrapping_counter
from pwflow_core.onboarding.columns import ColumnProfile, Steps
from pwflow_core.onboarding.names import guess_unit, has_word, only_words, words
from pwflow_core.onboarding.sampling import Sample, SampledColumn
from pwflow_core.onboarding.timestamps import TimeColumn
from pwflow_core.onboarding.vocabulary import (
    BESIDE_MACHINE,
    CALENDAR,
    COUNTERS,
    LABELS,
    MACHINES,
    QUANTITIES,
    SEGMENTS,
    STATES,
)

__all__ = ["Machines", "find_machine", "is_quantity", "is_segment", "why_a_state", "why_not_a_sensor"]

_MOST_MACHINES = 1_000
_PARTS_OF_A_SECOND = frozenset(
    ["millitm", "millis", "millisecond", "milliseconds", "msec", "ms", "micros", "microseconds", "usec"]
)
_MOST_NUMBERED = 20  # machines that are told apart by numbers, where times do not repeat
_MOST_SEGMENTS = 20
_MOST_LABELS = 25
_FEW_VALUES = 12
_ENOUGH_ROWS = 100


@dataclass(frozen=True, slots=True)
class Machines:
    """The machine column, if there is one, and what was assumed about it."""

    column: SampledColumn | None
    assumptions: tuple[str, ...]


def find_machine(
    sample: Sample, profiles: dict[str, ColumnProfile], time: TimeColumn, taken: Collection[str]
) -> Machines:
    """Find the column that tells machines apart.

    It has few values, and either it is called like a machine, or timestamps that repeat do not repeat for one
    of its values.
    """
    candidates = [
        p
        for p in profiles.values()
        if p.name not in taken
        and p.column.n_absent == 0
        and 1 <= p.n_distinct <= _MOST_MACHINES
        and p.n == sample.n_rows
        and (not p.is_numeric or p.is_whole)
        and not has_word(p.name, LABELS | _PARTS_OF_A_SECOND)
    ]
    repeated = _repeated(sample, time, None)
    best: tuple[float, ColumnProfile] | None = None
    for profile in candidates:
        if is_state(profile) or (repeated <= 0.01 and _comes_back(sample, profile)):
            continue
        named = only_words(profile.name, MACHINES, BESIDE_MACHINE)
        few = 1 < profile.n_distinct <= (200 if named or not profile.is_numeric else 20)
        left = _repeated(sample, time, profile.column) if repeated > 0.2 and few else 1.0
        separates = left <= (0.02 if named or not profile.is_numeric else 0.0)
        if not (separates or (named and _names_things(profile))):
            continue
        score = 3.0 * separates + 2.0 * named + (not profile.is_numeric) - profile.n_distinct / _MOST_MACHINES
        if best is None or score > best[0]:
            best = score, profile
    if best is None:
        return Machines(None, _without_machine(sample, time, repeated, profiles))
    shown = _some(best[1].values) if best[1].values else f"{best[1].n_distinct} values"
    return Machines(best[1].column, (f"Column {best[1].name!r} tells the machines apart ({shown}): check this.",))


def _names_things(profile: ColumnProfile) -> bool:
    """Whether values are names of machines by their looks; those of a sensor called `press` or `motor` are not."""
    if profile.is_numeric:
        return 1 < profile.n_distinct <= _MOST_NUMBERED and not has_word(profile.name, QUANTITIES)
    if not has_word(profile.name, QUANTITIES):
        return True
    return bool(profile.values) and all(value.strip()[:1].isalpha() for value in profile.values)


def is_state(profile: ColumnProfile) -> bool:
    """Whether the values of a column are words for what a machine does, such as Running and Stopped."""
    texts = [value.lower().strip() for value in profile.values]
    said = [text in STATES or set(words(text)) <= STATES for text in texts]
    return not profile.is_numeric and len(texts) > 1 and sum(said) > len(texts) / 2


def _comes_back(sample: Sample, profile: ColumnProfile) -> bool:
    """Whether values last for many rows, go away and come back, as states do, and machines in turn do not."""
    before = f"lag({profile.column.key}) OVER (PARTITION BY file, block ORDER BY row)"
    rows = sample.connection.table("sample").project(f"{profile.column.key} IS DISTINCT FROM {before} AS is_new")
    n_runs = int(rows.aggregate("count(*) FILTER (is_new)").fetchall()[0][0])
    n_blocks = int(sample.aggregate("count(DISTINCT (file, block))")[0])
    few = 1 < profile.n_distinct <= _FEW_VALUES and not profile.is_numeric
    return bool(few and n_runs <= 0.1 * sample.n_rows and n_runs - n_blocks >= 2 * profile.n_distinct)


def is_segment(profile: ColumnProfile, steps: Steps, n_rows: int) -> tuple[bool, bool]:
    """Return whether a column is a process condition for sure, and whether it may be one.

    A condition has few values, each of which lasts for many readings. Only text with a telling name is sure.
    """
    lasting = steps.n > 0 and steps.changed <= 0.1 and profile.n * 2 > n_rows
    few = 2 <= profile.n_distinct <= _MOST_SEGMENTS and profile.n >= _ENOUGH_ROWS
    telling = has_word(profile.name, SEGMENTS) or is_state(profile)
    if has_word(profile.name, LABELS) or only_words(profile.name, CALENDAR, ()):
        return False, False
    if profile.is_numeric and not profile.is_whole:
        return False, False
    whole_column = profile.column.n_absent == 0 and profile.n == n_rows
    sure = lasting and few and telling and not profile.is_numeric and whole_column
    return sure, (lasting and few) or (telling and profile.n_distinct == 1 and not profile.is_numeric)


def why_not_a_sensor(profile: ColumnProfile, steps: Steps, n_rows: int, n_headers: int) -> tuple[str | None, bool]:
    """Return why a column is left out (None if it is a sensor), and whether that is a matter of opinion."""
    absent = profile.column.n_absent
    if profile.n == 0:
        return "is empty", False
    if _is_label(profile):
        return (
            f"looks like a label ({_shown(profile)}), not like a measurement",
            profile.is_numeric and not absent,
        )
    if profile.column.is_number and profile.n_numbers == 0:
        return "holds no finite number", False
    if not profile.is_numeric:
        part = f" (only {profile.n_numbers / profile.n:.0%} are numbers)" if profile.n_numbers else ""
        return f"is text{part}: {_shown(profile)}", False
    if absent:
        return f"is missing in {absent} of {n_headers} files, and a file without it would be refused", False
    if profile.is_whole and only_words(profile.name, CALENDAR, ()):
        return "is a part of the calendar", True
    if _is_counter(profile, steps):
        return f"counts up ({profile.low:.10g} to {profile.high:.10g})", True
    if is_wrapping_counter(steps, is_whole=profile.is_whole, name=profile.name):
        return f"counts up and begins again ({profile.low:.10g} to {profile.high:.10g})", True
    return None, False


def why_a_state(profile: ColumnProfile, n_rows: int) -> str | None:
    """Return why a column of numbers is a state; None if it is a measurement."""
    if profile.low == profile.high:
        return f"is always {profile.low:g}"
    few = profile.n_distinct <= (_FEW_VALUES if profile.is_whole else 2) and n_rows >= _ENOUGH_ROWS
    if few and not is_quantity(profile.name):
        return f"takes only {profile.n_distinct} values ({_shown(profile)})"
    return None


def is_quantity(name: str) -> bool:
    """Whether a name is that of something measured: it has a unit, or a word such as temperature."""
    other = COUNTERS | SEGMENTS
    return bool(guess_unit(name)) or (has_word(name, QUANTITIES) and not has_word(name, other))


def _is_label(profile: ColumnProfile) -> bool:
    few = profile.n_distinct <= _MOST_LABELS and (profile.is_whole or not profile.is_numeric)
    return few and has_word(profile.name, LABELS)


def _is_counter(profile: ColumnProfile, steps: Steps) -> bool:
    if not profile.is_whole or steps.n == 0:
        return False
    by_ones = steps.one_up >= 0.9 and steps.up - steps.one_up <= 0.02
    is_rising = steps.up > 0 and steps.down <= min(0.001, 0.1 * steps.up)
    slowly_by_ones = is_rising and steps.up == steps.one_up and profile.n_distinct > 2
    named = steps.down <= 0.001 and steps.up > 0 and has_word(profile.name, COUNTERS)
    return by_ones or slowly_by_ones or named or (steps.up == 1.0 and steps.n >= _ENOUGH_ROWS)


def _repeated(sample: Sample, time: TimeColumn, machine: SampledColumn | None) -> float:
    """Return the part of the rows whose timestamp (and machine) is not new inside their file."""
    key = f"(file, {time.instant}{f', {machine.key}' if machine else ''})"
    timed = f"FILTER ({time.instant} IS NOT NULL)"
    n, n_distinct = sample.aggregate(f"count(*) {timed}, count(DISTINCT {key}) {timed}")
    return float(1 - n_distinct / n) if n else 0.0


def _complement(sample: Sample, time: TimeColumn, profiles: dict[str, ColumnProfile]) -> bool:
    """Whether hardly any two rows of one time both have a value in the same column."""
    numbers = [p for p in profiles.values() if p.is_numeric and p.name != time.column.name]
    if not numbers:
        return False
    repeats = ", ".join(
        f"count(n{p.column.key}) - count(DISTINCT (file, {time.instant})) FILTER (n{p.column.key} IS NOT NULL)"
        for p in numbers
    )
    return bool(max(sample.aggregate(repeats, "numbered")) <= 0.01 * sample.n_rows)


def _without_machine(
    sample: Sample, time: TimeColumn, repeated: float, profiles: dict[str, ColumnProfile]
) -> tuple[str, ...]:
    if repeated > 0.01 and _complement(sample, time, profiles):
        return (
            "Rows of one time hold different columns: they are put together to one reading. No column tells machines "
            "apart.",
        )
    if repeated > 0.01:
        return (
            f"Timestamps repeat in {repeated:.0%} of the rows and no column tells machines apart: only the "
            "first reading of a time is kept. If there are several machines, set source.machine.",
        )
    n_in_files, n_distinct = sample.aggregate(
        f"count(DISTINCT (file, {time.instant})) FILTER ({time.instant} IS NOT NULL), count(DISTINCT {time.instant})"
    )
    if n_in_files and 1 - n_distinct / n_in_files > 0.01:
        return (
            "The same times occur in several files and no column tells machines apart: only the "
            "first reading of a time is kept. If every file is a machine of its own, set "
            'source.machine = "filename".',
        )
    return ("No column tells machines apart: all readings belong to one machine.",)


def _shown(profile: ColumnProfile) -> str:
    return _some(profile.values) if profile.values else f"{profile.n_distinct} values"


def _some(values: tuple[str, ...]) -> str:
    cut = [value if len(value) <= 24 else value[:23] + "…" for value in values]
    return list_few(cut, 5)
