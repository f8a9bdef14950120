"""In which encoding the text of an export is, if it is not UTF-8: found by trial."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from pwflow_core.errors import SourceError
from pwflow_core.files import is_parquet
from pwflow_core.onboarding.content import without_gaps
from pwflow_core.opening import has_byte_order_mark, is_spreadsheet, open_bytes

__all__ = ["find_encoding"]

_HEAD_BYTES = 1 << 18
_MOST = 0.6
_EAST_ASIAN = ("HIRAGANA", "KATAKANA", "CJK", "FULLWIDTH", "IDEOGRAPHIC")
_CHINESE = frozenset(
    "时间日期温度压力流量电流压转速振动湿频率液位阀门开关进出入口炉管泵风机设备编号名称数值单状态质测点功湿浓阴阳总累计主高低前后左右上下号"
)
_KOREAN = frozenset(
    "시간일자날짜온도압력유량전류회속진동습주파수위밸브개폐입출구로관펌프기계설비번호이름값단상태품질측정점센서농높낮평균합누적"
)
_WITH_LETTERS = {"gb2312": ("gb18030", _CHINESE), "euc_kr": ("cp949", _KOREAN)}
"""Encodings that are told by usual letters: how strictly text is decoded for the test, and what it is then called."""
_SIGNS = frozenset("℃℉㎥㎡㎏㎝㎜Ωμ°・ー、。（）％№℡〜△○●")


def find_encoding(files: Sequence[Path]) -> tuple[str | None, str]:
    """Return the encoding of the files that are not UTF-8 and do not name theirs, None if there are none.

    With it comes the first piece of text that is written in it, for a person to look at.
    """
    for path in files:
        if is_parquet(path) or is_spreadsheet(path) or path.name.lower().endswith(".zst"):
            continue
        with open_bytes(path) as stream:
            head = without_gaps(stream.read(_HEAD_BYTES))
        if has_byte_order_mark(head) or (b"\0" not in head and _decodes(head, "utf-8")):
            continue
        encoding = _guess(head, path)
        text = head.decode(encoding, errors="ignore")
        line = next((line for line in text.splitlines() if not line.isascii()), "")
        return encoding, line.strip()[:60]
    return None, ""


def _guess(head: bytes, path: Path) -> str:
    if b"\0" in head:
        even, odd = head[::2].count(0), head[1::2].count(0)
        if max(even, odd) > 0.2 * len(head) and min(even, odd) < 0.02 * len(head):
            return "utf-16-le" if odd > even else "utf-16-be"
        raise SourceError(
            f"Expected CSV text, got binary data in {path}: export it as CSV UTF-8, or give a Parquet file the ending "
            ".parquet."
        )
    for strict, (name, letters) in _WITH_LETTERS.items():
        if _decodes(head, strict) and _share_of(head.decode(strict, errors="ignore"), letters) > _MOST:
            return name
    if _decodes(head, "cp932") and _is_east_asian(head.decode("cp932", errors="ignore")):
        return "cp932"
    if _decodes(head, "euc_jp") and _is_east_asian(head.decode("euc_jp", errors="ignore")):
        return "euc_jp"
    if _decodes(head, "cp1251") and _is_beyond_latin(head.decode("latin-1")):
        return "cp1251"
    return "cp1252" if _decodes(head, "cp1252") else "latin-1"


def _share_of(text: str, letters: frozenset[str]) -> float:
    beyond = [letter for letter in text if letter.isalpha() and not letter.isascii()]
    return sum(letter in letters for letter in beyond) / max(1, len(beyond))


def _is_beyond_latin(text: str) -> bool:
    """Whether letters beyond ASCII mostly stand side by side, as they do in Cyrillic words and not in Western ones."""
    beyond = [letter.isalpha() and not letter.isascii() for letter in text]
    return 2 * sum(a and b for a, b in pairwise(beyond)) > sum(beyond)


def _decodes(head: bytes, encoding: str) -> bool:
    """Whether the bytes are text in an encoding; the last letter may be cut."""
    try:
        head.decode(encoding)
    except UnicodeDecodeError as error:
        return len(head) >= _HEAD_BYTES and error.start >= len(head) - 4
    return True


def _is_east_asian(text: str) -> bool:
    """Whether most letters beyond ASCII are Japanese; single bytes of Western text come out as halfwidth kana."""
    letters = [letter for letter in text if ord(letter) > 127]
    usual = sum(
        letter in _SIGNS or unicodedata.name(letter, "").startswith(_EAST_ASIAN)
        for letter in letters
        if not unicodedata.name(letter, "").startswith("HALFWIDTH")
    )
    halfwidth = sum(unicodedata.name(letter, "").startswith("HALFWIDTH") for letter in letters)
    neighbours = sum(
        unicodedata.name(a, "").startswith("HALFWIDTH") and unicodedata.name(b, "").startswith("HALFWIDTH")
        for a, b in pairwise(text)
    )
    return usual + (halfwidth if 2 * neighbours > halfwidth else 0) > _MOST * len(letters)
