"""The formats that the times of a column could have, by the shapes of its values."""

from __future__ import annotations

import calendar
import re

from pwflow_core.marks import EXCEL_DAYS, plain_half
from pwflow_core.onboarding.names import has_word
from pwflow_core.onboarding.sampling import Sample, SampledColumn
from pwflow_core.onboarding.vocabulary import TIMES
from pwflow_core.spelling import EPOCH_FORMATS

__all__ = ["find_formats"]

_CLOCK = (
    r"(?P<hour>\d{1,2}:\d{2})(?P<seconds>:\d{2})?(?P<fraction>[.,:]\d+)?"
    r"(?P<half> ?[AaPp]\.?[Mm]\b\.?)?(?P<zone>\s*[A-Za-z\[(+-].*)?"
)
_SHAPE = re.compile(
    r"(?P<a>\d{1,4})(?P<d1>[.] |[-./ ])(?P<b>\d{1,2}|[A-Za-zÀ-ÿ]{3,10})(?P<d2>[-./ ])(?P<c>\d{2,4})"
    rf"((?P<gap>[ T,]+){_CLOCK})?"
)
_HALF = re.compile(r"\d ?[AaPp]\.?[Mm]\b")
_MONTH_FIRST = re.compile(
    r"((?P<weekday>[A-Za-z]{3})(?P<after>,? ))?(?P<month>[A-Za-z]{3,9}) \d{1,2}(?P<comma>,? )\d{4}"
    rf"((?P<gap>[ ,]+){_CLOCK})?"
)
_COMPACT = re.compile(r"\d{8}(?P<gap>[T _-]?)(?P<time>\d{4}|\d{6})?(?P<fraction>[.,]\d+)?(?P<zone>\s*[A-Za-z\[(+-].*)?")
_EAST_ASIAN = re.compile(
    r"\d{4}[年년] ?\d{1,2}[月월] ?\d{1,2}[日일]"
    r"( ?\d{1,2}([時时시点] ?\d{1,2}[分분]( ?\d{1,2}[秒초])?|:\d{2}(:\d{2})?)(?P<half> [AP]M)?)?"
)
_COUNT = re.compile(r"\d{5,19}([.,]\d+)?|\d[.,]\d{9,}[eE]\+?\d{1,2}|\d\.\d+e\+?1[6-9]")
_ENGLISH = frozenset(name.lower() for name in calendar.month_name[1:])
_MOST_SHAPES = 30


def find_formats(sample: Sample, column: SampledColumn) -> list[str | None]:
    """Return the formats that the values of a column could have, by their shapes; None stands for ISO 8601."""
    if column.is_time:
        return [None]
    counts = [*EPOCH_FORMATS, *([EXCEL_DAYS] if has_word(column.name, TIMES) else [])]
    if column.is_number:
        return list(counts)
    shape = f"regexp_replace(regexp_replace({column.key}, '\\d', '0', 'g'), '[A-Za-z]+', 'a', 'g')"
    rows = (
        sample.connection.table("sample")
        .filter(f"{column.key} IS NOT NULL")
        .aggregate(f"min({column.key}) AS low, max({column.key}) AS high, count(*) AS n, {shape} AS shape", shape)
        .order("n DESC, shape")
        .limit(_MOST_SHAPES)
        .fetchall()
    )
    formats: dict[str | None, None] = {}
    for value in (plain_half(str(value)) for low, high, *_ in rows for value in (low, high)):
        if _COUNT.fullmatch(value):
            formats |= dict.fromkeys(counts)
        if re.match(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}", value) and not _HALF.search(value):
            formats[None] = None
        elif match := _SHAPE.fullmatch(value):
            formats |= dict.fromkeys(_spelled(match))
        elif match := _MONTH_FIRST.fullmatch(value):
            formats[_spelled_month_first(match)] = None
        elif match := _EAST_ASIAN.fullmatch(value):
            formats[_spelled_east_asian(match)] = None
        if match := _COMPACT.fullmatch(value):
            clock = {None: "", 4: "%H%M", 6: "%H%M%S"}[len(match["time"]) if match["time"] else None]
            end = f"{match['fraction'][0]}%f" if match["fraction"] and clock.endswith("%S") else ""
            formats[f"%Y%m%d{match['gap']}{clock}{end}{'%z' if match['zone'] else ''}"] = None
    return _without_shorter(list(formats))


def _without_shorter(formats: list[str | None]) -> list[str | None]:
    """Leave out formats that differ from another only in that they lack a fraction or a zone, which are optional."""
    kept: dict[str | None, str | None] = {}
    for format in formats:
        bare = format and re.sub(r"[.,]%f|\s*%z$", "", format)
        if bare not in kept or len(format or "") > len(kept[bare] or ""):
            kept[bare] = format
    return list(kept.values())


def _spelled(match: re.Match[str]) -> list[str]:
    """Return the strptime formats of a value with separate day, month and year, the likelier first."""
    b, d1, d2 = match["b"], match["d1"], match["d2"]
    year = "%Y" if len(match["c"]) == 4 else "%y"
    if len(match["a"]) == 4:
        dates = [f"%Y{d1}{_month(b)}{d2}%d"]
    elif b.isalpha():
        dates = [f"%d{d1}{_month(b)}{d2}{year}"]
    elif d1 == "/" and match["half"]:
        dates = [f"%m/%d/{year}", f"%d/%m/{year}"]
    else:
        dates = [f"%d{d1}%m{d2}{year}", *([f"%m{d1}%d{d2}{year}"] if d1 != "." else [])]
    if year == "%y" and not b.isalpha():
        dates.append(f"%y{d1}%m{d2}%d")
    return [date + _spelled_clock(match) for date in dates]


def _spelled_month_first(match: re.Match[str]) -> str:
    weekday = f"%a{match['after']}" if match["weekday"] else ""
    return f"{weekday}{_month(match['month'])} %d{match['comma']}%Y{_spelled_clock(match)}"


def _spelled_east_asian(match: re.Match[str]) -> str:
    """Return the format of a value such as 2026年3月1日 10時05分: every number becomes its directive."""
    directives = iter(("%Y", "%m", "%d", "%I" if match["half"] else "%H", "%M", "%S"))
    value = match[0].removesuffix(match["half"] or "")
    return re.sub(r"\d+", lambda _: next(directives), value) + (" %p" if match["half"] else "")


def _month(text: str) -> str:
    if text.isdigit():
        return "%m"
    return "%B" if text.lower() in _ENGLISH else "%b"


def _spelled_clock(match: re.Match[str]) -> str:
    if not match["hour"]:
        return ""
    clock = ("%I:%M" if match["half"] else "%H:%M") + (":%S" if match["seconds"] else "")
    if match["fraction"] and match["seconds"]:
        clock += match["fraction"][0] + "%f"
    if match["half"]:
        clock += " %p" if match["half"].startswith(" ") else "%p"
    if match["zone"]:
        clock += " %z" if match["zone"].startswith(" ") else "%z"
    return match["gap"] + clock
