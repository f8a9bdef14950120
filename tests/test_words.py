"""Plain English: words and turns at which a reader stops who learned English as a second language.

They are kept out of everything that people read: pages, messages, docstrings, texts and comments of tables. Names in
code are not looked at.
"""

import ast
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.quick

ROOT = Path(__file__).parents[1]
INSTEAD = {
    r"(?<!there )(?<!There )\bis no (?!longer|more)": "is not a …",
    r"\banew\b|\bafresh\b": "again",
    r"\b[Mm]end(s|ed|ing)?\b": "correct, repair",
    r"\bstands? in\b": "is in",
    r"\bbesides\b": "also, as well, other than",
    r"\b[Ss]o many\b": "this many, a number",
    r"\bcomes? to\b": "means, adds up to",
    r"in units of log10": "evidence of drift 6.1 (alarm at 4.3)",
    r"worth (\S+ )?independent ones": "count as … independent ones",
    r"\b(in|into) force\b": "in use",
    r"\bwants? an answer\b": "waits for an answer, needs a decision",
    r"\bto the byte\b": "byte by byte, unchanged",
    r"\berrs?\b": "may be too small, too large",
    r"\bto blame\b|\bof the blame\b": "caused by",
    r"\blearn(s|ed|ing)? (it |them |what moved |that regime )?again\b": "retrain",
    r"\bpass(es|ed|ing) over retired|\bset aside\b": "skip, ignore",
    r"\bwho is to\b|\bhow odd\b|\bin vain\b": "a plain question or sentence",
    r"\blest\b|\bhence\b|\bthereof\b|\btherein\b|\bthereby\b|\bwhilst\b|\bamongst\b": "a common word",
}


def texts() -> list[tuple[str, str]]:
    """Return what people read, each text behind the place where it is."""
    found = []
    for path in sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md")):
        found += lines(path)
    for path in sorted([*(ROOT / "pwflow_core").rglob("*"), *(ROOT / "pwflow_dagster").rglob("*")]):
        if path.suffix == ".py":
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append((f"{path.relative_to(ROOT)}:{node.lineno}", " ".join(node.value.split())))
        elif path.suffix in (".toml", ".html", ".sql"):
            found += lines(path)
    return found


def lines(path: Path) -> list[tuple[str, str]]:
    """Return the lines of a text that is not code, each with its number."""
    numbered = enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    return [(f"{path.relative_to(ROOT)}:{number}", line) for number, line in numbered]


def test_what_people_read_is_plain_english():
    """If this fails, write what a colleague would say; the words after the place are a start."""
    hard = [
        f"{place}: {found[0]!r}; better: {better}"
        for place, text in texts()
        for pattern, better in INSTEAD.items()
        if (found := re.search(pattern, text))
    ]
    assert hard == []


def test_hard_english_is_found():
    sentences = (
        "A night with many alarms is no such thing",
        "the regimes are found anew",
        "what it comes to",
        "read the sensors besides",
        "the flow in force",
        "the sensor to blame",
    )
    for sentence in sentences:
        assert any(re.search(pattern, sentence) for pattern in INSTEAD), sentence
    for sentence in ("there is no such file", "it is no longer in use", "the file beside it", "blame.sensor"):
        assert not any(re.search(pattern, sentence) for pattern in INSTEAD), sentence


JAPANESE = sorted((ROOT / "pwflow_core").rglob("texts_ja.toml"))


def japanese_texts() -> list[tuple[str, str]]:
    """Return the Japanese texts of programs and the Japanese README, without code, links and formulas."""
    found = []
    for path in JAPANESE:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if made := re.fullmatch(r'\w+ = "(.*)"', line):
                found.append((f"{path.relative_to(ROOT)}:{number}", made[1]))
    text = re.sub(r"```.*?```", "", (ROOT / "README.ja.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    found += [(f"README.ja.md, {line[:20]}", line) for line in text.splitlines()]
    plain = re.compile(r"`[^`]*`|!?\[|\]\([^)]*\)|https?://\S+|N\(0, 1\)|\d,\d{3}")
    return [(place, plain.sub("", text)) for place, text in found]


def test_japanese_punctuation_is_full_width():
    kana = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")
    half = re.compile(r"[:;!?()~,]")
    wrong = [f"{place}: {text}" for place, text in japanese_texts() if kana.search(text) and half.search(text)]
    assert len(JAPANESE) == 3
    assert wrong == []


def test_one_thing_has_one_japanese_word():
    """The word on the right is used: report, messages and README speak of the same thing."""
    instead = {"アラーム": "警報", "運転レジーム": "レジーム", "測定値": "計測値", "誤警報": "誤報"}
    wrong = [f"{place}: {word}" for place, text in japanese_texts() for word in instead if word in text]
    assert wrong == []
