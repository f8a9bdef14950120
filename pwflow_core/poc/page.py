"""The comparison as a page: what each section shows, ready for the template."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from markupsafe import Markup

from pwflow_core.config import PlantConfig
from pwflow_core.poc.costs import REFITS, WEEKS
from pwflow_core.poc.drawing import Axis, Bar, Dot, draw_bars, draw_dots
from pwflow_core.poc.faults import FAULT_READINGS, OFFSET_SIZES, SPIKE_SIZES
from pwflow_core.poc.proving import Comparison
from pwflow_core.poc.readings import LEARNED
from pwflow_core.poc.results import Result, density_gain
from pwflow_core.poc.sentences import headline, measured, sentence, signed, title_of, words
from pwflow_core.reporting.pages.chart import Chart, Key, in_two_widths
from pwflow_core.reporting.rendering import make_environment, put_in_place
from pwflow_core.reporting.texts import Texts

__all__ = ["poc_path", "write_page"]

_CHOSEN, _PWFLOW, _RIVAL = "blue", "sky", "muted"
_PARTIAL, _FULL = "green", "amber"
_MONEY = (("false_alarms", "amber"), ("missed", "vermilion"), ("computing", "sky"))
_COMPARED = ((("pwflow",), "gain_pwflow"), (("single",), "gain_one"), (("gmm", "gaussian"), "gain_simple"))
_WIDE = 540


@dataclass(frozen=True)
class Tile:
    """One figure with what it is."""

    value: str
    label: str
    note: str


@dataclass(frozen=True)
class Row:
    """One row of a table: the model, whether it is the recommended one, and its cells."""

    name: str
    is_chosen: bool
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table: keys or texts of its columns, and its rows."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def poc_path(config: PlantConfig, language: str) -> Path:
    """Return where the page of a plant lies: beside the published tables, by plant and language."""
    return config.published_path.with_name(f"{config.plant.name}-poc-{language}.html")


def write_page(comparison: Comparison, target: Path, language: str = "en") -> int:
    """Write the comparison as one HTML file that needs nothing else; return its size in bytes.

    Arguments:
        comparison: What came of it.
        target: The file to write; one that is there is replaced as a whole.
        language: `en` or `ja`.

    Raises:
        ConfigurationError: The language is not known, or the file cannot be written.
    """
    texts = words(language)
    maker = _Maker(comparison, texts)
    page = (
        make_environment(__package__)
        .get_template("poc.html")
        .render(
            t=texts,
            version=version("pwflow"),
            comparison=comparison,
            facts=comparison.facts,
            headline=headline(comparison.recommendation, texts),
            reasons=maker.remarks("reasons"),
            caveats=maker.remarks("caveats"),
            advice=maker.advice(),
            tiles=maker.tiles(),
            density=maker.density(),
            detection=maker.detection(),
            faults=maker.faults(),
            costs=maker.computing(),
            most_learned=texts.number(LEARNED),
            money=maker.money(),
            method=maker.method(),
        )
    )
    return put_in_place(page, target)


class _Maker:
    """Makes each section; `able` are the results with figures."""

    def __init__(self, comparison: Comparison, texts: Texts) -> None:
        self.comparison, self.t = comparison, texts
        self.able = [result for result in comparison.results if not result.error]
        self.chosen = next((r for r in self.able if r.key == comparison.recommendation.model), None)
        self.currency = comparison.costs.currency if comparison.costs else ""

    def remarks(self, which: str) -> list[str]:
        found = getattr(self.comparison.recommendation, which)
        return [sentence(remark, self.t, self.currency) for remark in found]

    def advice(self) -> list[str]:
        made, n = self.comparison.recommendation, self.comparison.facts.n_segments
        code = made.code
        found = [self.t("poc.next.one_large" if (code, made.model) == ("one_regime", "single") else f"poc.next.{code}")]
        if n > 1 and code in ("one_regime", "use_pwflow"):
            found.append(self.t("poc.next.segments", n=self.t.number(n)))
        return found

    def tiles(self) -> list[Tile]:
        t, facts, chosen = self.t, self.comparison.facts, self.chosen
        if chosen is None:
            return []
        found = []
        for kinds, label in _COMPARED:
            rivals = [r for r in self.able if r.contender.kind in kinds and chosen.contender.kind not in kinds]
            if rivals and len(chosen.log_density):
                gain = density_gain(max(rivals, key=lambda r: float(r.log_density.mean())), chosen)
                value = f"{signed(gain.mean, 2)} ± {gain.error:.2f}"
                found.append(Tile(value, t(f"poc.tile.{label}"), t("poc.tile.nats")))
        if chosen.detection is not None and chosen.detection.n_faults:
            source = t(f"poc.source.{facts.fault_source}")
            of = t("poc.tile.of_faults", n=t.number(chosen.detection.n_faults), source=source)
            found.append(Tile(t.percent(chosen.detection.recall), t("poc.tile.recall"), of))
        if chosen.detection is not None:
            false = measured(chosen.detection.false_per_week, chosen.detection.false_per_week_error)
            found.append(Tile(false, t("poc.tile.false_alarms"), self._budget()))
        night = t("poc.tile.for_night", n=t.number(round(facts.readings_per_week / 7)))
        found.append(Tile(t.number(chosen.nightly_cpu_seconds), t("poc.tile.nightly"), night))
        return found

    def density(self) -> tuple[list[Chart], Table] | None:
        t, shown = self.t, [r for r in self.able if len(r.log_density)]
        if not shown:
            return None
        dots = []
        for result in shown:
            mean, error = result.held_out or (0.0, 0.0)
            text = f"{signed(mean, 2).removeprefix('+')} ± {error:.2f}"
            dots.append(Dot(self._name(result), mean, 2 * error, text, self._colour(result), result is self.chosen))
        axis = Axis(t("poc.axis.log_density"), "nats", t("poc.chart.density"))
        charts = [
            self._chart("density", lambda width: draw_dots(dots, axis, width), note="density_note"),
            self._bars(
                "bridge",
                "share",
                "%",
                [
                    (r, 100 * max(r.figure("bridge_mass") or 0.0, 0.0), t.percent(r.figure("bridge_mass")))
                    for r in shown
                ],
                note="bridge_note",
            ),
        ]
        rows = [
            self._row(
                result,
                self._with_error(*(result.held_out or (float("nan"), float("nan")))),
                self._against(result),
                t.percent(result.figure("bridge_mass")).replace("-", "−"),
            )
            for result in shown
        ]
        return charts, Table(("model", "held_out", "against", "bridge"), tuple(rows))

    def detection(self) -> tuple[list[Chart], Table, Table] | None:
        t = self.t
        shown = [(result, found) for result in self.able if (found := result.detection) is not None]
        if not shown:
            return None
        charts = []
        if shown[0][1].n_faults:
            recalls = [(r, 100 * d.recall, f"{d.n_found} / {d.n_faults}") for r, d in shown]
            charts.append(self._bars("recall", "recall", "%", recalls))
        false = [(r, d.false_per_week, measured(d.false_per_week, d.false_per_week_error)) for r, d in shown]
        charts.append(self._bars("false_alarms", "per_week", "", false, note="false_alarms_note"))
        rows = [
            self._row(r, f"{d.n_found} / {d.n_faults}", measured(d.false_per_week, d.false_per_week_error))
            for r, d in shown
        ]
        kinds = list(shown[0][1].by_kind)
        by_kind = [self._row(r, *(f"{d.by_kind[kind][1]} / {d.by_kind[kind][0]}" for kind in kinds)) for r, d in shown]
        names = tuple(t.label("poc.kind", kind) for kind in kinds)
        return charts, Table(("model", "found", "false_alarms"), tuple(rows)), Table(names, tuple(by_kind))

    def faults(self) -> str:
        """Say where the faults come from."""
        spike, offset = ("–".join(f"{size:g}" for size in sizes) for sizes in (SPIKE_SIZES, OFFSET_SIZES))
        values = {"spike": spike, "offset": offset, "n": self.t.number(FAULT_READINGS)}
        told = self.t(f"poc.detection.{self.comparison.facts.fault_source}", **values)
        return told if self.comparison.facts.n_segments == 1 else f"{told} {self.t('poc.detection.segments')}"

    def computing(self) -> tuple[list[Chart], Table] | None:
        t, shown = self.t, self.able
        if not shown:
            return None
        parts = []
        for result in shown:
            partial, full = result.partial_refit_cpu_seconds or 0.0, result.full_refit_cpu_seconds or 0.0
            text = t.number(full) if partial == full else f"{t.number(partial)} / {t.number(full)}"
            alone = 0.0 if partial == full else partial
            lengths = ((_PARTIAL, alone), (_FULL, max(full - alone, 0.0)))
            parts.append(Bar(self._name(result), lengths, text, result is self.chosen))
        axis = Axis(t("poc.axis.cpu_seconds"), "s", t("poc.chart.refit"))
        legend = (Key("cell", _PARTIAL, t("poc.legend.partial")), Key("cell", _FULL, t("poc.legend.full")))
        charts = [
            self._chart("refit", lambda width: draw_bars(parts, axis, width), legend),
            self._bars("nightly", "cpu_seconds", "s", self._figures(lambda r: r.nightly_cpu_seconds)),
            self._bars("memory", "memory", "MB", self._figures(lambda r: r.added_memory_mb)),
        ]
        rows = [
            self._row(
                result,
                *map(
                    t.number,
                    (
                        result.figure("train_cpu_seconds"),
                        result.figure("train_seconds"),
                        result.added_memory_mb,
                        result.figure("peak_memory_mb"),
                        result.nightly_cpu_seconds,
                        result.partial_refit_cpu_seconds,
                        result.full_refit_cpu_seconds,
                    ),
                ),
            )
            for result in shown
        ]
        columns = ("model", "training", "clock", "memory", "peak", "nightly", "partial", "full")
        return charts, Table(columns, tuple(rows))

    def money(self) -> tuple[Chart, Table, str] | None:
        t, yearly, costs = self.t, self.comparison.yearly, self.comparison.costs
        if not yearly or costs is None:
            return None
        shown = [(result, yearly[result.key]) for result in self.able if result.key in yearly]
        bars, rows = [], []
        for result, cost in shown:
            each = (cost.false_alarms, cost.missed_events, cost.computing)
            total = t.number(round(cost.total))
            parts = tuple((name, value) for (_, name), value in zip(_MONEY, each, strict=True))
            bars.append(Bar(self._name(result), parts, total, result is self.chosen))
            rows.append(self._row(result, *(t.number(round(value)) for value in each), total))
        axis = Axis(t("poc.axis.money"), self.currency, t("poc.chart.yearly"))
        legend = tuple(Key("cell", name, t(f"poc.legend.{part}")) for part, name in _MONEY)
        found = None if self.chosen is None else self.chosen.detection
        error = None if found is None else found.false_per_week_error * WEEKS * costs.per_false_alarm
        source = "assumed"
        if costs.events_per_year is not None:
            source = "configured"
        elif self.comparison.facts.fault_source == "labelled":
            source = "labelled"
        note = t(
            "poc.costs.money_note",
            currency=self.currency,
            events=t.number(round(self.comparison.n_events or 0.0)),
            source=t(f"poc.costs.events_{source}"),
            refits=t.number(REFITS),
            error=t("none") if error is None else t.number(round(error)),
        )
        columns = ("model", "false_cost", "missed_cost", "computing_cost", "total_cost")
        return (
            self._chart("yearly", lambda width: draw_bars(bars, axis, width), legend),
            Table(columns, tuple(rows)),
            note,
        )

    def method(self) -> list[tuple[str, str]]:
        t, facts, trial = self.t, self.comparison.facts, self.comparison.trial
        found = []
        if trial is not None:
            faults = f"{t.number(len(trial.judged.kinds))} ({t(f'poc.source.{facts.fault_source}')})"
            found = [
                ("learned", t.number(len(trial.learn))),
                ("held_out", t.number(len(trial.held_out))),
                ("calibration", t.number(len(trial.calibration))),
                ("judged", t.number(len(trial.judged.X))),
                ("faults", faults),
            ]
        found += [
            ("needed", t.number(self.comparison.need.n_readings)),
            ("rate", t.number(round(facts.readings_per_week))),
            ("machines", t.number(facts.n_machines)),
            ("segments", t.number(facts.n_segments)),
        ]
        return [(t(f"poc.method.{key}"), value) for key, value in found]

    def _budget(self) -> str:
        facts = self.comparison.facts
        if facts.alpha is not None:
            return self.t("poc.tile.budget_alpha", alpha=f"{facts.alpha:g}")
        return self.t("poc.tile.budget_week", n=self.t.number(facts.alarms_per_week))

    def _figures(self, figure: Callable[[Result], float | None]) -> list[tuple[Result, float, str]]:
        return [(result, figure(result) or 0.0, self.t.number(figure(result))) for result in self.able]

    def _bars(
        self, key: str, axis_key: str, unit: str, values: Sequence[tuple[Result, float, str]], note: str = ""
    ) -> Chart:
        axis = Axis(self.t(f"poc.axis.{axis_key}"), unit, self.t(f"poc.chart.{key}"))
        bars = [
            Bar(self._name(result), ((self._colour(result), max(value, 0.0)),), text, result is self.chosen)
            for result, value, text in values
        ]
        return self._chart(key, lambda width: draw_bars(bars, axis, width), note=note)

    def _chart(
        self, key: str, draw: Callable[[float], Markup], legend: tuple[Key, ...] | None = None, note: str = ""
    ) -> Chart:
        wide, narrow = in_two_widths(draw, _WIDE)
        shown = self._legend() if legend is None else legend
        return Chart(self.t(f"poc.chart.{key}"), wide, narrow, shown, self.t(f"poc.chart.{note}") if note else "")

    def _legend(self) -> tuple[Key, ...]:
        keys = [Key("cell", _PWFLOW, self.t("poc.legend.pwflow")), Key("cell", _RIVAL, self.t("poc.legend.rival"))]
        return tuple([Key("cell", _CHOSEN, self.t("poc.legend.chosen")), *keys] if self.chosen else keys)

    def _colour(self, result: Result) -> str:
        if result is self.chosen:
            return _CHOSEN
        return _PWFLOW if result.contender.kind == "pwflow" else _RIVAL

    def _name(self, result: Result) -> str:
        return title_of(result.key, self.t)

    def _row(self, result: Result, *cells: str) -> Row:
        return Row(self._name(result), result is self.chosen, cells)

    def _against(self, result: Result) -> str:
        if self.chosen is None or result is self.chosen or not len(self.chosen.log_density):
            return self.t("none")
        gain = density_gain(self.chosen, result)
        return f"{signed(gain.mean)} ± {gain.error:.3f}"

    def _with_error(self, value: float, error: float) -> str:
        digits = 1 if abs(value) >= 100 else 3
        return f"{value:,.{digits}f} ± {error:,.{digits}f}".replace("-", "−")
