"""Features over time: rolling statistics, lags and differences of the sensors, per machine, in DuckDB.

What the models see of a reading is the view `core.model_readings`: the sensors, with short gaps filled, and these
features beside them. Without any, the view is the readings themselves and nothing is copied.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import duckdb

from pwflow_core.config import FeaturesConfig, PlantConfig
from pwflow_core.errors import ConfigurationError, SchemaMismatchError
from pwflow_core.pipeline.readings.timing import Timing, Touched, read_timing, touched_chunks
from pwflow_core.pipeline.readings.training_rows import training_window
from pwflow_core.pipeline.source.source import read_source
from pwflow_core.warehouse import fetch_value, quote_columns, quote_identifier, read_sql, run_script
from pwflow_core.warehouse.progress import read_fact, write_fact

__all__ = [
    "Feature",
    "FeatureSet",
    "are_settled",
    "check_columns",
    "features_by_sensor",
    "read_features",
    "restore_features",
    "settle_features",
    "update_features",
]

_log = logging.getLogger("pwflow.features")

FEATURES_FACT = "features"
_NAME = re.compile(r"(?P<sensor>.+)__(?:mean|std|slope|lag|difference)_\d+")

AUTO_WINDOW = 20
_MIN_NOISE_SHARE = 0.5
_MIN_REGULAR_SHARE = 0.8
_MIN_FULL_SHARE = 0.8
_MIN_ROWS_PER_COLUMN = 15
_MOST_COLUMNS = 400
_EVIDENCE_ROWS = 200_000
_LEAST_EVIDENCE_ROWS = 1_000


@dataclass(frozen=True)
class Feature:
    """One feature of one sensor.

    Attributes:
        sensor: Name of the sensor.
        kind: `mean`, `std`, `slope`, `lag` or `difference`.
        n_readings: Length of the window, or how far back, in readings.
    """

    sensor: str
    kind: str
    n_readings: int

    @property
    def name(self) -> str:
        """Name of its column, such as `bearing_temperature__mean_20`."""
        return f"{self.sensor}__{self.kind}_{self.n_readings}"

    @property
    def reach(self) -> int:
        """How many readings before its own it looks back on."""
        return self.n_readings if self.kind in ("lag", "difference") else self.n_readings - 1

    def to_sql(self) -> str:
        """Return its expression over the windows of `features.sql`; NULL until enough readings have come."""
        column = quote_identifier(self.sensor)
        if self.kind in ("lag", "difference"):
            earlier = f"lag({column}, {self.n_readings:d}) OVER run"
            return earlier if self.kind == "lag" else f"{column} - {earlier}"
        window = f"OVER (run ROWS {self.n_readings - 1:d} PRECEDING)"
        value = {
            "mean": f"avg({column}) {window}",
            "std": f"stddev_samp({column}) {window}",
            "slope": f"regr_slope({column}, second) {window}",
        }[self.kind]
        known = max(self.n_readings // 2 + 1, 2)
        is_full = f"place >= {self.n_readings:d} AND count({column}) {window} >= {known:d}"
        return f"CASE WHEN {is_full} THEN {value} END"


@dataclass(frozen=True)
class FeatureSet:
    """The columns that the models of a plant see.

    Attributes:
        sensors: The sensors that measure, first.
        features: The features over time, behind them.
        why: Why it is these.
        states: The sensors that are states, which no model sees.
    """

    sensors: tuple[str, ...]
    features: tuple[Feature, ...] = ()
    why: str = ""
    states: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns, in order."""
        return (*self.sensors, *(feature.name for feature in self.features))

    @property
    def reach(self) -> int:
        """How many readings before its own the longest of them looks back on."""
        return max((feature.reach for feature in self.features), default=0)


def features_by_sensor(columns: Sequence[str], sensors: Sequence[str]) -> dict[str, list[int]]:
    """Return for each sensor the positions of its columns: its own value and its features over time.

    Arguments:
        columns: Names of the columns that a model sees.
        sensors: Names of the sensors.
    """
    groups: dict[str, list[int]] = {sensor: [] for sensor in sensors}
    for position, column in enumerate(columns):
        match = _NAME.fullmatch(column)
        groups[match["sensor"] if match and column not in groups else column].append(position)
    return {sensor: positions for sensor, positions in groups.items() if positions}


def read_features(connection: duckdb.DuckDBPyConnection) -> FeatureSet:
    """Return the columns that the models see, as the last run of the readings step settled them.

    Raises:
        SourceError: Nothing has been ingested yet.
    """
    source = read_source(connection)
    fact = json.loads(read_fact(connection, FEATURES_FACT) or "{}")
    features = tuple(Feature(**feature) for feature in fact.get("features", ()))
    return FeatureSet(source.measured, features, fact.get("why", ""), source.states)


def check_columns(connection: duckdb.DuckDBPyConnection, columns: Sequence[str]) -> None:
    """Check that the readings still have every column that the models learned from.

    Raises:
        SchemaMismatchError: A sensor or a feature over time is gone since the models were trained.
    """
    have = read_features(connection).columns
    if gone := [column for column in columns if column not in have]:
        raise SchemaMismatchError(
            f"The regimes were learned from {len(columns)} columns, and {len(gone)} of them ({gone[0]!r} first) are no "
            "longer made from the readings: configure them again, or run `pwflow run` to train again."
        )


def are_settled(connection: duckdb.DuckDBPyConnection, config: PlantConfig) -> bool:
    """Whether the features were settled for this configuration and these sensors."""
    before = json.loads(read_fact(connection, FEATURES_FACT) or "{}")
    return bool(before.get("given") == _given(connection, config))


def _given(connection: duckdb.DuckDBPyConnection, config: PlantConfig) -> dict[str, object]:
    """Return what the choice of features follows from."""
    source = read_source(connection)
    states: dict[str, object] = {"states": list(source.states)} if source.states else {}
    return states | {
        "configuration": config.features.model_dump(mode="json"),
        "sensors": list(source.measured),
        "has_interval": read_timing(connection, config) is not None,
    }


def settle_features(connection: duckdb.DuckDBPyConnection, config: PlantConfig) -> bool:
    """Settle which features there are; return whether they are others than before.

    What was settled stays while its configuration and the sensors do: `auto` decides once.

    Raises:
        ConfigurationError: A feature is configured for a sensor that the plant has not, or clashes with one.
    """
    if are_settled(connection, config):
        return False
    source = read_source(connection)
    sensors = source.measured
    timing = read_timing(connection, config)
    settled, why = _choose(connection, config, sensors, timing)
    features = _configured(settled, sensors) if timing else ()
    _log.info("features over time: %s (%s)", _describe(settled) or "none", why)
    document = {"given": _given(connection, config), "features": [asdict(feature) for feature in features], "why": why}
    write_fact(connection, FEATURES_FACT, json.dumps(document))
    _make_table(connection, FeatureSet(sensors, features, states=source.states))
    return True


def restore_features(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the table and the view of the features that a fact copied from another warehouse settles."""
    _make_table(connection, read_features(connection))


def update_features(connection: duckdb.DuckDBPyConnection, config: PlantConfig) -> None:
    """Compute the features that the readings in `changed` (reading_id, machine_id, ts) touch.

    Fills `moved` (reading_id) with the readings whose features are now others than they were.
    """
    connection.execute("CREATE OR REPLACE TEMP TABLE moved (reading_id BIGINT)")
    feature_set, timing = read_features(connection), read_timing(connection, config)
    if not feature_set.features or timing is None:
        return
    gone = "SELECT reading_id FROM changed ANTI JOIN core.readings USING (reading_id)"
    connection.execute(f"DELETE FROM core.features WHERE reading_id IN ({gone})")
    is_first = connection.execute("SELECT 1 FROM core.features LIMIT 1").fetchone() is None
    for touched in touched_chunks(connection, config, feature_set.reach * timing.gap_seconds, len(feature_set.columns)):
        computed = _select_features(feature_set, timing, touched)
        if is_first:
            connection.execute(f"INSERT INTO core.features BY NAME {computed}")
        else:
            _merge(connection, feature_set, computed)


def _select_features(feature_set: FeatureSet, timing: Timing, touched: Touched) -> str:
    names = [quote_identifier(feature.name) for feature in feature_set.features]
    return read_sql(
        __package__,
        "features.sql",
        with_context=touched.with_context,
        touched=touched.readings,
        values=", ".join(
            f"CASE WHEN reading.quality <> 'stuck' THEN coalesce(reading.{s}, filled.{s}) END AS {s}"
            for s in map(quote_identifier, feature_set.sensors)
        ),
        features=", ".join(f"{f.to_sql()} AS {n}" for f, n in zip(feature_set.features, names, strict=True)),
        is_complete=" AND ".join(f"{name} IS NOT NULL" for name in names),
        new_run=_new_run(timing),
    )


def _merge(connection: duckdb.DuckDBPyConnection, feature_set: FeatureSet, computed: str) -> None:
    connection.execute(f"CREATE OR REPLACE TEMP TABLE computed AS {computed}")
    differs = " OR ".join(
        f"coalesce(abs(new.{n} - old.{n}) > 1e-9 * abs(old.{n}), (new.{n} IS NULL) <> (old.{n} IS NULL))"
        for n in (quote_identifier(feature.name) for feature in feature_set.features)
    )
    run_script(connection, read_sql(__package__, "features_merge.sql", differs=differs))


def _new_run(timing: Timing) -> str:
    """Return the SQL that tells whether a reading starts again: after a gap, or in another segment."""
    return (
        f"(lag(ts) OVER machine IS NULL OR epoch(ts) - epoch(lag(ts) OVER machine) > {timing.gap_seconds!r} "
        "OR segment IS DISTINCT FROM lag(segment) OVER machine)"
    )


def _make_table(connection: duckdb.DuckDBPyConnection, feature_set: FeatureSet) -> None:
    """Make the table of the features, empty, and the view of what the models see."""
    connection.execute("DROP VIEW IF EXISTS core.model_readings")
    connection.execute("DROP TABLE IF EXISTS core.features")
    names = [feature.name for feature in feature_set.features]
    sensors = map(quote_identifier, (*feature_set.sensors, *feature_set.states))
    values = ", ".join(f"coalesce(reading.{s}, filled.{s}) AS {s}" for s in sensors)
    join, is_complete = "", "true"
    if names:
        columns = ", ".join(f"{quote_identifier(name)} DOUBLE" for name in names)
        connection.execute(f"CREATE TABLE core.features (reading_id BIGINT, {columns}, is_complete BOOLEAN)")
        join = "LEFT JOIN core.features AS features USING (reading_id)"
        is_complete = "coalesce(features.is_complete, false)"
        values += ", " + quote_columns(names, "features.")
    connection.execute(
        f"""
        CREATE VIEW core.model_readings AS
        SELECT
            reading.reading_id, reading.machine_id, reading.ts, reading.segment, reading.quality, reading.fold,
            reading.batch_id, {is_complete} AS is_complete, {values}
        FROM core.readings AS reading
        LEFT JOIN core.filled_values AS filled USING (reading_id)
        {join}
        """
    )


def _configured(config: FeaturesConfig, sensors: Sequence[str]) -> tuple[Feature, ...]:
    chosen = config.sensors or tuple(sensors)
    if unknown := [name for name in chosen if name not in sensors]:
        raise ConfigurationError(
            f"features.sensors: expected sensors of the plant ({', '.join(sensors)}), got {unknown[0]!r}: "
            "correct the name in pwflow.toml."
        )
    windows = () if config.windows == "auto" else config.windows
    features = [Feature(s, kind, n) for n in windows for kind in config.statistics for s in chosen]
    features += [Feature(s, "lag", n) for n in config.lags for s in chosen]
    features += [Feature(s, "difference", n) for n in config.differences for s in chosen]
    folded = {name.casefold() for name in sensors}
    if clash := next((f.name for f in features if f.name.casefold() in folded), None):
        raise ConfigurationError(
            f"features: the feature {clash!r} is called like a sensor; give that sensor another name in pwflow.toml."
        )
    return tuple(features)


def _describe(config: FeaturesConfig) -> str:
    windows = () if config.windows == "auto" else config.windows
    parts = [f"{kind} of {n} readings" for n in windows for kind in config.statistics]
    parts += [f"lag {n}" for n in config.lags] + [f"difference to {n} readings before" for n in config.differences]
    return ", ".join(parts)


def _choose(
    connection: duckdb.DuckDBPyConnection, config: PlantConfig, sensors: Sequence[str], timing: Timing | None
) -> tuple[FeaturesConfig, str]:
    """Return the features with `auto` decided, and why.

    Averages of the last readings help where the readings of a steady process are noisy, and blur everything where
    a process moves within the window. So `auto` takes them if at least half of what a sensor (the median one) varies
    by within a window is noise from one reading to the next (von Neumann's ratio), if readings are regular, if most
    of them have a full window behind them, and if there are enough to learn from.
    """
    if config.features.windows != "auto":
        return config.features, "as configured"
    none = config.features.model_copy(update={"windows": ()})
    if timing is None:
        return none, "auto: no machine has two readings"
    n_columns = (1 + len(config.features.statistics)) * len(sensors)
    if n_columns > _MOST_COLUMNS:
        return none, f"auto: with them there would be {n_columns:,} columns, more than {_MOST_COLUMNS}"
    evidence = _evidence(connection, config, sensors, timing)
    if evidence.regular < _MIN_REGULAR_SHARE:
        return none, f"auto: only {evidence.regular:.0%} of the readings come at the usual interval"
    if evidence.n_rows < _MIN_ROWS_PER_COLUMN * n_columns:
        return none, f"auto: {evidence.n_rows:,.0f} readings per segment are too few for {n_columns} columns"
    if evidence.full < _MIN_FULL_SHARE:
        return none, f"auto: only {evidence.full:.0%} of the readings have {AUTO_WINDOW} without a break behind them"
    if evidence.noise < _MIN_NOISE_SHARE:
        return none, f"auto: only {evidence.noise:.0%} of what a sensor varies by in {AUTO_WINDOW} readings is noise"
    why = f"auto: {evidence.noise:.0%} of what a sensor varies by in {AUTO_WINDOW} readings is noise"
    return config.features.model_copy(update={"windows": (AUTO_WINDOW,)}), why


@dataclass(frozen=True)
class _Evidence:
    regular: float
    full: float
    n_rows: float
    noise: float


def _evidence(
    connection: duckdb.DuckDBPyConnection, config: PlantConfig, sensors: Sequence[str], timing: Timing
) -> _Evidence:
    names = [quote_identifier(name) for name in sensors]
    script = read_sql(
        __package__,
        "noise.sql",
        sensors=", ".join(names),
        new_run=_new_run(timing),
        first_rows=f"AND nth_row <= {config.training.first_rows:d}" if config.training.first_rows else "",
        step_squares=", ".join(f"({n} - lag({n}) OVER block)**2 AS {n}" for n in names),
        step_variances=", ".join(f"avg({n}) / 2 AS {n}" for n in names),
        variances=", ".join(f"avg({n}) AS {n}" for n in names),
        block_variances=", ".join(f"var_samp({n}) AS {n}" for n in names),
        shares=", ".join(f"steps.{n} / nullif(blocks.{n}, 0)" for n in names),
    )
    window = training_window(config.training)
    n_groups = fetch_value(connection, "SELECT count(DISTINCT (machine_id, segment)) FROM core.readings")
    values = {
        "training_start": window["training_start"],
        "training_until": window["training_until"],
        "most_rows": max(_EVIDENCE_ROWS // max(n_groups, 1), _LEAST_EVIDENCE_ROWS),
        "window": AUTO_WINDOW,
        "interval": timing.interval_seconds,
    }
    row = connection.execute(script, values).fetchone()
    return _Evidence(*(float(value or 0.0) for value in row or (0, 0, 0, 0)))
