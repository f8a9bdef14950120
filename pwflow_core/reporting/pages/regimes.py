"""The regimes: where each lies, how often it occurs, what its flow expects of it, and whether it has moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import combinations, groupby

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from pwflow_core.pipeline.decisions.verdicts import StoredVerdict
from pwflow_core.pipeline.regimes.model import ClusterModel, SegmentClusters
from pwflow_core.pipeline.regimes.naming import RegimeNames
from pwflow_core.pipeline.scoring.sight import SensorSight
from pwflow_core.reporting.drawing.curves import channel_name, draw_drift, draw_share, draw_training_curve
from pwflow_core.reporting.drawing.densities import draw_latent_quantiles, draw_latents, draw_pair
from pwflow_core.reporting.drawing.maps import draw_regime_map
from pwflow_core.reporting.drawing.palette import SERIES
from pwflow_core.reporting.drawing.sight import draw_sight
from pwflow_core.reporting.facts import PlantFacts, nights_between
from pwflow_core.reporting.names import clean_name, shorten_name
from pwflow_core.reporting.pages.chart import Chart, Key
from pwflow_core.reporting.projection import Plane, plane_of, raw_columns
from pwflow_core.reporting.regimes import RegimeStudy
from pwflow_core.reporting.texts import Texts

__all__ = ["RegimePage", "RegimesPage", "VerdictRow", "choose_regimes", "make_regimes"]

_MOST_REGIMES = 24
_MOST_PAIRS = 3
_FEWEST_READINGS = 20
_MOST_CHANNELS = 3
_MOST_NAMED = 3
_MOST_SENSORS = 12

Array = NDArray[np.float64]


@dataclass(frozen=True)
class VerdictRow:
    """One finding about a regime, or about the whole plant."""

    night: str
    verdict: str
    about: str
    sensors: str
    since: str
    answer: str
    status: str
    summary: str


@dataclass(frozen=True)
class RegimePage:
    """One regime; `notes` say what there is nothing to show of, and why."""

    key: str
    segment: str
    weight: str
    charts: tuple[Chart, ...]
    verdicts: tuple[VerdictRow, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class RegimesPage:
    """All regimes that are shown, how many are not, all findings, and why there is nothing, if so."""

    regimes: tuple[RegimePage, ...]
    n_hidden: int
    verdicts: tuple[VerdictRow, ...]
    problem: str


@dataclass(frozen=True, eq=False)
class _Segment:
    """A segment on its plane: only the sensors themselves, not the features made from them."""

    part: SegmentClusters
    plane: Plane
    raw: list[int]


def choose_regimes(facts: PlantFacts, model: ClusterModel) -> list[str]:
    """Return the regimes that are shown: those that occurred most in the time shown, in the order of their keys."""
    counts = facts.nights.groupby("cluster_key")["n_readings"].sum()
    order = sorted(model.keys, key=lambda key: -int(counts.get(key, 0)))
    return sorted(order[:_MOST_REGIMES])


def make_regimes(
    facts: PlantFacts,
    model: ClusterModel | None,
    studies: Sequence[RegimeStudy],
    problems: dict[str, str],
    problem: str,
    texts: Texts,
) -> RegimesPage:
    """Make the page.

    Arguments:
        facts: What is known of the plant.
        model: The regimes in use; None where there are none.
        studies: Those that are shown.
        problems: Why the flow of a regime cannot be loaded, by cluster key.
        problem: Why there are no regimes, as a sentence; empty if there are.
        texts: The words.
    """
    verdicts = _verdict_rows(facts, texts)
    if model is None:
        return RegimesPage((), 0, tuple(row for _, row in verdicts), problem)
    raw = raw_columns(model, [sensor.name for sensor in facts.sensors])
    segments = {part.segment: _Segment(part, plane_of(part, raw), raw) for part in model.segments}
    by_key = {study.key: study for study in studies}
    pages = [
        _regime(facts, model, study, segments[study.segment], by_key, verdicts, problems.get(study.key, ""), texts)
        for study in studies
    ]
    return RegimesPage(tuple(pages), len(model.keys) - len(pages), tuple(row for _, row in verdicts), "")


def _regime(
    facts: PlantFacts,
    model: ClusterModel,
    study: RegimeStudy,
    segment: _Segment,
    studies: dict[str, RegimeStudy],
    verdicts: Sequence[tuple[frozenset[str], VerdictRow]],
    problem: str,
    texts: Texts,
) -> RegimePage:
    weight = next((cluster.weight for cluster in facts.active if cluster.cluster_key == study.key), None)
    charts = [_map(study, segment, studies, texts), *_share(facts, study.key, texts)]
    notes = [problem] if problem else []
    sight, blind = _sight(facts, study.key, texts)
    charts += sight
    notes += blind
    drift = _drift(facts, study.key, texts)
    if drift is not None:
        charts.append(drift)
    else:
        notes.append(texts("regime.no_evidence"))
    if study.history is None:
        notes += [] if problem else [texts("regime.no_flow")]
    else:
        charts += _pairs(facts, model, study, segment.raw, texts)
        if max(len(study.held_out), len(study.recent)) >= _FEWEST_READINGS:
            charts += _latents(study, texts)
        else:
            notes.append(texts("regime.thin", n=texts.number(len(study.held_out) + len(study.recent))))
        if len(study.history.steps) > 1:
            history = study.history
            picture = draw_training_curve(history.steps, history.train, history.held_out, history.best_step, texts)
            charts.append(
                Chart(
                    texts("regime.training"),
                    picture,
                    legend=(
                        Key("line", "blue", texts("legend.train")),
                        Key("line", "vermilion", texts("legend.held_out")),
                        Key("dashed", "ink", texts("legend.best")),
                    ),
                    note=texts("regime.training_note", why=texts.label("stopped", history.stopped)),
                )
            )
        if study.is_gaussian:
            notes.append(texts("regime.gaussian", why=texts.label("stopped", study.history.stopped)))
    return RegimePage(
        study.key,
        study.segment,
        texts.percent(weight),
        tuple(charts),
        tuple(row for keys, row in verdicts if study.key in keys),
        tuple(notes),
    )


def _map(study: RegimeStudy, segment: _Segment, studies: dict[str, RegimeStudy], texts: Texts) -> Chart:
    points = {
        key: segment.plane.project(np.concatenate([studies[key].held_out, studies[key].recent])[:, segment.raw])
        for key in segment.part.keys
        if key in studies
    }
    picture = draw_regime_map(segment.plane, segment.part.keys, study.key, points, texts)
    legend = (Key("dot", "blue", texts("legend.this_regime")), Key("dot", "muted", texts("legend.other_regimes")))
    return Chart(texts("regime.map"), picture, legend=legend, note=texts("regime.map_note"))


def _share(facts: PlantFacts, key: str, texts: Texts) -> list[Chart]:
    totals = facts.nights.groupby("night")["n_readings"].sum()
    own = facts.nights[facts.nights["cluster_key"] == key].groupby("night")["n_readings"].sum()
    nights = nights_between(facts.first_night, facts.last_night)
    if totals.empty:
        return []
    share = [float(own.get(night, 0)) / float(totals[night]) if night in totals.index else np.nan for night in nights]
    return [Chart(texts("regime.share"), draw_share(nights, share, texts), note=texts("regime.share_note"))]


def _drift(facts: PlantFacts, key: str, texts: Texts) -> Chart | None:
    evidence: dict[str, dict[date, float]] = {}
    threshold: dict[date, float] = {}
    for row in facts.health:
        if row.cluster_key == key and (row.channel in ("drift", "log_density") or row.channel.startswith("latent_")):
            evidence.setdefault(row.channel, {})[row.night] = np.nan if row.evidence is None else row.evidence
            if row.channel == "drift" and row.threshold is not None:
                threshold[row.night] = row.threshold
    if "drift" not in evidence:
        return None
    nights = sorted(set().union(*evidence.values()))
    singles = [name for name in evidence if name != "drift"]
    strongest = sorted(singles, key=lambda name: -evidence[name].get(nights[-1], -np.inf))
    shown = ["drift", *strongest[:_MOST_CHANNELS]]
    picture = draw_drift(
        nights,
        {name: [evidence[name].get(night, np.nan) for night in nights] for name in shown},
        [threshold.get(night, np.nan) for night in nights],
        texts,
    )
    legend = (
        Key("line", "blue", texts("channel.drift")),
        *(Key("line", series, channel_name(name, texts)) for name, series in zip(shown[1:], SERIES[1:], strict=False)),
        Key("dashed", "ink", texts("legend.threshold")),
    )
    return Chart(texts("regime.drift"), picture, legend=legend, note=texts("regime.drift_note"))


def _sight(facts: PlantFacts, key: str, texts: Texts) -> tuple[list[Chart], list[str]]:
    """Return what a regime sees as a picture, and why it is blind, if it is."""
    own = [seen for seen in facts.sight if seen.cluster_key == key]
    notes = []
    for (reason, hidden_by), group in groupby(
        sorted((seen for seen in own if seen.is_blind), key=_blindness), key=_blindness
    ):
        names = [shorten_name(seen.sensor, 40) for seen in group]
        notes.append(texts(f"blind.{reason}", sensors=texts("event.and").join(names), regime=hidden_by))
    probed = [seen for seen in own if seen.spread is not None]
    if not probed:
        return [], notes
    worst = sorted(probed, key=lambda seen: -(np.inf if seen.shift_sigma is None else seen.shift_sigma))
    legend = (
        Key("dot", "blue", texts("legend.shift")),
        Key("diamond", "vermilion", texts("legend.spike")),
        Key("dashed", "ink", texts("legend.blind")),
    )
    picture = draw_sight(worst[:_MOST_SENSORS], texts)
    return [Chart(texts("regime.sight"), picture, legend=legend, note=texts("regime.sight_note"))], notes


def _blindness(seen: SensorSight) -> tuple[str, str]:
    return seen.reason or "", seen.hidden_by or ""


def _pairs(facts: PlantFacts, model: ClusterModel, study: RegimeStudy, raw: list[int], texts: Texts) -> list[Chart]:
    units = {sensor.name: sensor.unit for sensor in facts.sensors}
    charts = []
    for a, b in choose_pairs(study.sampled[:, raw]):
        columns = [raw[a], raw[b]]
        names = (clean_name(model.columns[columns[0]]), clean_name(model.columns[columns[1]]))
        picture = draw_pair(
            study.sampled[:, columns],
            study.held_out[:, columns],
            study.recent[:, columns],
            names,
            (units.get(model.columns[columns[0]], ""), units.get(model.columns[columns[1]], "")),
            texts,
        )
        legend = (
            Key("area", "green", texts("legend.sampled")),
            Key("dot", "blue", texts("legend.observed")),
            Key("dot", "vermilion", texts("legend.recent")),
        )
        title = texts("regime.pair", x=shorten_name(names[0], 24), y=shorten_name(names[1], 24))
        charts.append(Chart(title, picture, legend=legend, note=texts("regime.pair_note")))
    return charts


def choose_pairs(sampled: Array) -> list[tuple[int, int]]:
    """Return the pairs of columns that hang together most, by rank correlation, each column as rarely as can be."""
    n_columns = sampled.shape[1]
    if n_columns < 2 or len(sampled) < 3:
        return []
    with np.errstate(invalid="ignore", divide="ignore"):
        strength = np.abs(np.nan_to_num(np.corrcoef(rankdata(sampled, axis=0), rowvar=False)))
    left = sorted(combinations(range(n_columns), 2), key=lambda pair: -float(strength[pair]))
    used = np.zeros(n_columns, dtype=int)
    chosen: list[tuple[int, int]] = []
    while left and len(chosen) < _MOST_PAIRS:
        best = min(left, key=lambda pair: (used[pair[0]] + used[pair[1]], -float(strength[pair])))
        left.remove(best)
        used[list(best)] += 1
        chosen.append(best)
    return chosen


def _latents(study: RegimeStudy, texts: Texts) -> list[Chart]:
    legend = (
        Key("line", "blue", texts("legend.observed")),
        Key("line", "vermilion", texts("legend.recent")),
        Key("dashed", "ink", "N(0, 1)"),
    )
    return [
        Chart(
            texts("regime.latents"),
            draw_latents(study.held_out_latents, study.recent_latents, texts),
            legend=legend,
            note=texts("regime.latents_note"),
        ),
        Chart(
            texts("regime.latent_quantiles"),
            draw_latent_quantiles(study.held_out_latents, study.recent_latents, texts),
            legend=legend,
            note=texts("regime.latent_quantiles_note"),
        ),
    ]


def _verdict_rows(facts: PlantFacts, texts: Texts) -> list[tuple[frozenset[str], VerdictRow]]:
    """Return every finding behind the regimes that it is about."""
    return [(frozenset(verdict.cluster_keys), _verdict_row(facts.names, verdict, texts)) for verdict in facts.verdicts]


def _verdict_row(names: RegimeNames, verdict: StoredVerdict, texts: Texts) -> VerdictRow:
    return VerdictRow(
        texts.night(verdict.night),
        texts.label("verdict", verdict.verdict),
        ", ".join([*_regimes_of(names, verdict, texts), *verdict.machine_ids]) or texts("none"),
        ", ".join(verdict.sensors) or texts("none"),
        texts.night(verdict.since),
        texts.label("answer", verdict.answer),
        texts.label("finding", verdict.status),
        _in_words(names, verdict, texts),
    )


def _regimes_of(names: RegimeNames, verdict: StoredVerdict, texts: Texts) -> list[str]:
    """Return the keys and names of the regimes that a finding is about, or their number where there are many."""
    keys = names.labels(verdict.cluster_keys)
    return keys if len(keys) <= _MOST_NAMED else [texts("regime.several", n=texts.number(len(keys)))]


def _in_words(names: RegimeNames, verdict: StoredVerdict, texts: Texts) -> str:
    """Return the sentence of a finding; the warehouse has it in English."""
    key = f"said.{verdict.verdict}"
    if texts.language == "en" or key not in texts.keys:
        return names.spell_out(verdict.summary)
    return texts(
        key,
        regimes=", ".join(_regimes_of(names, verdict, texts)) or texts("none"),
        machines=", ".join(verdict.machine_ids) or texts("none"),
        sensors=", ".join(verdict.sensors) or texts("regime.together"),
        since=texts.night(verdict.since),
    )
