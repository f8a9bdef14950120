"""The words: the same keys and placeholders in every language, all of them used."""

from __future__ import annotations

import re
import string
from importlib import resources
from pathlib import Path

from pwflow_core import poc
from pwflow_core.poc.recommendation import Remark
from pwflow_core.poc.sentences import measured, sentence, title_of, words
from pwflow_core.reporting.texts import LANGUAGES, Texts

PACKAGE = Path(str(resources.files(poc)))


def placeholders(text: str) -> set[str | None]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def test_every_language_has_the_same_texts_with_the_same_placeholders():
    first, *others = (words(language) for language in LANGUAGES)
    for other in others:
        assert other.keys == first.keys
        for key in first.keys - Texts("en").keys:
            assert placeholders(other(key)) == placeholders(first(key)), key


def test_every_text_that_is_asked_for_exists_and_none_is_left_over():
    code = "\n".join(file.read_text(encoding="utf-8") for file in [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.html")])
    own = words("en").keys - Texts("en").keys
    asked = set(re.findall(r"""["'](poc\.[a-z_]+(?:\.[a-z_0-9]+)?)["']""", code)) - {"poc.html"}
    groups = {key.rpartition(".")[0] for key in own}
    assert {key for key in asked if not key.endswith("_")} <= own | groups
    for key in own - asked:
        name = key.rpartition(".")[2]
        made = (name, name.partition("_")[2])  # a key may be put together from a stem and a code
        assert any(f'"{part}"' in code or f"'{part}'" in code for part in made if part) or name.startswith("rule_"), key


def test_models_have_an_article_within_a_sentence_and_none_over_a_row():
    texts = words("en")
    said = sentence(Remark("better", {"first": "gmm", "second": "pwflow_4", "gain": 0.5, "error": 0.01}), texts)
    assert said.endswith("better than a Gaussian mixture: by 0.500 ± 0.010 nats per reading.")
    assert title_of("gmm", texts) == "Gaussian mixture"
    values = {"first": "gmm", "second": "mixture_base", "why": "it ran out of memory"}
    assert sentence(Remark("failed", values), texts).startswith("A Gaussian mixture could not be measured")
    assert sentence(Remark("failed", values | {"first": "pwflow_2"}), texts).startswith("pwflow with 2 regimes could")


def test_a_figure_is_written_as_finely_as_its_error_allows():
    assert measured(0.0, 48.39) == "0 ± 48"
    assert measured(1234.5, 2.345) == "1,234.5 ± 2.3"
    assert measured(0.34, 0.12) == "0.34 ± 0.12"
