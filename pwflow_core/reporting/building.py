"""The report as a whole: read, ask the models, draw, and put the file in place."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from pwflow_core.config import PlantConfig
from pwflow_core.pipeline.publishing.contents import Manifest, read_manifest
from pwflow_core.plant import Plant
from pwflow_core.reporting.event_facts import read_events
from pwflow_core.reporting.expectations import Expectations
from pwflow_core.reporting.facts import read_facts
from pwflow_core.reporting.pages.cases import make_cases
from pwflow_core.reporting.pages.events import make_events
from pwflow_core.reporting.pages.glance import make_glance
from pwflow_core.reporting.pages.history import make_history
from pwflow_core.reporting.pages.machines import make_machines
from pwflow_core.reporting.pages.models import make_models
from pwflow_core.reporting.pages.quality import make_quality
from pwflow_core.reporting.pages.regimes import choose_regimes, make_regimes
from pwflow_core.reporting.regimes import load_flows, load_regimes, study_regimes
from pwflow_core.reporting.rendering import make_environment, put_in_place
from pwflow_core.reporting.stretch_facts import read_stretches
from pwflow_core.reporting.texts import Texts
from pwflow_core.warehouse import utc_now

__all__ = ["ReportSummary", "build_report", "build_reports", "find_outdated", "report_path"]

_log = logging.getLogger("pwflow.report")

_STAMP = "<!-- made from {} -->"


@dataclass(frozen=True)
class ReportSummary:
    """What building a report came to.

    Attributes:
        path: The file.
        language: Its language.
        size_bytes: Its size.
        seconds: Wall time of building it.
        n_events: Events of the time shown.
        n_events_shown: Those of them that are shown in full.
        n_regimes_shown: Regimes that are shown.
        n_charts: Pictures in it.
    """

    path: Path
    language: str
    size_bytes: int
    seconds: float
    n_events: int
    n_events_shown: int
    n_regimes_shown: int
    n_charts: int


def report_path(config: PlantConfig, language: str) -> Path:
    """Return where the report of a plant lies: beside the published tables, by plant and language."""
    return config.published_path.with_name(f"{config.plant.name}-report-{language}.html")


def build_report(plant: Plant, target: Path, *, language: str = "en", days: int | None = None) -> ReportSummary:
    """Build the report of a plant as one HTML file that needs nothing else.

    Arguments:
        plant: The plant.
        target: The file to write; one that is there is replaced as a whole.
        language: `en` or `ja`.
        days: How many days of readings to show, from the last one backwards; as configured if None.

    Raises:
        ConfigurationError: The language is not known, or the file cannot be written.
        NotFittedError: There are no readings yet.
    """
    return build_reports(plant, {language: target}, days=days)[0]


def find_outdated(plant: Plant, targets: Mapping[str, Path], *, days: int | None = None) -> dict[str, Path]:
    """Return the reports that have to be built: something that was published, or the configuration, is another one now.

    Arguments:
        plant: The plant.
        targets: The file of each language.
        days: As in `build_reports`.
    """
    stamp = _stamp(plant, days).encode()
    return {language: target for language, target in targets.items() if not stamp or not _ends_with(target, stamp)}


def _stamp(plant: Plant, days: int | None) -> str:
    """Return the line that tells what a report was made from; empty as long as nothing is published."""
    manifest = read_manifest(plant.config.published_folder)
    if manifest == Manifest():
        return ""
    parts = [manifest.days, manifest.tables, plant.config.model_dump(mode="json"), days, version("pwflow")]
    return _STAMP.format(hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest())


def _ends_with(file: Path, end: bytes) -> bool:
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - len(end)))
            return stream.read() == end
    except OSError:
        return False


def build_reports(plant: Plant, targets: Mapping[str, Path], *, days: int | None = None) -> list[ReportSummary]:
    """Build the report in several languages; what it shows is read once. See `build_report`.

    The warehouse is open for a few short looks only, and never while models are asked or anything is drawn.

    Arguments:
        plant: The plant.
        targets: The file to write, by language.
        days: How many days of readings to show, from the last one backwards; as configured if None.
    """
    started = time.perf_counter()
    stamp = _stamp(plant, days)
    texts = {language: Texts(language, timezone=plant.config.schedule.timezone) for language in targets}
    facts = read_facts(plant, days or plant.config.report.days, utc_now())
    model, problem = load_regimes(plant)
    details = read_events(plant, facts, model.columns if model else ())
    stretches = read_stretches(plant, facts)
    flows, problems = load_flows(plant, facts) if model else ({}, {})
    sensors = [sensor.name for sensor in facts.sensors]
    expectations = Expectations(model, flows, sensors) if model and flows else None
    seen = {key: detail.readings for key, detail in details.items() if len(detail.readings.X)}
    with plant.threads():
        studies = study_regimes(plant, facts, model, flows, choose_regimes(facts, model)) if model else []
        bands = {key: expectations.bands(readings) for key, readings in seen.items()} if expectations else {}
    template = make_environment().get_template("report.html")
    summaries = []
    for language, target in targets.items():
        words = texts[language]
        regimes = make_regimes(facts, model, studies, problems, problem, words)
        events = make_events(facts, details, bands, words)
        cases = make_cases(facts, {card.event_id: card.chart for card in events.cards}, words)
        page = template.render(
            t=words,
            facts=facts,
            version=version("pwflow"),
            known={regime.key for regime in regimes.regimes},
            cases=cases,
            glance=make_glance(facts, events.rows, words),
            events=events,
            machines=make_machines(facts, cases, events.rows, words),
            history=make_history(facts, stretches, words),
            regimes=regimes,
            quality=make_quality(facts, words),
            models=make_models(facts, words),
        )
        size = put_in_place(f"{page}\n{stamp}", target)
        seconds = time.perf_counter() - started
        summaries.append(
            ReportSummary(
                target, language, size, seconds, facts.n_events, len(details), len(studies), page.count("<svg ")
            )
        )
        _log.info("report %s: %.1f MB in %.1f s", target, size / 1e6, seconds)
        started = time.perf_counter()
    return summaries
