"""The report as people get it: one file, all links inside, and a sensible sentence where there is nothing to show."""

from __future__ import annotations

import re

import pytest

from pwflow_core.config import ReportConfig
from pwflow_core.errors import ConfigurationError, NotFittedError
from pwflow_core.pipeline.cases.deriving import derive_cases
from pwflow_core.pipeline.decisions.verdicts import Decider
from pwflow_core.pipeline.regimes.finding import fit_cluster_model
from pwflow_core.plant import Plant
from pwflow_core.reporting import LANGUAGES, build_report, build_reports, report_path
from pwflow_core.reporting.drawing.canvas import Canvas
from pwflow_core.reporting.texts import Texts
from tests.conftest import plant_readings, query, read_all, reopen
from tests.reporting.conftest import ENGLISH_FIRST

TEXTS = Texts("en")


def built(plant, take_apart, days=1, language="en"):
    target = plant.config.folder / "report.html"
    return build_report(plant, target, days=days, language=language), take_apart(target)


@pytest.fixture(scope="module")
def reports(unchanged_plant, tmp_path_factory, take_apart):
    """Return summary and page in every language, of the plant as it is."""
    folder = tmp_path_factory.mktemp("reports")
    summaries = build_reports(unchanged_plant, {code: folder / f"{code}.html" for code in LANGUAGES})
    return {summary.language: (summary, take_apart(summary.path)) for summary in summaries}


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_report_is_one_file_whose_links_all_lead_somewhere_in_it(reports, language):
    summary, page = reports[language]
    assert summary.size_bytes == summary.path.stat().st_size
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    links = page.attributes("href") + page.attributes("xlink:href")
    assert {link for link in links if not link.startswith(("#", "data:,"))} == set()
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    assert not re.search(r"https?://(?!www\.w3\.org)", page.source)
    assert "@import" not in page.source
    assert page.open_elements == []
    assert [attributes["lang"] for tag, attributes in page.elements if tag == "html"] == [language]


def test_both_languages_show_the_same(reports):
    (english, _), (japanese, _) = reports.values()
    for name in ("n_events", "n_events_shown", "n_regimes_shown", "n_charts"):
        assert getattr(english, name) == getattr(japanese, name) > 0


def test_the_figures_of_the_page_are_those_of_the_warehouse(reports, unchanged_plant):
    summary, page = reports["en"]
    [(n_events,)] = query(unchanged_plant, "SELECT count(*) FROM mart.anomaly_events")
    [(n_anomalies,)] = query(unchanged_plant, "SELECT count(*) FROM mart.anomaly_scores WHERE is_anomaly")
    assert summary.n_events == n_events
    assert TEXTS.number(n_anomalies) in page.text
    [(worst,)] = query(unchanged_plant, "SELECT summary FROM mart.anomaly_events ORDER BY peak_score DESC LIMIT 1")
    assert worst in page.text


def test_every_machine_has_a_card_with_its_readings_and_its_share_of_alarms(reports, unchanged_plant):
    _, page = reports["en"]
    cards = page.source.split('<article class="card machine"')[1:]
    counted = query(
        unchanged_plant,
        "SELECT machine_id, count(*), avg(is_anomaly::INT) FILTER (status = 'scored') FROM mart.anomaly_scores "
        "GROUP BY machine_id ORDER BY machine_id",
    )
    assert len(cards) == len(counted) > 1
    for card, (machine, n_readings, share) in zip(cards, counted, strict=True):
        assert machine in card
        assert f"<dd>{TEXTS.number(n_readings)}</dd>" in card
        assert f"<dd>{TEXTS.percent(share)}</dd>" in card
        assert "anomalies per day and events of each machine".lower() in card.lower()


def test_every_picture_says_what_it_shows_and_names_its_axes(reports):
    summary, page = reports["en"]
    pictures = [attributes for tag, attributes in page.elements if tag == "svg"]
    assert len(pictures) == summary.n_charts
    assert all(picture["aria-label"] and picture["role"] == "img" for picture in pictures)
    for named in ("temperature (°C)", "pressure (bar)", "log-density (nats)", "share of readings (%)", "time (UTC)"):
        assert named in page.text


def test_every_regime_has_its_map_share_pairs_latents_and_training_curve(reports, unchanged_plant):
    _, page = reports["en"]
    n_regimes = len(query(unchanged_plant, "SELECT 1 FROM mart.clusters WHERE status = 'active'"))
    pair = TEXTS("regime.pair", y="pressure", x="temperature")
    for title in (
        pair,
        *(TEXTS(f"regime.{name}") for name in ("map", "share", "sight", "latents", "latent_quantiles")),
    ):
        assert page.text.count(title) == n_regimes


def test_a_blind_regime_says_so_with_the_reason(eventful_plant, take_apart):
    blind = "is_blind = true, shift = NULL, shift_sigma = NULL"
    with eventful_plant.warehouse.transaction() as connection:
        connection.execute(
            f"UPDATE mart.detectability SET {blind}, reason = 'other_regime', hidden_by = 'c0002' "
            "WHERE cluster_key = 'c0001';"
            f"UPDATE mart.detectability SET {blind}, reason = 'few_readings', spread = NULL WHERE cluster_key = 'c0003'"
        )
    for language in LANGUAGES:
        texts = Texts(language)
        target = eventful_plant.config.folder / f"{language}.html"
        build_report(eventful_plant, target, language=language, days=1)
        text = take_apart(target).text
        both = texts("event.and").join(["pressure", "temperature"])
        assert texts("blind.other_regime", sensors=both, regime="c0002") in text
        assert texts("blind.few_readings") in text
        assert text.count(texts("regime.sight")) == 3, "nothing was probed in one of the four"


def test_nothing_is_drawn_while_the_warehouse_is_open(eventful_plant, monkeypatch, tmp_path):
    writer = reopen(eventful_plant, warehouse={"wait_seconds": 0.0})
    drawn, ordinary = [], Canvas.__init__

    def draw(canvas, *arguments):
        with writer.warehouse.transaction():  # shuts out every reader, and fails if there is one
            drawn.append(canvas)
        ordinary(canvas, *arguments)

    monkeypatch.setattr(Canvas, "__init__", draw)
    summary = build_report(eventful_plant, tmp_path / "report.html", days=1)
    assert len(drawn) == summary.n_charts


def test_without_evidence_of_drift_the_report_says_so(reports):
    _, page = reports["en"]
    assert TEXTS("regime.no_evidence") in page.text
    assert TEXTS("regimes.no_findings") in page.text
    assert TEXTS("chart.drift") not in page.attributes("aria-label")


def test_evidence_of_drift_is_drawn_beside_its_threshold_with_the_findings(eventful_plant, take_apart):
    with eventful_plant.warehouse.transaction() as connection:
        connection.execute(
            """
            INSERT INTO mart.cluster_health BY NAME
            SELECT DATE '2024-03-01' + day::INT AS night, 'c0001' AS cluster_key, channel, day * 3.0 AS evidence,
                   2.0 AS threshold, 'exceeded' AS verdict, 100 AS n_readings
            FROM range(2) AS days (day), (VALUES ('drift'), ('log_density'), ('latent_1'), ('latent_2')) AS c (channel)
            """
        )
        connection.execute(
            """
            INSERT INTO mart.drift_verdicts BY NAME
            SELECT 'v' AS verdict_id, DATE '2024-03-02' AS night, 'regime_moved' AS verdict, ['c0001'] AS cluster_keys,
                   ['pressure'] AS sensors, DATE '2024-03-01' AS since, 0.5 AS effect_size, 'It <moved>' AS summary,
                   'retrain' AS answer, 'open' AS status
            """
        )
    _, page = built(eventful_plant, take_apart)
    assert page.attributes("aria-label").count(TEXTS("chart.drift")) == 1
    assert "3.0 of 2" in page.text
    assert TEXTS("channel.latent", number=2) in re.findall(r"<title>([^<]+)</title>", page.source)
    assert page.text.count("It <moved>") == 2  # among all findings, and with its regime
    assert f'<span class="state drifted">{TEXTS("state.drifted")}</span>' in page.source
    assert TEXTS("legend.threshold") in page.text


@pytest.mark.parametrize("language", ENGLISH_FIRST)
def test_a_finding_that_asks_somebody_is_told_from_a_regime_that_moved(language, eventful_plant, take_apart):
    with eventful_plant.warehouse.transaction() as connection:
        connection.execute(
            """
            INSERT INTO mart.drift_verdicts BY NAME
            SELECT 'v' AS verdict_id, DATE '2024-03-02' AS night, 'sensor_suspected' AS verdict, ['M9'] AS machine_ids,
                   ['c0001', 'c0002', 'c0003', 'c0004'] AS cluster_keys, ['pressure'] AS sensors, 0.5 AS effect_size,
                   DATE '2024-03-01' AS since, 'It reads low.' AS summary, 'ask' AS answer, 'open' AS status
            """
        )
    texts = Texts(language)
    _, page = built(eventful_plant, take_apart, language=language)
    assert f'<span class="state asked">{texts("state.asked")}</span>' in page.source
    assert 'class="state drifted"' not in page.source
    assert f"{texts('regime.several', n=4)}, M9" in page.text
    assert ("It reads low." in page.text) == (language == "en")


def test_decisions_and_earlier_flows_are_shown(eventful_plant, take_apart):
    with eventful_plant.warehouse.transaction() as connection:
        connection.execute(
            """
            INSERT INTO mart.flow_versions BY NAME
            SELECT * REPLACE ('0' || flow_version[2:] AS flow_version, false AS in_force, 'older' AS reason)
            FROM mart.flow_versions WHERE cluster_key = 'c0001'
            """
        )
        connection.execute(
            """
            INSERT INTO mart.flow_decisions BY NAME
            SELECT TIMESTAMP '2024-03-02 03:00' AS decided_at, 'c0001' AS cluster_key, flow_version,
                   'refused' AS decision, 0.1234 AS gain_recent, 0.05 AS gain_recent_error,
                   'dagster run b3c517f1-0c1e-4a55-9d0f-0a2f9e7a5506' AS decided_by,
                   'too little gain' AS reason
            FROM mart.flow_versions WHERE cluster_key = 'c0001' AND in_force
            """
        )
    _, page = built(eventful_plant, take_apart)
    assert "+0.123 ± 0.050" in page.text
    assert "too little gain" in page.text
    assert "dagster run b3c517f1" in page.text
    assert "b3c517f1-" not in page.text
    assert TEXTS("models.earlier", n="1") in page.text


def test_a_regime_without_a_flow_is_said_to_have_none(eventful_plant, take_apart):
    with eventful_plant.warehouse.transaction() as connection:
        connection.execute("DELETE FROM mart.flow_versions WHERE cluster_key = 'c0002'")
    _, page = built(eventful_plant, take_apart)
    assert page.text.count(TEXTS("regime.no_flow")) == 1
    assert TEXTS("state.no_flow") in page.text


def test_a_damaged_model_file_costs_its_pictures_only(eventful_plant, take_apart):
    [(version,)] = query(eventful_plant, "SELECT flow_version FROM mart.flow_versions WHERE cluster_key = 'c0001'")
    file = eventful_plant.config.folder / "models" / f"{version}.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    summary, page = built(eventful_plant, take_apart)
    assert page.text.count("is damaged") == 1
    assert TEXTS("regime.no_flow") not in page.text
    assert summary.n_regimes_shown == 4


def test_a_plant_without_events_says_so_and_lists_its_highest_scores(eventful_plant, take_apart):
    with eventful_plant.warehouse.transaction() as connection:
        connection.execute("DELETE FROM mart.anomaly_events")
    summary, page = built(eventful_plant, take_apart)
    assert (summary.n_events, summary.n_events_shown) == (0, 0)
    assert TEXTS("events.none") in page.text
    assert TEXTS("events.highest") in page.text
    highest = query(
        eventful_plant,
        "SELECT max(anomaly_score) FROM mart.anomaly_scores WHERE ts >= '2024-03-02' GROUP BY machine_id",
    )
    for (score,) in highest:
        assert TEXTS.number(score) in page.text


def test_a_case_to_decide_has_its_picture_and_its_history(eventful_plant, take_apart):
    derive_cases(eventful_plant, by=Decider("a run", "r1"))
    [(case_id, worst)] = query(
        eventful_plant,
        "SELECT case_id, worst_event_id FROM mart.cases WHERE state = 'open' ORDER BY peak_score DESC LIMIT 1",
    )
    _, page = built(eventful_plant, take_apart, days=30)
    shown = [case for case in page.source.split('<article class="card case')[1:] if 'id="case-' in case]
    [own] = [case for case in shown if f'id="case-{case_id}"' in case]
    assert TEXTS("chart.signals") in own.split("</article>")[0]
    assert "opened by a run" in own.split("</article>")[0]
    assert f'id="event-{worst}"' in page.source


def test_an_unusual_stretch_is_drawn_with_what_to_do_and_who_decided(eventful_plant, take_apart):
    with eventful_plant.warehouse.transaction() as connection:
        for stretch_id, status, by in (("U-aaaaaa", "open", None), ("U-bbbbbb", "fault", "Ada: pump")):
            connection.execute(
                "INSERT INTO mart.unusual_stretches BY NAME SELECT $id AS stretch_id, 'press-1' AS machine_id, "
                "'A' AS segment, TIMESTAMP '2024-03-01 10:00' AS started_at, TIMESTAMP '2024-03-01 11:00' AS ended_at, "
                "61 AS n_readings, 9.0 AS excess, ['pressure'] AS top_sensors, $status AS status, $by AS decided_by, "
                "TIMESTAMP '2024-03-05' AS decided_at",
                {"id": stretch_id, "status": status, "by": by},
            )
    summary, page = built(eventful_plant, take_apart)
    assert page.text.count(TEXTS("history.signals")) == 2
    assert "pwflow approve U-aaaaaa" in page.text
    assert "pwflow approve U-bbbbbb" not in page.text
    assert "Ada: pump, " in page.text
    assert {"stretch-U-aaaaaa", "stretch-U-bbbbbb"} <= set(page.attributes("id"))
    assert summary.n_charts == page.source.count("<svg ")


def test_readings_without_regimes_make_a_report_of_what_there_is(make_plant, take_apart):
    plant = make_plant({"first.csv": plant_readings(200)}, source={"segments": ["recipe"]})
    read_all(plant)
    summary, page = built(plant, take_apart)
    assert summary.n_regimes_shown == 0
    assert TEXTS("glance.no_scores").replace("`", "") in page.text
    assert TEXTS("models.none") in page.text
    assert TEXTS("rejected.duplicate") not in page.text


def test_regimes_that_are_only_just_found_are_shown_as_thin(make_plant, take_apart):
    plant = make_plant(
        {"first.csv": plant_readings(400)}, source={"segments": ["recipe"]}, clustering={"n_clusters": 2}
    )
    read_all(plant)
    fit_cluster_model(plant)
    summary, page = built(plant, take_apart)
    assert summary.n_regimes_shown == 4
    assert page.text.count(TEXTS("regime.no_flow")) == 4


def test_before_the_first_reading_the_next_step_is_named(make_plant, tmp_path):
    plant = make_plant()
    with pytest.raises(NotFittedError, match="pwflow run"):
        build_report(plant, tmp_path / "report.html")
    with plant.warehouse.transaction():
        pass
    with pytest.raises(NotFittedError, match="pwflow run"):
        build_report(plant, tmp_path / "report.html")


def test_only_the_days_asked_for_are_shown(reports, unchanged_plant, tmp_path):
    summary = build_report(unchanged_plant, tmp_path / "report.html", days=1)
    [(n_events,)] = query(
        unchanged_plant,
        "SELECT count(*) FROM mart.anomaly_events WHERE ended_at >= (SELECT max(ts)::DATE FROM core.readings)",
    )
    assert summary.n_events == n_events < reports["en"][0].n_events
    configured = unchanged_plant.config.model_copy(update={"report": ReportConfig(days=1)})
    assert build_report(Plant.open(configured), tmp_path / "configured.html").n_events == n_events


def test_a_report_is_replaced_as_a_whole_or_not_at_all(eventful_plant, tmp_path):
    target = tmp_path / "report.html"
    target.mkdir()
    with pytest.raises(ConfigurationError, match="cannot be written"):
        build_report(eventful_plant, target, days=1)
    assert [path.name for path in tmp_path.glob(".pwflow-*")] == []


def test_reports_of_several_plants_lie_side_by_side(eventful_plant):
    paths = {report_path(eventful_plant.config, language) for language in LANGUAGES}
    assert len(paths) == len(LANGUAGES)
    assert all(path.parent == eventful_plant.config.published_path.parent for path in paths)
    assert all(eventful_plant.config.plant.name in path.name for path in paths)
