"""The recommendation: rules with stated numbers, and the reasons that they give.

A difference counts if it is more than two standard errors of it, and more than `LEAST_GAIN`. In this order:

1. `too_little_data`: fewer readings to learn from than `needed_readings` asks for.
2. `no_flows`: a Gaussian mixture, or one Gaussian, describes held-out readings as well as pwflow at its best, and
   pwflow does not find more faults.
3. `one_regime`: pwflow with one regime describes them as well as pwflow with any number of them, and those do not find
   more faults; or, if only the larger flow over everything does, that one, with its size.
4. `use_pwflow`: with the smallest number of regimes that is as good as the best one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pwflow_core.config import PlantConfig
from pwflow_core.poc.costs import YearlyCost
from pwflow_core.poc.results import Result, density_gain, detects_more, is_calmer
from pwflow_core.poc.trial import TrialFacts

__all__ = ["Need", "Recommendation", "Remark", "needed_readings", "recommend", "refuse"]

_HELD_OUT_BLOCKS, _HELD_OUT_SHARE = 20, 0.2
_ROWS_PER_PARAMETER = 5
_LEARNED_SHARE = 0.7


@dataclass(frozen=True)
class Remark:
    """One reason or caveat: the key of its sentence, and what is filled in."""

    key: str
    values: dict[str, Any]


@dataclass(frozen=True)
class Need:
    """How many readings are needed, and the key of the reason."""

    n_readings: int
    why: str


@dataclass(frozen=True)
class Recommendation:
    """What to do.

    Attributes:
        code: `too_little_data`, `no_flows`, `one_regime` or `use_pwflow`.
        model: Key of the contender to use; empty if there is too little to tell.
        n_regimes: Number of regimes to use, where there are any.
        reasons: Why.
        caveats: What speaks against it, or has to be known too.
    """

    code: str
    model: str
    n_regimes: int | None
    reasons: tuple[Remark, ...]
    caveats: tuple[Remark, ...] = ()


def needed_readings(config: PlantConfig, n_sensors: int, block_readings: int) -> Need:
    """Return how many complete readings to learn from a comparison needs.

    Twenty stretches of neighbouring readings in the fifth that is held out, since a standard error of fewer means
    nothing; five readings for each parameter of one Gaussian; and enough for one flow and its calibration.
    """
    parameters = n_sensors * (n_sensors + 3) // 2
    return max(
        (
            Need(math.ceil(_HELD_OUT_BLOCKS * block_readings / _HELD_OUT_SHARE), "blocks"),
            Need(math.ceil(_ROWS_PER_PARAMETER * parameters / _LEARNED_SHARE), "parameters"),
            Need(math.ceil(config.flow.min_rows / _LEARNED_SHARE), "flow"),
            Need(math.ceil(config.scoring.min_calibration_rows / _HELD_OUT_SHARE), "calibration"),
        ),
        key=lambda need: need.n_readings,
    )


def refuse(facts: TrialFacts, need: Need) -> Recommendation:
    """Say that there is too little data, and how much more is needed."""
    missing = need.n_readings - facts.n_complete
    values = {
        "have": facts.n_complete,
        "needed": need.n_readings,
        "missing": missing,
        "seconds": missing / facts.readings_per_week * 7 * 86_400,
        "sensors": len(facts.sensors),
    }
    return Recommendation(
        "too_little_data",
        "",
        None,
        (Remark("too_little", values), Remark(f"need_{need.why}", values), Remark("more_time", values)),
    )


def recommend(results: Sequence[Result], costs: dict[str, YearlyCost]) -> Recommendation:
    """Weigh the results against each other.

    Arguments:
        results: Of all contenders; at least one of pwflow, one simple density and the one with a single regime have
            figures.
        costs: What they cost in a year, by key; empty if nobody said.
    """
    able = [result for result in results if not result.error]
    flows = [result for result in able if result.contender.kind == "pwflow"]
    simple = [result for result in able if result.contender.kind in ("gaussian", "gmm")]
    single = [result for result in able if result.contender.kind == "single"]
    chosen = _smallest_as_good(flows)
    simplest = _smallest_as_good(simple) if simple else None
    one = _best([*single, *(result for result in flows if result.contender.n_regimes == 1)])
    if simplest is not None and not _is_worth_more(simplest, chosen) and not _is_worth_more(simplest, one):
        found = Recommendation(
            "no_flows",
            simplest.key,
            None,
            (_density_remark(simplest, chosen), _recall_remark(simplest, chosen)),
        )
    elif chosen.contender.n_regimes == 1:
        against = _best([result for result in flows if result is not chosen] or single or [chosen])
        reasons = [_density_remark(chosen, against), _recall_remark(chosen, against)]
        if simplest is not None:
            reasons.append(_density_remark(simplest, chosen))
        found = Recommendation("one_regime", chosen.key, 1, tuple(reasons))
    elif single and not _is_worth_more(single[0], chosen):
        [smallest] = [result for result in flows if result.contender.n_regimes == 1]
        reasons = [_density_remark(single[0], chosen), _recall_remark(single[0], chosen)]
        reasons.append(_size_remark(smallest, single[0]))
        if simplest is not None:
            reasons.append(_density_remark(simplest, single[0]))
        found = Recommendation("one_regime", single[0].key, 1, (*reasons, *_refit_remark(single[0], chosen)))
    else:
        best = _best(flows)
        reasons = _why(one, chosen) if _is_worth_more(one, chosen) else _why(one, best)
        if simplest is not None:
            reasons.append(_density_remark(simplest, chosen))
            if not detects_more(chosen, simplest):  # that is no reason: the caveats name who finds more
                reasons.append(_recall_remark(simplest, chosen))
        reasons += _bridge_remark(one, chosen) + _refit_remark(one, chosen)
        if best is not chosen:
            reasons.append(replace(_density_remark(chosen, best), key="fewest_regimes"))
        found = Recommendation("use_pwflow", chosen.key, chosen.contender.n_regimes, tuple(reasons))
    return Recommendation(
        found.code, found.model, found.n_regimes, found.reasons, tuple(_caveats(found.model, able, results, costs))
    )


def _best(results: Sequence[Result]) -> Result:
    return max(results, key=lambda result: (result.held_out or (-math.inf, 0.0))[0])


def _smallest_as_good(results: Sequence[Result]) -> Result:
    """Return the first, in order of size, that the best one does not clearly beat."""
    best = _best(results)
    by_size = sorted(results, key=lambda result: (result.contender.kind != "gaussian", result.contender.n_regimes or 0))
    return next(result for result in by_size if result is best or not _is_worth_more(result, best))


def _is_worth_more(before: Result, after: Result) -> bool:
    """Tell whether the second describes held-out readings clearly better, or finds clearly more faults."""
    if before is after:
        return False
    return density_gain(before, after).is_clear or detects_more(before, after)


def _density_remark(one: Result, other: Result) -> Remark:
    """Say which of the two describes held-out readings better, or that they are as good."""
    forth, back = density_gain(one, other), density_gain(other, one)
    worse, better, gain = (other, one, back) if back.is_clear else (one, other, forth)
    values = {"first": worse.key, "second": better.key, "gain": gain.mean, "error": gain.error}
    return Remark("better" if gain.is_clear else "as_good", values)


def _size_remark(small: Result, large: Result) -> Remark:
    """Say how large the flow over everything is, and what one of the size of those of regimes loses."""
    from pwflow_core.modelling.baselines.single import GLOBAL_FLOW

    size = {"transforms": GLOBAL_FLOW.transforms, "hidden": GLOBAL_FLOW.hidden}
    return Remark("larger_flow", _density_remark(small, large).values | size)


def _why(before: Result, after: Result) -> list[Remark]:
    """Say in what the second is worth more: in what it describes, or else in what it finds."""
    density = _density_remark(before, after)
    return [density] if density_gain(before, after).is_clear else [density, _recall_remark(before, after)]


def _recall_remark(before: Result, after: Result) -> Remark:
    values: dict[str, Any] = {"first": before.key, "second": after.key}
    for name, result in (("first", before), ("second", after)):
        if result.detection is None or not result.detection.n_faults:
            return Remark("no_faults", values)
        values |= {f"{name}_found": result.detection.n_found, f"{name}_false": result.detection.false_per_week}
        values[f"{name}_false_error"] = result.detection.false_per_week_error
        values["n_faults"] = result.detection.n_faults
    return Remark("recall", values)


def _bridge_remark(before: Result, after: Result) -> list[Remark]:
    one, chosen = before.figure("bridge_mass"), after.figure("bridge_mass")
    if one is None or chosen is None:
        return []
    return [Remark("bridge", {"first": before.key, "second": after.key, "first_mass": one, "second_mass": chosen})]


def _refit_remark(before: Result, after: Result) -> list[Remark]:
    partial, full = after.figure("partial_cpu_seconds"), after.full_refit_cpu_seconds
    if partial is None or full is None:
        return []
    return [Remark("refit", {"second": after.key, "partial": partial, "full": full})]


def _caveats(
    model: str, able: Sequence[Result], results: Sequence[Result], costs: dict[str, YearlyCost]
) -> list[Remark]:
    chosen = next(result for result in able if result.key == model)
    found = []
    if len(chosen.log_density):
        better = [r for r in able if len(r.log_density) and r is not chosen and density_gain(chosen, r).is_clear]
        if better:
            found.append(replace(_density_remark(chosen, _best(better)), key="other_density"))
    keener = [r for r in able if r is not chosen and detects_more(chosen, r)]
    if keener:
        best = max(keener, key=lambda r: r.detection.recall if r.detection else 0.0)
        found.append(Remark("other_detects", _recall_remark(chosen, best).values))
    calmer = [r for r in able if r is not chosen and is_calmer(chosen, r)]
    if calmer:
        best = max(calmer, key=lambda r: (r.detection.n_found, -r.detection.n_false) if r.detection else (0, 0))
        found.append(Remark("other_calmer", _recall_remark(chosen, best).values))
    if costs:
        cheapest = min(costs, key=lambda key: costs[key].total)
        values = {"first": model, "second": cheapest, "second_cost": costs[cheapest].total}
        values["first_cost"] = costs[model].total if model in costs else None
        found.append(Remark("cheapest" if cheapest == model else "other_cheaper", values))
    found += [Remark("failed", {"first": r.key, "why": r.error}) for r in results if r.error]
    return found
