"""Cases as text: what to decide, what is new, what goes on, and one with its history. Times are the plant's."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from pwflow_core.errors import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pwflow_core.pipeline.cases.view import CaseHistory, CaseRow, CaseView

__all__ = ["describe_cases", "describe_one_case", "local_time"]

_MOST_SHOWN = 20
_MOST_MONTHS = 3


def local_time(moment: datetime | None, timezone: str) -> str:
    """Write a time of the tables in the time zone of the plant."""
    if moment is None:
        return "–"
    return f"{moment.replace(tzinfo=UTC).astimezone(ZoneInfo(timezone)):%Y-%m-%d %H:%M}"


def describe_cases(view: CaseView, timezone: str, *, with_closed: bool = False) -> list[str]:
    """Return the cases line by line: to decide, going on, and the closed ones or how many there are."""
    from pwflow_core.pipeline.cases.view import next_step_of

    lines = [f"  decide      {count(len(view.to_decide), 'case')}, times in {timezone}"]
    for case in view.to_decide[:_MOST_SHOWN]:
        lines += [*_lines_of(case, timezone), f"      next: {next_step_of(case)}"]
    if (n_more := len(view.to_decide) - _MOST_SHOWN) > 0:
        lines.append(f"    and {n_more} more; `pwflow cases --json` has all of them")
    new = [case.case_id for case in view.new]
    lines.append(f"  new         {count(len(new), 'case')} on the last day{': ' if new else ''}{_few(new)}")
    lines.append(f"  going on    {count(len(view.going_on), 'case')} that somebody has seen or shelved")
    for case in view.going_on[:_MOST_SHOWN]:
        lines += _lines_of(case, timezone)
    if view.not_told:
        kept = count(len(view.not_told), "case")
        lines.append(f"  not told    {kept} that may be chance: see scoring.false_cases")
    for case in view.not_told[:_MOST_SHOWN]:
        lines += _lines_of(case, timezone)
    if with_closed:
        lines.append(f"  closed      {count(len(view.rest), 'case')}")
        for case in view.rest:
            lines += _lines_of(case, timezone)
    else:
        lines.append(f"  closed      {count(view.n_rest, 'case')}; `pwflow cases --all` lists them")
    for row in view.precision[-_MOST_MONTHS:]:
        right = f"{row['n_right']:,} of {count(row['n_marked'], 'marked case')} were right"
        interval = f"95% interval {row['low']:.0%} to {row['high']:.0%}"
        lines.append(f"  {row['month']:%Y-%m}     {right}: {row['precision']:.0%} ({interval})")
    return lines


def describe_one_case(found: CaseHistory, timezone: str) -> list[str]:
    """Return one case line by line, with its events and what became of it."""
    from pwflow_core.pipeline.cases.view import next_step_of

    case = found.case
    lines = [*_lines_of(case, timezone), f"      next: {next_step_of(case)}"]
    if case.merged_into:
        lines = [f"    {case.case_id}  one with {case.merged_into} now: `pwflow cases {case.merged_into}`"]
    lines.append(f"  events      {len(found.events):,}, times in {timezone}")
    for event in found.events[-_MOST_SHOWN:]:
        gone = "" if event["is_found"] else "  (no event any more by the scores as they are now)"
        began = local_time(event["started_at"], timezone)
        lines.append(f"    {event['event_id'] or event['verdict_id']}  {began}  {event['summary']}{gone}")
    if len(found.events) > _MOST_SHOWN:
        lines.append(f"    and {len(found.events) - _MOST_SHOWN:,} before; mart.case_events has all of them")
    lines.append("  history")
    for change in found.changes:
        why = f": {change['reason']}" if change["reason"] else ""
        label = f" {change['label_kind'] or change['label']}" if change["change"] == "marked" else ""
        by = f" by {change['changed_by']}" if change["changed_by"] else ""
        lines.append(f"    {local_time(change['as_of'], timezone)}  {change['change']}{label}{by}{why}")
    return lines


def _lines_of(case: CaseRow, timezone: str) -> list[str]:
    state = case.state if case.label is None else f"{case.state}, {case.label_kind or case.label}"
    if not case.is_told:
        state += ", not told"
    if case.shelved_until is not None:
        state += f" until {local_time(case.shelved_until, timezone)}"
    seen = f"{local_time(case.since, timezone)} to {local_time(case.last_seen, timezone)}"
    lines = [f"    {case.case_id}  {case.severity:6}  {state}  {seen}", f"      {case.summary}"]
    if case.similar:
        lines.append(f"      like {', '.join(f'{case_id} ({label})' for case_id, label in case.similar)}")
    return lines


def _few(names: Sequence[str]) -> str:
    from pwflow_core.errors import list_few

    return list_few(names, 8)
