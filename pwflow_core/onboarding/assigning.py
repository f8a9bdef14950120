"""The columns of a wide export get their roles: process conditions, sensors, or nothing, with the reason."""

from __future__ import annotations

from dataclasses import dataclass

from pwflow_core.onboarding.angles import find_period, is_totaliser, wrap_of
from pwflow_core.onboarding.columns import ColumnProfile, Steps
from pwflow_core.onboarding.findings import FoundSensor
from pwflow_core.onboarding.long_inspection import about_marks, find_holds
from pwflow_core.onboarding.names import guess_unit, name_sensors
from pwflow_core.onboarding.number_style import NumberStyle
from pwflow_core.onboarding.roles import is_segment, why_a_state, why_not_a_sensor
from pwflow_core.onboarding.sampling import Sample, SampledColumn
from pwflow_core.onboarding.shapes import Quality
from pwflow_core.onboarding.timestamps import TimeColumn

__all__ = ["Roles"]


@dataclass(frozen=True, slots=True)
class Roles:
    """The columns with all that is known about them, to be given their roles."""

    sample: Sample
    profiles: dict[str, ColumnProfile]
    steps: dict[str, Steps]
    time: TimeColumn
    times: list[TimeColumn]
    machine: SampledColumn | None
    named: dict[str, list[SampledColumn]]
    quality: Quality
    channels: dict[str, str]
    style: NumberStyle

    @property
    def _reserved(self) -> set[str]:
        reserved = {self.time.column.name, *self.time.names, *(column.name for column in self.named["ignore"])}
        reserved |= set(self.quality.columns)
        return reserved | {self.machine.name} if self.machine else reserved

    @property
    def sure_segments(self) -> tuple[str, ...]:
        """Return the columns that are process conditions for sure."""
        return tuple(
            name
            for name, profile in self.profiles.items()
            if name not in self._reserved and is_segment(profile, self.steps[name], self.sample.n_rows)[0]
        )

    def segment_candidates(self, chosen: tuple[str, ...]) -> dict[str, str]:
        """Return the columns that may be process conditions, with what they hold."""
        return {
            name: _values(profile)
            for name, profile in self.profiles.items()
            if name not in self._reserved
            and name not in chosen
            and profile.column.n_absent == 0
            and is_segment(profile, self.steps[name], self.sample.n_rows)[1]
        }

    def about_segments(self, chosen: tuple[str, ...]) -> list[str]:
        """Return what was assumed about process conditions."""
        sentences = [
            f"Column {name!r} is a process condition ({_values(self.profiles[name])}): it splits readings."
            for name in chosen
        ]
        if others := self.segment_candidates(chosen):
            shown = ", ".join(map(repr, list(others)[:6]))
            sentences.append(f"Could be process conditions, but are not used as such: {shown}.")
        return sentences

    def assign(self, segments: tuple[str, ...]) -> tuple[tuple[FoundSensor, ...], dict[str, str], frozenset[str]]:
        """Return the sensors, the columns left out with the reason, and which of those could be sensors."""
        left_out = {column.name for column in self.named["ignore"]}
        other_times = {t.column.name for t in self.times}
        kept: list[ColumnProfile] = []
        states: dict[str, str] = {}
        ignored: dict[str, str] = {}
        optional: set[str] = set()
        for column in self.sample.columns:
            name = column.name
            if name in left_out:
                ignored[name] = "is left out on request"
            elif name in segments or name in self._reserved or name in self.channels.values():
                continue
            elif name in self.style.doubtful:
                ignored[name] = self.style.doubtful[name]
                optional.add(name)
            elif name in other_times or (column.type.startswith("TIME") and name not in self.profiles):
                ignored[name] = "holds times"
            elif name not in self.profiles:
                ignored[name] = f"holds {column.type}, not single numbers"
            else:
                profile = self.profiles[name]
                reason, is_optional = why_not_a_sensor(
                    profile, self.steps[name], self.sample.n_rows, self.sample.n_headers
                )
                state = why_a_state(profile, self.sample.n_rows) if reason is None else None
                if reason is None:
                    kept.append(profile)
                    states |= {name: state} if state else {}
                else:
                    ignored[name] = reason
                    optional |= {name} if is_optional else set()
        totalisers = [profile for profile in kept if is_totaliser(self.steps[profile.name])]
        if len(totalisers) + len(states) < len(kept):
            kept = [profile for profile in kept if profile not in totalisers]
            ignored |= {p.name: "never goes down in the sample, as a totaliser" for p in totalisers}
            optional |= {profile.name for profile in totalisers}
        if len(states) == len(kept):
            return (), ignored | states, frozenset(optional)
        kept.sort(key=lambda profile: profile.name in states)
        names = name_sensors(profile.name for profile in kept)
        holds = find_holds(self.sample, self.time, self.machine, kept, self.channels, self.times)
        sensors = tuple(self._sensor(p, names[p.name], holds, states.get(p.name)) for p in kept)
        return sensors, ignored, frozenset(optional)

    def _sensor(self, profile: ColumnProfile, name: str, holds: dict[str, float], state: str | None) -> FoundSensor:
        steps = self.steps[profile.name]
        remark = state or ""
        if profile.n_numbers < profile.n:
            share = profile.refused_share
            remark = f"{max(100 * share, 0.01):.2g}% of the values are no numbers ({profile.other!r})"
            remark += " and will be refused; if they stand for a missing value, list them in source.missing_words"
        elif state is not None:
            pass
        elif steps.n >= 100 and steps.down == 0 and steps.up > 0:
            remark = "never goes down in the sample: take it out if it is a totaliser"
        elif period := find_period(profile, steps):
            remark = f"is an angle: {period:g} is the same as 0, and the jump between them does not count"
        elif profile.n_distinct <= 5 and steps.n >= 100 and steps.changed <= 0.1:
            remark = f"takes only {profile.n_distinct} values ({_values(profile)}): perhaps a segment"
        if profile.missing:
            taken = about_marks(profile.missing)
            remark = f"{taken}; {remark}" if remark else taken
        own_time = self.channels.get(profile.name)
        return FoundSensor(
            name,
            profile.name,
            self.style.units.get(profile.name) or guess_unit(profile.name),
            profile.low or 0.0,
            profile.high or 0.0,
            remark,
            None if own_time == self.time.column.name else own_time,
            self.quality.of.get(profile.name, self.quality.of.get("")),
            holds.get(profile.name),
            **(wrap_of(self.sample, profile, steps) if state is None else {}),
            missing=tuple(profile.missing),
            is_state=state is not None,
        )


def _values(profile: ColumnProfile) -> str:
    if not profile.values:
        return f"{profile.n_distinct} values"
    shown = [value if len(value) <= 24 else value[:23] + "…" for value in profile.values[:5]]
    more = len(profile.values) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
