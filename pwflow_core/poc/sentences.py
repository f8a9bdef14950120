"""Remarks as sentences, names of the contenders, and figures with their errors, in the language of the reader."""

from __future__ import annotations

from typing import Any

from pwflow_core.poc.recommendation import Recommendation, Remark
from pwflow_core.reporting.texts import Texts

__all__ = ["headline", "measured", "sentence", "signed", "title_of", "words"]

_BRAND = "pwflow"  # written small, even where a sentence begins
_SHARES = {"first_mass", "second_mass"}
_MODELS = {"first", "second"}
_MONEY = {"first_cost", "second_cost"}


def words(language: str) -> Texts:
    """Return the words of the comparison, with those of the plant report."""
    return Texts(language, __package__)


def title_of(key: str, texts: Texts, *, in_sentence: bool = False) -> str:
    """Return what a contender is called, by its key: over a row, or within a sentence, with its article."""
    kind, _, number = key.partition("_")
    if kind != "pwflow":
        return texts.label("poc.model_in_sentence" if in_sentence else "poc.model", key)
    return texts("poc.model.one") if number == "1" else texts("poc.model.several", n=number)


def signed(value: float, decimals: int = 3) -> str:
    """Write a difference with its sign."""
    return f"{value:+.{decimals}f}".replace("-", "−")


def measured(value: float, error: float) -> str:
    """Write a value with its standard error, as finely as the error allows."""
    digits = 0 if error >= 10 else 1 if error >= 1 else 2
    return f"{value:,.{digits}f} ± {error:,.{digits}f}".replace("-", "−")


def sentence(remark: Remark, texts: Texts, currency: str = "") -> str:
    """Write a remark as a sentence.

    Arguments:
        remark: What to say.
        texts: The words.
        currency: Of costs.
    """
    written = texts(f"poc.reason.{remark.key}", **_written(remark, texts, currency))
    return written if written.startswith(_BRAND) else written[:1].upper() + written[1:]


def headline(recommendation: Recommendation, texts: Texts) -> str:
    """Return the recommendation in a few words, with who finds more if somebody does."""
    values = _written(recommendation.reasons[0], texts)
    model = title_of(recommendation.model, texts, in_sentence=True) if recommendation.model else ""
    found = texts(f"poc.verdict.{recommendation.code}", **values | {"n": recommendation.n_regimes, "model": model})
    for caveat in recommendation.caveats:
        if caveat.key == "other_detects":
            found += texts("poc.verdict.but_detects", **_written(caveat, texts))
    return found


def _written(remark: Remark, texts: Texts, currency: str = "") -> dict[str, str]:
    values = remark.values
    written = {name: _write(name, value, texts, currency) for name, value in values.items()}
    for name in ("first_false", "second_false"):
        if name in values:
            written[name] = measured(values[name], values[f"{name}_error"])
    return written | {"duration": texts.duration(values.get("seconds", 0.0))}


def _write(name: str, value: Any, texts: Texts, currency: str) -> str:  # noqa: ANN401 - any value of a remark
    if name in _MODELS:
        return title_of(value, texts, in_sentence=True)
    if name == "gain":
        return signed(value).removeprefix("+")
    if name == "error":
        return f"{value:.3f}"
    if name in _SHARES:
        return texts.percent(max(value, 0.0))
    if name in _MONEY:
        return f"{texts.number(None if value is None else float(f'{value:.3g}'))} {currency}".strip()
    return str(value) if isinstance(value, str) else texts.number(value)
