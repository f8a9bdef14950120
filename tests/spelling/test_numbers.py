"""Numbers: any number, printed in any spelling, is read back as it was or refused."""

from __future__ import annotations

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pwflow_core.marks import MISSING_WORDS
from pwflow_core.spelling import NumberSpelling
from tests.conftest import examples

pytestmark = pytest.mark.quick

GROUPS = ["", " ", "\u00a0", "\u202f", "\u2009", "'", "’"]
MINUSES = ["-", "−", "–", "－"]
UNITS = ["", "°C", "l/min", "%", "m³/h", "kg"]


@pytest.fixture(scope="module")
def database():
    with duckdb.connect() as connection:
        connection.execute("SET threads = 1")
        yield connection


def read(database, spelling: NumberSpelling, texts: list[str]) -> list[tuple[float | None, bool, str | None]]:
    rows = "SELECT unnest(range(len($texts))) AS row, unnest($texts::VARCHAR[]) AS t"
    database.execute(f"CREATE OR REPLACE TABLE written AS {rows}", {"texts": texts})
    return database.execute(
        f"SELECT {spelling.value('t')}, {spelling.is_missing('t')}, {spelling.refused('t')} FROM written ORDER BY row"
    ).fetchall()


def grouped(digits: str, sign: str) -> str:
    if not sign:
        return digits
    head = len(digits) % 3 or 3
    return sign.join([digits[:head], *(digits[i : i + 3] for i in range(head, len(digits), 3))])


@st.composite
def printed(draw):
    """Draw a spelling, and texts with the number that each means."""
    decimal = draw(st.sampled_from(".,"))
    thousands = draw(st.sampled_from([None, "," if decimal == "." else "."]))
    unit = draw(st.sampled_from(UNITS))
    texts = []
    for _ in range(12):
        whole, places = draw(st.integers(0, 10**9)), draw(st.integers(0, 5))
        part = draw(st.integers(0, 10**places - 1)) if places else 0
        sign = draw(st.sampled_from([*GROUPS, *([thousands] if thousands else [])]))
        minus = draw(st.sampled_from(["", "", "+", *MINUSES]))
        behind = draw(st.sampled_from(["", unit, f" {unit}", f"\u00a0{unit}"])) if unit else ""
        text = grouped(str(whole), sign) + (f"{decimal}{part:0{places}d}" if places else "")
        value = float(f"{whole}.{part:0{places}d}" if places else whole)
        texts.append((f" {minus}{text}{behind} ", -value if minus in MINUSES else value))
    return NumberSpelling(decimal, thousands, unit), texts


@settings(max_examples=examples(25, 1_000), deadline=None)
@given(drawn=printed())
def test_every_number_in_every_spelling_is_read_back(database, drawn):
    spelling, texts = drawn
    assert read(database, spelling, [text for text, _ in texts]) == [(value, False, None) for _, value in texts]


@settings(max_examples=examples(25, 1_000), deadline=None)
@given(
    texts=st.lists(st.text("0123456789.,' -+eE_x\u00a0", min_size=1, max_size=9), min_size=1, max_size=20),
    style=st.sampled_from([(".", None), (".", ","), (",", None), (",", ".")]),
)
def test_what_is_read_has_the_digits_of_the_text_and_everything_else_is_refused_with_the_text(database, texts, style):
    decimal, thousands = style
    for text, (value, is_missing, refused) in zip(texts, read(database, NumberSpelling(*style), texts), strict=True):
        assert (value is not None) + is_missing + (refused is not None) == 1, text
        if value is not None:
            plain = "".join(letter for letter in text if letter not in f" '\u00a0{thousands or ''}")
            assert value == float(plain.replace(decimal, ".")), text
        elif refused is not None:
            assert refused == text.strip()


@pytest.mark.parametrize(
    ("style", "texts"),
    [
        ((".", None), ["1,014", "1.014,5", "12 34", "1 0145", "5 °C", "1_000", "0x10", "No Data", "1e", "--5", "٣"]),
        ((",", None), ["1.126", "1.128,4", "0.5", "1,2,3"]),
        ((",", "."), ["1.12", "0.126", "12.3456", "1126.000", "1,126.5"]),
        ((".", ","), ["10,14", "0,123", "1,0145", "1014,000"]),
        ((".", None, "°C"), ["131 °F", "55.9 K", "°C", "5 °C°C"]),
    ],
)
def test_a_number_that_is_open_or_broken_is_refused(database, style, texts):
    assert [row[0] for row in read(database, NumberSpelling(*style), texts)] == [None] * len(texts)


def test_words_for_missing_values_are_missing_in_any_case(database):
    words = [shown for word in MISSING_WORDS for shown in (word, word.upper(), f" {word} ")]
    found = read(database, NumberSpelling(missing_words=["No Data"]), [*words, "", "  ", "−", "no data", "NO DATA "])
    assert all(is_missing for _, is_missing, _ in found)
    assert all(refused is None for _, _, refused in found)
