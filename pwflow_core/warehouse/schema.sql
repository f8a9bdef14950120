-- The tables of a warehouse. `ingest` keeps what arrived, `core` what the pipeline works on, `mart` what users read.
-- No primary keys: the same statements have to run on a lake catalog. Uniqueness is kept by the writers and tested.
-- The tables of readings also get one DOUBLE column per sensor (see tables.py).

CREATE SCHEMA IF NOT EXISTS ingest;
CREATE SCHEMA IF NOT EXISTS core;
CREATE SCHEMA IF NOT EXISTS mart;

CREATE TABLE IF NOT EXISTS ingest.files (
    file_id BIGINT,
    path VARCHAR,
    size_bytes BIGINT,
    modified_at TIMESTAMP,
    content_hash VARCHAR,
    source_hash VARCHAR,
    status VARCHAR,
    reason VARCHAR,
    n_rows BIGINT,
    arrived_in BIGINT,
    superseded_in BIGINT,
    ingested_at TIMESTAMP,
    removed_at TIMESTAMP
);

CREATE TABLE IF NOT EXISTS ingest.raw_readings (
    file_id BIGINT,
    row_number BIGINT,
    ts VARCHAR,
    machine_id VARCHAR,
    segment VARCHAR,
    refused_values MAP(VARCHAR, VARCHAR),
    bad_quality MAP(VARCHAR, VARCHAR)
);

CREATE TABLE IF NOT EXISTS ingest.malformed_lines (
    file_id BIGINT,
    row_number BIGINT,
    line VARCHAR,
    detail VARCHAR
);

CREATE TABLE IF NOT EXISTS core.readings (
    reading_id BIGINT,
    machine_id VARCHAR,
    ts TIMESTAMP,
    segment VARCHAR,
    quality VARCHAR,
    reason VARCHAR,
    fold TINYINT,
    batch_id BIGINT,
    file_id BIGINT,
    row_number BIGINT
);

-- The rows of a reading that was put together from several: rows of one machine and time with different sensors.
CREATE TABLE IF NOT EXISTS core.merged_rows (
    reading_id BIGINT,
    file_id BIGINT,
    row_number BIGINT
);

-- Values that bridge short gaps, one column per sensor; NULL where the reading has its own, or none.
CREATE TABLE IF NOT EXISTS core.filled_values (reading_id BIGINT);

-- How long a sensor of a machine may go without a change; NULL if its history is too short or too still to tell.
CREATE TABLE IF NOT EXISTS core.stuck_limits (
    machine_id VARCHAR,
    sensor VARCHAR,
    max_readings INTEGER,
    resting DOUBLE[],
    n_runs BIGINT
);

-- How far each step has come: the last batch of readings that it has seen, and with which model.
CREATE TABLE IF NOT EXISTS core.progress (
    step VARCHAR,
    cluster_key VARCHAR,
    model VARCHAR,
    batch_id BIGINT
);

CREATE TABLE IF NOT EXISTS core.plant_facts (fact VARCHAR, value VARCHAR);

-- One row: the number of this layout (see migration.py) and the commits so far (see ledger.py).
CREATE TABLE IF NOT EXISTS core.warehouse_state (schema_version INTEGER, commit_number BIGINT);

INSERT INTO core.warehouse_state (schema_version, commit_number)
SELECT 0, 0 WHERE NOT EXISTS (FROM core.warehouse_state);

-- What was missing when the warehouse was opened, in words; the steps make it again.
CREATE TABLE IF NOT EXISTS core.recoveries (noticed_at TIMESTAMP, what VARCHAR);

CREATE TABLE IF NOT EXISTS core.cluster_models (
    cluster_model_id VARCHAR,
    fitted_at TIMESTAMP,
    n_rows BIGINT,
    settings VARCHAR,
    in_force BOOLEAN,
    made_by VARCHAR,
    reason VARCHAR
);

CREATE TABLE IF NOT EXISTS core.cluster_assignments (
    cluster_key VARCHAR,
    reading_id BIGINT,
    responsibility DOUBLE
);

CREATE TABLE IF NOT EXISTS core.component_log_density (
    cluster_key VARCHAR,
    reading_id BIGINT,
    log_density DOUBLE,
    conformity DOUBLE,
    flow_version VARCHAR,
    scored_at TIMESTAMP,
    log_volume DOUBLE
);

-- The machines that a flow was trained with, where they differ: a typical one, and how much the others differ from it.
CREATE TABLE IF NOT EXISTS core.fleets (
    cluster_key VARCHAR,
    flow_version VARCHAR,
    typical_location DOUBLE[],
    typical_scale DOUBLE[],
    spread DOUBLE[],
    spread_of_scale DOUBLE[],
    farthest DOUBLE[],
    gain DOUBLE,
    gain_error DOUBLE,
    made_at TIMESTAMP
);

CREATE TABLE IF NOT EXISTS mart.machine_corrections (
    cluster_key VARCHAR,
    flow_version VARCHAR,
    machine_id VARCHAR,
    status VARCHAR,
    columns VARCHAR[],
    shift DOUBLE[],
    stretch DOUBLE[],
    n_readings BIGINT,
    learned_from TIMESTAMP,
    learned_until TIMESTAMP,
    gain DOUBLE,
    gain_error DOUBLE,
    is_final BOOLEAN,
    decided_at TIMESTAMP
);

-- One row per flow that has been calibrated: from the threshold upwards its p-values are those of the steps, below it
-- those of a generalised Pareto tail, and no less than the steps.
CREATE TABLE IF NOT EXISTS core.calibration (
    cluster_key VARCHAR,
    flow_version VARCHAR,
    n_rows BIGINT,
    n_effective DOUBLE,
    n_set_aside BIGINT,
    tail_dependence DOUBLE,
    threshold DOUBLE,
    threshold_p_value DOUBLE,
    tail_scale DOUBLE,
    tail_shape DOUBLE,
    calibrated_at TIMESTAMP
);

CREATE TABLE IF NOT EXISTS core.calibration_steps (
    cluster_key VARCHAR,
    flow_version VARCHAR,
    conformity DOUBLE,
    p_value DOUBLE
);

-- Where the readings of each segment lie, learned once for a cluster model: of the step with the largest `level` of at most
-- the level of a reading in its regime, `share_below` is the share of all readings that are of another regime and lie at
-- most as high.
CREATE TABLE IF NOT EXISTS core.level_steps (
    cluster_model_id VARCHAR,
    segment VARCHAR,
    cluster_key VARCHAR,
    weight DOUBLE,
    level DOUBLE,
    share_below DOUBLE
);

-- What p-value the smaller of the weighted two is, the p-value within the regime and the share among all readings: that of
-- the row with the largest `merged` of at most it, and `slope` times what it is above.
CREATE TABLE IF NOT EXISTS core.merged_steps (
    cluster_model_id VARCHAR,
    segment VARCHAR,
    merged DOUBLE,
    p_value DOUBLE,
    slope DOUBLE
);

-- What is known of the states of each segment, learned once for a cluster model: the document of modelling/states.py.
CREATE TABLE IF NOT EXISTS core.known_states (
    cluster_model_id VARCHAR,
    segment VARCHAR,
    document VARCHAR
);

CREATE TABLE IF NOT EXISTS core.model_sets (
    model_set_id VARCHAR,
    cluster_model_id VARCHAR,
    cluster_key VARCHAR,
    segment VARCHAR,
    weight DOUBLE,
    flow_version VARCHAR,
    alpha DOUBLE,
    alarms_per_week DOUBLE,
    readings_per_week DOUBLE,
    min_calibration_rows BIGINT,
    pinned_at TIMESTAMP
);

CREATE TABLE IF NOT EXISTS mart.rejected_readings (
    file VARCHAR,
    file_id BIGINT,
    row_number BIGINT,
    machine_id VARCHAR,
    ts VARCHAR,
    sensor VARCHAR,
    value VARCHAR,
    reason VARCHAR,
    detail VARCHAR,
    kept_file_id BIGINT,
    rejected_at TIMESTAMP
);

CREATE OR REPLACE VIEW mart.source_files AS
SELECT
    files.file_id,
    files.path AS file,
    files.n_rows + coalesce(malformed.n_lines, 0) AS n_rows,
    files.ingested_at
FROM ingest.files AS files
LEFT JOIN (SELECT file_id, count(*) AS n_lines FROM ingest.malformed_lines GROUP BY file_id) AS malformed USING (file_id)
WHERE files.status = 'ingested' AND files.superseded_in IS NULL;

CREATE TABLE IF NOT EXISTS mart.clusters (
    cluster_key VARCHAR,
    segment VARCHAR,
    weight DOUBLE,
    status VARCHAR,
    cluster_model_id VARCHAR,
    minted_at TIMESTAMP,
    retired_at TIMESTAMP,
    found_from TIMESTAMP
);

CREATE TABLE IF NOT EXISTS mart.cluster_lineage (
    cluster_model_id VARCHAR,
    cluster_key VARCHAR,
    former_key VARCHAR,
    overlap DOUBLE,
    relation VARCHAR,
    recorded_at TIMESTAMP
);

CREATE TABLE IF NOT EXISTS mart.flow_versions (
    flow_version VARCHAR,
    cluster_key VARCHAR,
    cluster_model_id VARCHAR,
    in_force BOOLEAN,
    trained_at TIMESTAMP,
    trained_from TIMESTAMP,
    trained_until TIMESTAMP,
    n_rows BIGINT,
    n_held_out BIGINT,
    held_out_log_density DOUBLE,
    train_seconds DOUBLE,
    is_gaussian BOOLEAN,
    settings VARCHAR,
    data_hash VARCHAR,
    promoted_at TIMESTAMP,
    promoted_by VARCHAR,
    reason VARCHAR,
    training_window VARCHAR,
    random_state BIGINT,
    file_deleted_at TIMESTAMP
);

-- How each flow was trained, JSON. Flows of release 0.1 have it in their model file instead.
CREATE TABLE IF NOT EXISTS core.training_histories (flow_version VARCHAR, history VARCHAR);

CREATE TABLE IF NOT EXISTS mart.anomaly_scores (
    reading_id BIGINT,
    machine_id VARCHAR,
    ts TIMESTAMP,
    segment VARCHAR,
    cluster_key VARCHAR,
    log_density DOUBLE,
    p_value DOUBLE,
    anomaly_score DOUBLE,
    is_anomaly BOOLEAN,
    status VARCHAR,
    reason VARCHAR,
    flow_version VARCHAR,
    model_set_id VARCHAR,
    scored_at TIMESTAMP
);

CREATE TABLE IF NOT EXISTS mart.sensor_contributions (
    reading_id BIGINT,
    machine_id VARCHAR,
    ts TIMESTAMP,
    sensor VARCHAR,
    contribution DOUBLE,
    expected DOUBLE,
    observed DOUBLE,
    expected_low DOUBLE,
    expected_high DOUBLE,
    unit VARCHAR,
    cluster_key VARCHAR,
    scored_at TIMESTAMP
);

-- The ids of events, made once, by the first anomaly of each: those of events that are gone are kept, and not used again.
CREATE TABLE IF NOT EXISTS core.event_ids (reading_id BIGINT, event_id VARCHAR);

CREATE TABLE IF NOT EXISTS mart.anomaly_events (
    event_id VARCHAR,
    machine_id VARCHAR,
    started_at TIMESTAMP,
    ended_at TIMESTAMP,
    peak_score DOUBLE,
    n_readings BIGINT,
    cluster_key VARCHAR,
    top_sensors VARCHAR[],
    segment VARCHAR,
    summary VARCHAR,
    lasted_until TIMESTAMP
);

CREATE TABLE IF NOT EXISTS mart.cases (
    case_id VARCHAR,
    state VARCHAR,
    severity VARCHAR,
    label VARCHAR,
    label_kind VARCHAR,
    machine_ids VARCHAR[],
    sensors VARCHAR[],
    segments VARCHAR[],
    cluster_keys VARCHAR[],
    since TIMESTAMP,
    last_seen TIMESTAMP,
    n_events BIGINT,
    n_readings BIGINT,
    alarm_seconds DOUBLE,
    peak_score DOUBLE,
    worst_event_id VARCHAR,
    verdict_ids VARCHAR[],
    n_reopened BIGINT,
    closed_at TIMESTAMP,
    shelved_until TIMESTAMP,
    merged_into VARCHAR,
    similar_cases VARCHAR[],
    summary VARCHAR,
    opened_at TIMESTAMP,
    updated_at TIMESTAMP,
    told_as_of TIMESTAMP
);

CREATE TABLE IF NOT EXISTS mart.case_events (
    case_id VARCHAR,
    event_id VARCHAR,
    verdict_id VARCHAR,
    machine_id VARCHAR,
    started_at TIMESTAMP,
    told_at TIMESTAMP,
    ended_at TIMESTAMP,
    lasted_until TIMESTAMP,
    n_readings BIGINT,
    peak_score DOUBLE,
    cluster_key VARCHAR,
    segment VARCHAR,
    sensors VARCHAR[],
    summary VARCHAR,
    is_found BOOLEAN
);

-- What cases are told apart by: the share of each sensor in each event, whole and in its head, where its score rose
-- after that, and whether it is over and was judged as a whole.
CREATE TABLE IF NOT EXISTS core.case_evidence (
    event_id VARCHAR,
    head_peak DOUBLE,
    blame MAP(VARCHAR, DOUBLE),
    head_blame MAP(VARCHAR, DOUBLE),
    climbs STRUCT(ts TIMESTAMP, score DOUBLE)[],
    is_over BOOLEAN
);

-- The longest time that the machines of a case ran between two of its events, which is its rhythm, and its blame.
CREATE TABLE IF NOT EXISTS core.case_profiles (case_id VARCHAR, pause_seconds DOUBLE, blame MAP(VARCHAR, DOUBLE));

-- What scoring.false_cases rests on: the share of the promise that each day has, the evidence of each event on each day,
-- and the cases that were told because of it. Rows of the last are only ever added.
CREATE TABLE IF NOT EXISTS mart.promise_days (
    day DATE,
    day_number BIGINT,
    share DOUBLE,
    n_expected DOUBLE,
    n_readings BIGINT
);

CREATE TABLE IF NOT EXISTS mart.event_evidence (
    event_id VARCHAR,
    day DATE,
    e_value DOUBLE,
    counted_for VARCHAR
);

CREATE TABLE IF NOT EXISTS mart.told_cases (
    case_id VARCHAR,
    as_of TIMESTAMP,
    told_at TIMESTAMP,
    run_id VARCHAR,
    promise DOUBLE,
    place BIGINT,
    evidence DOUBLE,
    needed DOUBLE
);

CREATE TABLE IF NOT EXISTS mart.case_changes (
    change_number BIGINT,
    case_id VARCHAR,
    change VARCHAR,
    from_state VARCHAR,
    to_state VARCHAR,
    severity VARCHAR,
    label VARCHAR,
    label_kind VARCHAR,
    as_of TIMESTAMP,
    changed_at TIMESTAMP,
    changed_by VARCHAR,
    run_id VARCHAR,
    reason VARCHAR
);

-- Only ever added to: what people were told is not changed by what a later model thinks.
CREATE TABLE IF NOT EXISTS mart.alarm_log (
    entry_number BIGINT,
    raised_at TIMESTAMP,
    run_id VARCHAR,
    case_id VARCHAR,
    entry VARCHAR,
    as_of TIMESTAMP,
    severity VARCHAR,
    machine_ids VARCHAR[],
    event_id VARCHAR,
    verdict_id VARCHAR,
    started_at TIMESTAMP,
    ended_at TIMESTAMP,
    n_readings BIGINT,
    peak_score DOUBLE,
    sensors VARCHAR[],
    cluster_key VARCHAR,
    flow_version VARCHAR,
    calibrated_at TIMESTAMP,
    model_set_id VARCHAR,
    alpha DOUBLE,
    sentence VARCHAR
);

CREATE TABLE IF NOT EXISTS mart.cluster_health (
    night DATE,
    cluster_key VARCHAR,
    channel VARCHAR,
    evidence DOUBLE,
    threshold DOUBLE,
    verdict VARCHAR,
    n_readings BIGINT,
    share DOUBLE,
    share_threshold DOUBLE
);

-- Means of the readings of a regime over blocks of time, by which drift is followed: what the flow in use makes of
-- them (channels: conformity, then latents), and what the sensors read, in the order of the model's sensors.
CREATE TABLE IF NOT EXISTS core.drift_blocks (
    cluster_key VARCHAR,
    flow_version VARCHAR,
    is_reference BOOLEAN,
    night DATE,
    machine_id VARCHAR,
    block BIGINT,
    n_readings BIGINT,
    channels DOUBLE[],
    sensors DOUBLE[],
    improbable DOUBLE
);

-- What nights are compared with: one row per flow that is followed, JSON.
CREATE TABLE IF NOT EXISTS core.drift_references (
    cluster_key VARCHAR,
    flow_version VARCHAR,
    watched_from DATE,
    reference VARCHAR,
    made_at TIMESTAMP
);

-- The evidence at the end of each night, JSON, and the readings that it was drawn from.
CREATE TABLE IF NOT EXISTS core.drift_states (
    cluster_key VARCHAR,
    flow_version VARCHAR,
    night DATE,
    n_readings BIGINT,
    fingerprint UBIGINT,
    state VARCHAR
);

-- What a night was like when it was judged: the readings of each machine, the evidence of each regime.
CREATE TABLE IF NOT EXISTS core.judged_nights (night DATE, part UBIGINT);

-- Where the values of each sensor lay while the regimes were learned: quantiles by sensor, in the order of the source.
CREATE TABLE IF NOT EXISTS core.sensor_levels (cluster_model_id VARCHAR, machine_id VARCHAR, levels DOUBLE[][]);

CREATE TABLE IF NOT EXISTS mart.drift_verdicts (
    verdict_id VARCHAR,
    night DATE,
    verdict VARCHAR,
    cluster_keys VARCHAR[],
    machine_ids VARCHAR[],
    sensors VARCHAR[],
    since DATE,
    effect_size DOUBLE,
    summary VARCHAR,
    answer VARCHAR,
    status VARCHAR,
    decided_at TIMESTAMP,
    decided_by VARCHAR,
    made_at TIMESTAMP,
    run_id VARCHAR,
    ended DATE
);

CREATE TABLE IF NOT EXISTS mart.verdict_changes (
    verdict_id VARCHAR,
    from_status VARCHAR,
    to_status VARCHAR,
    changed_at TIMESTAMP,
    changed_by VARCHAR,
    run_id VARCHAR,
    reason VARCHAR
);

CREATE TABLE IF NOT EXISTS mart.stretch_changes (
    stretch_id VARCHAR,
    from_status VARCHAR,
    to_status VARCHAR,
    changed_at TIMESTAMP,
    changed_by VARCHAR,
    run_id VARCHAR,
    reason VARCHAR
);

CREATE TABLE IF NOT EXISTS mart.flow_decisions (
    decided_at TIMESTAMP,
    cluster_key VARCHAR,
    flow_version VARCHAR,
    decision VARCHAR,
    previous_version VARCHAR,
    n_recent BIGINT,
    gain_recent DOUBLE,
    gain_recent_error DOUBLE,
    gain_reference DOUBLE,
    decided_by VARCHAR,
    reason VARCHAR,
    run_id VARCHAR
);

-- Times of a machine whose anomalies a person has said to be normal: refits may learn from them.
CREATE TABLE IF NOT EXISTS core.confirmations (
    machine_id VARCHAR,
    started_at TIMESTAMP,
    ended_at TIMESTAMP,
    event_id VARCHAR,
    confirmed_by VARCHAR,
    confirmed_at TIMESTAMP
);

-- Stretches of the history that are unlike the rest: nothing learns from them unless a person says that they are normal.
CREATE TABLE IF NOT EXISTS mart.unusual_stretches (
    stretch_id VARCHAR,
    machine_id VARCHAR,
    segment VARCHAR,
    started_at TIMESTAMP,
    ended_at TIMESTAMP,
    n_readings BIGINT,
    excess DOUBLE,
    top_sensors VARCHAR[],
    status VARCHAR,
    found_at TIMESTAMP,
    decided_at TIMESTAMP,
    decided_by VARCHAR,
    cluster_key VARCHAR
);

-- What each regime in use sees: one row per sensor, replaced where a flow, a weight or the rule of alarms changed.
CREATE TABLE IF NOT EXISTS mart.detectability (
    cluster_key VARCHAR,
    flow_version VARCHAR,
    sensor VARCHAR,
    unit VARCHAR,
    spread DOUBLE,
    shift DOUBLE,
    shift_sigma DOUBLE,
    spike DOUBLE,
    spike_sigma DOUBLE,
    is_blind BOOLEAN,
    reason VARCHAR,
    hidden_by VARCHAR,
    n_readings BIGINT,
    alpha DOUBLE,
    min_readings BIGINT,
    model_set_id VARCHAR,
    probed_at TIMESTAMP
);

CREATE OR REPLACE VIEW core.unusual_readings AS
SELECT reading.reading_id
FROM core.readings AS reading
JOIN mart.unusual_stretches AS stretch
  ON stretch.machine_id = reading.machine_id
 AND stretch.segment = reading.segment
 AND reading.ts BETWEEN stretch.started_at AND stretch.ended_at
WHERE stretch.status <> 'normal';

-- Readings of cases that a person has marked as a fault: nothing learns from them, and they calibrate nothing.
CREATE OR REPLACE VIEW core.faulty_readings AS
SELECT reading.reading_id
FROM core.readings AS reading
JOIN mart.case_events AS event
  ON event.machine_id = reading.machine_id
 AND reading.ts BETWEEN event.started_at AND event.ended_at
JOIN mart.cases USING (case_id)
WHERE cases.label = 'fault';

-- The interval is that of Wilson: it holds for few cases, and never leaves 0 to 1.
CREATE OR REPLACE VIEW mart.alarm_precision AS
WITH months AS (
    SELECT
        date_trunc('month', since)::DATE AS month,
        count(*) AS n_cases,
        count(label) AS n_marked,
        count(*) FILTER (label IN ('fault', 'known')) AS n_right
    FROM mart.cases
    WHERE state <> 'merged' AND since IS NOT NULL AND told_as_of IS NOT NULL
    GROUP BY ALL
), shares AS (
    SELECT *, n_right / nullif(n_marked, 0) AS share, 1.96 ** 2 / nullif(n_marked, 0) AS pull FROM months
)
SELECT
    month,
    n_cases,
    n_marked,
    n_right,
    share AS "precision",
    greatest((share + pull / 2 - sqrt(pull * (share * (1 - share) + pull / 4))) / (1 + pull), 0) AS low,
    least((share + pull / 2 + sqrt(pull * (share * (1 - share) + pull / 4))) / (1 + pull), 1) AS high
FROM shares
ORDER BY month;

-- The last comparison of `pwflow poc`, replaced as a whole.
CREATE TABLE IF NOT EXISTS mart.model_comparison (
    model VARCHAR,
    n_regimes INTEGER,
    is_recommended BOOLEAN,
    recommendation VARCHAR,
    reason VARCHAR,
    n_learned BIGINT,
    n_held_out BIGINT,
    held_out_log_density DOUBLE,
    held_out_error DOUBLE,
    bridge_mass DOUBLE,
    fault_source VARCHAR,
    n_faults BIGINT,
    n_found BIGINT,
    false_alarms_per_week DOUBLE,
    false_alarms_error DOUBLE,
    alpha DOUBLE,
    train_cpu_seconds DOUBLE,
    train_seconds DOUBLE,
    partial_refit_cpu_seconds DOUBLE,
    peak_memory_mb DOUBLE,
    added_memory_mb DOUBLE,
    nightly_cpu_seconds DOUBLE,
    yearly_cost DOUBLE,
    currency VARCHAR,
    error VARCHAR,
    made_at TIMESTAMP
);

-- When a day (UTC) last changed: a reading, its score or what explains it was written, changed or removed. See days.py.
CREATE TABLE IF NOT EXISTS core.changed_days (day DATE, changed_at TIMESTAMP);

-- How many rows of each file were removed from ingest.raw_readings, because the readings were older than they are kept.
CREATE TABLE IF NOT EXISTS core.removed_rows (file_id BIGINT, n_rows BIGINT);

-- Readings of the nights (calendar days in the zone of the schedule) that are no longer whole.
CREATE TABLE IF NOT EXISTS core.night_counts (
    night DATE,
    machine_id VARCHAR,
    segment VARCHAR,
    cluster_key VARCHAR,
    n_readings BIGINT,
    n_judged BIGINT
);

CREATE TABLE IF NOT EXISTS mart.removed_nights (
    machine_id VARCHAR,
    night DATE,
    n_readings BIGINT,
    started_at TIMESTAMP,
    ended_at TIMESTAMP,
    removed_at TIMESTAMP
);

CREATE TABLE IF NOT EXISTS mart.hourly_readings (
    machine_id VARCHAR,
    hour TIMESTAMP,
    sensor VARCHAR,
    n_values BIGINT,
    mean DOUBLE,
    low DOUBLE,
    high DOUBLE
);

CREATE TABLE IF NOT EXISTS mart.hourly_scores (
    machine_id VARCHAR,
    hour TIMESTAMP,
    segment VARCHAR,
    cluster_key VARCHAR,
    n_readings BIGINT,
    n_scored BIGINT,
    n_anomalies BIGINT,
    mean_score DOUBLE,
    peak_score DOUBLE
);

COMMENT ON TABLE mart.removed_nights IS 'Readings that were older than retention.readings_days and are gone: one row per machine and night';
COMMENT ON COLUMN mart.removed_nights.machine_id IS 'Machine';
COMMENT ON COLUMN mart.removed_nights.night IS 'Calendar day in the time zone of the schedule';
COMMENT ON COLUMN mart.removed_nights.n_readings IS 'Readings that it had';
COMMENT ON COLUMN mart.removed_nights.started_at IS 'Begin of the night, UTC';
COMMENT ON COLUMN mart.removed_nights.ended_at IS 'End of the night, UTC';
COMMENT ON COLUMN mart.removed_nights.removed_at IS 'When they were removed, UTC';

COMMENT ON TABLE mart.hourly_readings IS 'What the sensors read in the nights of removed_nights: one row per machine, hour and sensor';
COMMENT ON COLUMN mart.hourly_readings.machine_id IS 'Machine';
COMMENT ON COLUMN mart.hourly_readings.hour IS 'Begin of the hour, UTC';
COMMENT ON COLUMN mart.hourly_readings.sensor IS 'Sensor';
COMMENT ON COLUMN mart.hourly_readings.n_values IS 'Readings with a value of the sensor';
COMMENT ON COLUMN mart.hourly_readings.mean IS 'Their mean, in the unit of the sensor';
COMMENT ON COLUMN mart.hourly_readings.low IS 'The smallest of them';
COMMENT ON COLUMN mart.hourly_readings.high IS 'The largest of them';

COMMENT ON TABLE mart.hourly_scores IS 'How the readings in the nights of removed_nights were scored: one row per machine, hour, segment and regime';
COMMENT ON COLUMN mart.hourly_scores.machine_id IS 'Machine';
COMMENT ON COLUMN mart.hourly_scores.hour IS 'Begin of the hour, UTC';
COMMENT ON COLUMN mart.hourly_scores.segment IS 'Known process condition';
COMMENT ON COLUMN mart.hourly_scores.cluster_key IS 'Operating regime; NULL for readings that could not be given to one';
COMMENT ON COLUMN mart.hourly_scores.n_readings IS 'Readings';
COMMENT ON COLUMN mart.hourly_scores.n_scored IS 'Those of them with a score';
COMMENT ON COLUMN mart.hourly_scores.n_anomalies IS 'Those of them that were anomalies';
COMMENT ON COLUMN mart.hourly_scores.mean_score IS 'Mean anomaly score, −log10 p';
COMMENT ON COLUMN mart.hourly_scores.peak_score IS 'Largest anomaly score';

-- The scores that the rows of a night in mart.cluster_health were derived from.
CREATE TABLE IF NOT EXISTS core.health_nights (night DATE, n_scores BIGINT, last_scored_at TIMESTAMP);

-- Names that people give to regimes: only ever added to; a row without a name takes the name away.
CREATE TABLE IF NOT EXISTS mart.regime_names (
    change_number BIGINT,
    cluster_key VARCHAR,
    name VARCHAR,
    named_at TIMESTAMP,
    named_by VARCHAR,
    reason VARCHAR
);

-- The sensors and what they read: replaced as a whole at each publication, and so are the profiles of the regimes.
CREATE TABLE IF NOT EXISTS mart.sensors (
    sensor VARCHAR,
    position BIGINT,
    unit VARCHAR,
    low_limit DOUBLE,
    high_limit DOUBLE,
    n_values BIGINT,
    n_missing BIGINT,
    lowest DOUBLE,
    highest DOUBLE,
    typical DOUBLE,
    spread DOUBLE
);

CREATE TABLE IF NOT EXISTS mart.regime_profiles (
    cluster_key VARCHAR,
    sensor VARCHAR,
    unit VARCHAR,
    typical DOUBLE,
    spread DOUBLE,
    usual_low DOUBLE,
    usual_high DOUBLE,
    n_readings BIGINT
);

CREATE TABLE IF NOT EXISTS mart.runs (
    run_id VARCHAR,
    job VARCHAR,
    outcome VARCHAR,
    started_at TIMESTAMP,
    ended_at TIMESTAMP,
    seconds DOUBLE,
    started_by VARCHAR,
    reason VARCHAR,
    error VARCHAR
);

CREATE OR REPLACE VIEW mart.plant AS
WITH span AS (
    SELECT
        count(*) AS n_readings,
        count(DISTINCT machine_id) AS n_machines,
        min(ts) AS first_reading_at,
        max(ts) AS last_reading_at
    FROM mart.anomaly_scores
), rule AS (
    SELECT DISTINCT model_set_id, alpha, alarms_per_week
    FROM core.model_sets
    WHERE model_set_id IN (SELECT model FROM core.progress WHERE step = 'scores')
), facts AS (
    SELECT
        max(value) FILTER (fact = 'plant.name') AS plant,
        coalesce(max(value) FILTER (fact = 'plant.timezone'), 'UTC') AS timezone
    FROM core.plant_facts
)
SELECT
    facts.plant,
    facts.timezone,
    (span.last_reading_at AT TIME ZONE 'UTC' AT TIME ZONE facts.timezone)::DATE AS latest_day,
    span.first_reading_at,
    span.last_reading_at,
    span.n_readings,
    span.n_machines,
    (SELECT count(*) FROM mart.sensors) AS n_sensors,
    (SELECT count(*) FROM mart.clusters WHERE status = 'active') AS n_regimes,
    rule.alpha,
    rule.alarms_per_week,
    rule.model_set_id
FROM span
CROSS JOIN facts
LEFT JOIN rule ON true;

CREATE OR REPLACE VIEW mart.machines AS
WITH scores AS (
    SELECT
        machine_id,
        min(ts) AS first_reading_at,
        max(ts) AS last_reading_at,
        count(*) AS n_readings,
        count(*) FILTER (status = 'scored') AS n_scored,
        count(*) FILTER (is_anomaly) AS n_anomalies
    FROM mart.anomaly_scores
    GROUP BY machine_id
), events AS (
    SELECT machine_id, count(*) AS n_events, max(started_at) AS last_event_at FROM mart.anomaly_events GROUP BY machine_id
), cases AS (
    SELECT machine_id, count(*) AS n_open_cases
    FROM (SELECT unnest(machine_ids) AS machine_id FROM mart.cases WHERE state IN ('open', 'acknowledged', 'shelved'))
    GROUP BY machine_id
)
SELECT
    scores.machine_id,
    scores.first_reading_at,
    scores.last_reading_at,
    epoch((SELECT max(ts) FROM mart.anomaly_scores) - scores.last_reading_at) / 3600 AS hours_silent,
    scores.n_readings,
    scores.n_scored,
    scores.n_anomalies,
    coalesce(events.n_events, 0) AS n_events,
    events.last_event_at,
    coalesce(cases.n_open_cases, 0) AS n_open_cases
FROM scores
LEFT JOIN events USING (machine_id)
LEFT JOIN cases USING (machine_id)
ORDER BY scores.machine_id;

CREATE OR REPLACE VIEW mart.latest_day AS
WITH day AS (
    SELECT latest_day, latest_day::TIMESTAMP AT TIME ZONE timezone AT TIME ZONE 'UTC' AS started_at FROM mart.plant
), scores AS (
    SELECT
        machine_id,
        count(*) AS n_readings,
        count(*) FILTER (status = 'scored') AS n_scored,
        count(*) FILTER (is_anomaly) AS n_anomalies,
        max(anomaly_score) AS highest_score
    FROM mart.anomaly_scores
    WHERE ts >= (SELECT started_at FROM day)
    GROUP BY machine_id
), events AS (
    SELECT
        machine_id,
        count(*) AS n_events,
        arg_max(event_id, peak_score) AS worst_event_id,
        arg_max(summary, peak_score) AS worst_event
    FROM mart.anomaly_events
    WHERE ended_at >= (SELECT started_at FROM day)
    GROUP BY machine_id
)
SELECT
    (SELECT latest_day FROM day) AS day,
    machines.machine_id,
    coalesce(scores.n_readings, 0) AS n_readings,
    coalesce(scores.n_scored, 0) AS n_scored,
    coalesce(scores.n_anomalies, 0) AS n_anomalies,
    scores.highest_score,
    coalesce(events.n_events, 0) AS n_events,
    events.worst_event_id,
    events.worst_event,
    machines.n_open_cases
FROM mart.machines AS machines
LEFT JOIN scores USING (machine_id)
LEFT JOIN events USING (machine_id)
ORDER BY machines.machine_id;

CREATE OR REPLACE VIEW mart.regimes AS
WITH named AS (
    SELECT cluster_key, max_by(struct_pack(name, named_at, named_by), change_number) AS last
    FROM mart.regime_names
    GROUP BY cluster_key
), scores AS (
    SELECT
        cluster_key,
        count(*) AS n_readings,
        count(DISTINCT machine_id) AS n_machines,
        min(ts) AS first_seen_at,
        max(ts) AS last_seen_at,
        count(*) FILTER (is_anomaly) AS n_anomalies
    FROM mart.anomaly_scores
    WHERE cluster_key IS NOT NULL
    GROUP BY cluster_key
), unlike AS (
    SELECT
        own.cluster_key,
        concat_ws(
            ' ',
            own.sensor,
            CASE WHEN abs(own.typical) >= 1000 THEN printf('%.0f', own.typical) ELSE printf('%.4g', own.typical) END,
            nullif(own.unit, '')
        ) AS said,
        row_number() OVER (
            PARTITION BY own.cluster_key
            ORDER BY abs(own.typical - sensors.typical) / nullif(sensors.spread, 0) DESC NULLS LAST, sensors.position
        ) AS place
    FROM mart.regime_profiles AS own
    JOIN mart.sensors AS sensors USING (sensor)
), profiles AS (
    SELECT cluster_key, string_agg(said, ', ' ORDER BY place) AS profile FROM unlike WHERE place <= 3 GROUP BY cluster_key
)
SELECT
    regime.cluster_key,
    named.last.name AS name,
    regime.segment,
    regime.status,
    profiles.profile,
    coalesce(scores.n_readings, 0) / sum(scores.n_readings) OVER () AS share_of_time,
    coalesce(scores.n_readings, 0) AS n_readings,
    coalesce(scores.n_machines, 0) AS n_machines,
    scores.first_seen_at,
    scores.last_seen_at,
    coalesce(scores.n_anomalies, 0) AS n_anomalies,
    flow.flow_version,
    flow.trained_at,
    EXISTS (
        FROM mart.detectability AS seen WHERE seen.cluster_key = regime.cluster_key AND seen.is_blind
    ) AS is_blind,
    named.last.named_by AS named_by,
    named.last.named_at AS named_at
FROM mart.clusters AS regime
LEFT JOIN named USING (cluster_key)
LEFT JOIN scores USING (cluster_key)
LEFT JOIN profiles USING (cluster_key)
LEFT JOIN mart.flow_versions AS flow ON flow.cluster_key = regime.cluster_key AND flow.in_force
ORDER BY regime.status, regime.cluster_key;

COMMENT ON TABLE core.readings IS 'Valid readings: one row per machine and time, values within physical limits';
COMMENT ON COLUMN core.readings.reading_id IS 'Id made from machine and time, published as text such as R-3f9a2c81b04d57e6: the same reading has the same one in every warehouse';
COMMENT ON COLUMN core.readings.machine_id IS 'Machine, as the source names it';
COMMENT ON COLUMN core.readings.ts IS 'Time of the reading, UTC';
COMMENT ON COLUMN core.readings.segment IS 'Known process condition: the values of the segment columns, joined by " / "';
COMMENT ON COLUMN core.readings.quality IS 'ok, filled (short gaps bridged), partial (few sensors missing), missing, invalid (a value was refused) or stuck';
COMMENT ON COLUMN core.readings.reason IS 'Why the quality is not ok, or what was filled in; NULL for an ordinary reading';
COMMENT ON COLUMN core.readings.fold IS 'Share of the time blocks, 0 to 9: 3 and 8 calibrate, 5 stops the training early, the others train';
COMMENT ON COLUMN core.readings.batch_id IS 'Number of the run of the readings step that made or last changed this row';
COMMENT ON COLUMN core.readings.file_id IS 'File that the reading came from, see ingest.files';
COMMENT ON COLUMN core.readings.row_number IS 'Row of that file, from 1';

COMMENT ON TABLE ingest.raw_readings IS 'What arrived, as it arrived: one row per row of a file';
COMMENT ON COLUMN ingest.raw_readings.file_id IS 'File, see ingest.files';
COMMENT ON COLUMN ingest.raw_readings.row_number IS 'Row of the file, from 1';
COMMENT ON COLUMN ingest.raw_readings.ts IS 'Timestamp as it arrived';
COMMENT ON COLUMN ingest.raw_readings.machine_id IS 'Machine, as the source names it';
COMMENT ON COLUMN ingest.raw_readings.segment IS 'Values of the segment columns, joined by " / "';
COMMENT ON COLUMN ingest.raw_readings.refused_values IS 'Values that are not numbers, with their text, by sensor';
COMMENT ON COLUMN ingest.raw_readings.bad_quality IS 'Values that the source itself calls bad, as "value (quality)", by sensor';

COMMENT ON TABLE core.cluster_assignments IS 'Candidate regimes of every reading: the regimes that could have produced it';
COMMENT ON COLUMN core.cluster_assignments.cluster_key IS 'Operating regime';
COMMENT ON COLUMN core.cluster_assignments.reading_id IS 'Reading';
COMMENT ON COLUMN core.cluster_assignments.responsibility IS 'Probability of the regime given the reading, by the cluster model, 0 to 1';

COMMENT ON TABLE core.component_log_density IS 'Log-density of readings in their candidate regimes: one slice per regime';
COMMENT ON COLUMN core.component_log_density.cluster_key IS 'Operating regime';
COMMENT ON COLUMN core.component_log_density.reading_id IS 'Reading';
COMMENT ON COLUMN core.component_log_density.log_density IS 'log p_k(x) in nats, in the raw units of the sensors';
COMMENT ON COLUMN core.component_log_density.conformity IS 'How well the reading conforms to its regime, in nats: what p-values rank; NULL while its machine is being learned';
COMMENT ON COLUMN core.component_log_density.flow_version IS 'Flow that gave it';
COMMENT ON COLUMN core.component_log_density.scored_at IS 'When, UTC';
COMMENT ON COLUMN core.component_log_density.log_volume IS 'What log_density has for the scales of the machine, in nats; 0 or NULL where it is not corrected';

COMMENT ON TABLE mart.machine_corrections IS 'What is particular to each machine in a regime whose machines differ, as it was learned; the last row of a machine holds';
COMMENT ON COLUMN mart.machine_corrections.cluster_key IS 'Operating regime';
COMMENT ON COLUMN mart.machine_corrections.flow_version IS 'Flow that it is used with';
COMMENT ON COLUMN mart.machine_corrections.machine_id IS 'Machine, as the source names it';
COMMENT ON COLUMN mart.machine_corrections.status IS 'corrected; typical (nothing has to be corrected); or outside (it differs more than the others do: judged as it is, and a verdict asks a person)';
COMMENT ON COLUMN mart.machine_corrections.columns IS 'Sensors and features over time, in the order of the next two columns';
COMMENT ON COLUMN mart.machine_corrections.shift IS 'How much more the machine reads than a typical one, in the unit of each';
COMMENT ON COLUMN mart.machine_corrections.stretch IS 'How many times as far its readings are spread';
COMMENT ON COLUMN mart.machine_corrections.n_readings IS 'Readings that it was learned from';
COMMENT ON COLUMN mart.machine_corrections.learned_from IS 'Time of the first of these, or of those that the flow learned from, UTC';
COMMENT ON COLUMN mart.machine_corrections.learned_until IS 'Time of the last, UTC';
COMMENT ON COLUMN mart.machine_corrections.gain IS 'For a machine that came later: how much more probable the correction makes held-out readings, in nats per reading';
COMMENT ON COLUMN mart.machine_corrections.gain_error IS 'Standard error of gain';
COMMENT ON COLUMN mart.machine_corrections.is_final IS 'Whether it stays as it is until the regime is retrained';
COMMENT ON COLUMN mart.machine_corrections.decided_at IS 'When, UTC';

COMMENT ON TABLE mart.anomaly_scores IS 'Every reading with its calibrated probability, or with the reason why it has none';
COMMENT ON COLUMN mart.anomaly_scores.reading_id IS 'Id of the reading, as in readings: the same in all runs';
COMMENT ON COLUMN mart.anomaly_scores.machine_id IS 'Machine, as the source names it';
COMMENT ON COLUMN mart.anomaly_scores.ts IS 'Time of the reading, UTC';
COMMENT ON COLUMN mart.anomaly_scores.segment IS 'Known process condition; "all" where none is configured';
COMMENT ON COLUMN mart.anomaly_scores.cluster_key IS 'Most probable operating regime; NULL if the reading could not be assigned';
COMMENT ON COLUMN mart.anomaly_scores.log_density IS 'Mixture log-density log p(x) within the segment, in nats, in the raw units of the sensors';
COMMENT ON COLUMN mart.anomaly_scores.p_value IS 'Share of normal readings that are at least as improbable, within the regime and among all regimes of the segment, above 0, at most 1';
COMMENT ON COLUMN mart.anomaly_scores.anomaly_score IS 'Minus log10 of p_value: 3 means one normal reading in a thousand';
COMMENT ON COLUMN mart.anomaly_scores.is_anomaly IS 'p_value is at most alpha, the false-alarm rate of scoring.alpha or scoring.alarms_per_week; NULL if the reading was not scored';
COMMENT ON COLUMN mart.anomaly_scores.status IS 'scored, missing, invalid, stuck or thin; only scored readings have numbers';
COMMENT ON COLUMN mart.anomaly_scores.reason IS 'Why the reading was not judged, or what was filled in; NULL for an ordinary reading';
COMMENT ON COLUMN mart.anomaly_scores.flow_version IS 'Flow of the regime that gave the score, see flow_versions';
COMMENT ON COLUMN mart.anomaly_scores.model_set_id IS 'The clusters, weights and flows in use when the reading was scored';
COMMENT ON COLUMN mart.anomaly_scores.scored_at IS 'When the score was computed, UTC';

COMMENT ON TABLE mart.sensor_contributions IS 'Which sensors caused each anomaly: one row per anomaly and sensor';
COMMENT ON COLUMN mart.sensor_contributions.reading_id IS 'Reading that is an anomaly, see anomaly_scores';
COMMENT ON COLUMN mart.sensor_contributions.machine_id IS 'Machine, as the source names it';
COMMENT ON COLUMN mart.sensor_contributions.ts IS 'Time of the reading, UTC';
COMMENT ON COLUMN mart.sensor_contributions.sensor IS 'Name of the sensor';
COMMENT ON COLUMN mart.sensor_contributions.contribution IS 'Part of the anomaly_score that the sensor caused; those of a reading add up to its score';
COMMENT ON COLUMN mart.sensor_contributions.expected IS 'What the sensor should have read given the other sensors, in its unit';
COMMENT ON COLUMN mart.sensor_contributions.observed IS 'What it read, in its unit';
COMMENT ON COLUMN mart.sensor_contributions.expected_low IS 'Lower end of what was expected: one normal reading in twenty is below, in its unit';
COMMENT ON COLUMN mart.sensor_contributions.expected_high IS 'Upper end of what was expected: one normal reading in twenty is above, in its unit';
COMMENT ON COLUMN mart.sensor_contributions.unit IS 'Unit of the sensor; empty if the configuration names none';
COMMENT ON COLUMN mart.sensor_contributions.cluster_key IS 'Regime that the expectation is for: the one that suits the other sensors';
COMMENT ON COLUMN mart.sensor_contributions.scored_at IS 'Score that it explains: scored_at of anomaly_scores, UTC';

COMMENT ON TABLE mart.anomaly_events IS 'Anomalies of a machine that follow each other closely, as one event with a plain sentence';
COMMENT ON COLUMN mart.anomaly_events.event_id IS 'Short id, such as E-3f9a2c, made from the first anomaly: an event that goes on keeps it';
COMMENT ON COLUMN mart.anomaly_events.machine_id IS 'Machine, as the source names it';
COMMENT ON COLUMN mart.anomaly_events.started_at IS 'Time of the first anomaly, UTC';
COMMENT ON COLUMN mart.anomaly_events.ended_at IS 'Time of the last anomaly, UTC';
COMMENT ON COLUMN mart.anomaly_events.peak_score IS 'Largest anomaly_score of the event';
COMMENT ON COLUMN mart.anomaly_events.n_readings IS 'Anomalies in the event';
COMMENT ON COLUMN mart.anomaly_events.cluster_key IS 'Operating regime of the reading with the largest score';
COMMENT ON COLUMN mart.anomaly_events.top_sensors IS 'Up to three sensors that caused it, with at least a tenth of the contributions summed over the event';
COMMENT ON COLUMN mart.anomaly_events.segment IS 'Known process condition of the reading with the largest score';
COMMENT ON COLUMN mart.anomaly_events.summary IS 'What happened, as a sentence: what the sensors that caused it read at their worst, and what was expected';
COMMENT ON COLUMN mart.anomaly_events.lasted_until IS 'Time of the last reading that was off itself, UTC: later anomalies, up to ended_at, come from features over time that look back at it';

COMMENT ON TABLE mart.cases IS 'What a person handles: the events of one cause, or a verdict on drift, as one case';
COMMENT ON COLUMN mart.cases.case_id IS 'Short id, such as K-3f9a2c: the same for good, and never used for another case';
COMMENT ON COLUMN mart.cases.state IS 'open, acknowledged, shelved or closed; merged if it turned out to be one with another case';
COMMENT ON COLUMN mart.cases.severity IS 'low, medium or high: by how far the readings are off, how long, and how often';
COMMENT ON COLUMN mart.cases.label IS 'What a person says that it is: fault, normal or known; NULL if nobody said';
COMMENT ON COLUMN mart.cases.label_kind IS 'Kind of a known cause, in the words of who named it';
COMMENT ON COLUMN mart.cases.machine_ids IS 'Machines';
COMMENT ON COLUMN mart.cases.sensors IS 'Up to three sensors that caused it, with at least a tenth of the contributions, the largest first; else those of its verdicts';
COMMENT ON COLUMN mart.cases.segments IS 'Known process conditions in which it was seen';
COMMENT ON COLUMN mart.cases.cluster_keys IS 'Operating regimes in which it was seen';
COMMENT ON COLUMN mart.cases.since IS 'Time of its first anomaly, UTC; of a verdict alone: the day on which it began';
COMMENT ON COLUMN mart.cases.last_seen IS 'Time of its last anomaly, or end of the day of its last verdict, UTC';
COMMENT ON COLUMN mart.cases.n_events IS 'Events in it';
COMMENT ON COLUMN mart.cases.n_readings IS 'Anomalies in them';
COMMENT ON COLUMN mart.cases.alarm_seconds IS 'How long its events lasted together, in seconds';
COMMENT ON COLUMN mart.cases.peak_score IS 'Largest anomaly_score; NULL of a verdict alone';
COMMENT ON COLUMN mart.cases.worst_event_id IS 'Event with that score, see case_events';
COMMENT ON COLUMN mart.cases.verdict_ids IS 'Verdicts on drift in it, see drift_verdicts';
COMMENT ON COLUMN mart.cases.n_reopened IS 'How often it came back after it had closed';
COMMENT ON COLUMN mart.cases.closed_at IS 'Time in the record of readings at which it closed: its machines had been normal for long enough, or a person decided, UTC; NULL if it is not closed';
COMMENT ON COLUMN mart.cases.shelved_until IS 'Time in the record of readings up to which a person does not want to hear of it, UTC';
COMMENT ON COLUMN mart.cases.merged_into IS 'Case that it turned out to be one with; NULL otherwise';
COMMENT ON COLUMN mart.cases.similar_cases IS 'Up to three earlier cases that are most like it, by the sensors that caused them and the shape';
COMMENT ON COLUMN mart.cases.summary IS 'What it is about, as a sentence';
COMMENT ON COLUMN mart.cases.opened_at IS 'When it was raised, UTC';
COMMENT ON COLUMN mart.cases.updated_at IS 'When this row last changed, UTC';
COMMENT ON COLUMN mart.cases.told_as_of IS 'Time in the record of readings from which people are told of it, UTC: since it opened, or, with scoring.false_cases, since its evidence suffices; NULL until then';

COMMENT ON TABLE mart.case_events IS 'The events and verdicts of each case, as they were told';
COMMENT ON COLUMN mart.case_events.case_id IS 'The case that it belongs to now; alarm_log has the one under which it was told';
COMMENT ON COLUMN mart.case_events.event_id IS 'Id of the event when it was told; NULL for a verdict';
COMMENT ON COLUMN mart.case_events.verdict_id IS 'Verdict on drift, see drift_verdicts; NULL for an event';
COMMENT ON COLUMN mart.case_events.machine_id IS 'Machine; NULL for a verdict, which may be about several';
COMMENT ON COLUMN mart.case_events.started_at IS 'Time of the first anomaly, UTC; of a verdict: the day on which it began';
COMMENT ON COLUMN mart.case_events.told_at IS 'Time of the anomaly that made it an event, UTC; of a verdict: end of the day on which it was found';
COMMENT ON COLUMN mart.case_events.ended_at IS 'Time of the last anomaly, UTC';
COMMENT ON COLUMN mart.case_events.lasted_until IS 'Time of the last reading that was off itself, UTC';
COMMENT ON COLUMN mart.case_events.n_readings IS 'Anomalies in it';
COMMENT ON COLUMN mart.case_events.peak_score IS 'Largest anomaly_score';
COMMENT ON COLUMN mart.case_events.cluster_key IS 'Operating regime of that';
COMMENT ON COLUMN mart.case_events.segment IS 'Known process condition of that';
COMMENT ON COLUMN mart.case_events.sensors IS 'Up to three sensors that caused it, with at least a tenth of the contributions';
COMMENT ON COLUMN mart.case_events.summary IS 'What happened, as a sentence';
COMMENT ON COLUMN mart.case_events.is_found IS 'Whether the scores as they are now still have an event there; a new model may think otherwise of what was told';

COMMENT ON VIEW mart.alarm_precision IS 'What share of the cases that people were told of and marked were right, by month: those that nobody marked say nothing';
COMMENT ON COLUMN mart.alarm_precision.month IS 'First day of the month in which the cases began, UTC';
COMMENT ON COLUMN mart.alarm_precision.n_cases IS 'Cases that began in it and that people were told of';
COMMENT ON COLUMN mart.alarm_precision.n_marked IS 'Those of them that a person has marked';
COMMENT ON COLUMN mart.alarm_precision.n_right IS 'Those marked as a fault or a known cause';
COMMENT ON COLUMN mart.alarm_precision."precision" IS 'Their share of the marked ones; NULL if none is marked';
COMMENT ON COLUMN mart.alarm_precision.low IS 'Lower end of its 95% interval';
COMMENT ON COLUMN mart.alarm_precision.high IS 'Upper end of its 95% interval';

COMMENT ON TABLE mart.promise_days IS 'Days with judged readings since scoring.false_cases was set, and the share of the promise that each has';
COMMENT ON COLUMN mart.promise_days.day IS 'Calendar day of the plant';
COMMENT ON COLUMN mart.promise_days.day_number IS 'Counts the days';
COMMENT ON COLUMN mart.promise_days.share IS 'Share of the promise: 365 / ((day_number + 364) (day_number + 365)); all shares add up to at most 1, for ever';
COMMENT ON COLUMN mart.promise_days.n_expected IS 'Judged readings that the share is for: as many as the plant had on its fullest day before, or would have if all machines ran all day';
COMMENT ON COLUMN mart.promise_days.n_readings IS 'Judged readings of the day';

COMMENT ON TABLE mart.event_evidence IS 'What each event says against "the plant was normal", by day, as an e-value: on average at most 1 if it was';
COMMENT ON COLUMN mart.event_evidence.event_id IS 'Event, see case_events';
COMMENT ON COLUMN mart.event_evidence.day IS 'Day of the anomalies, see promise_days';
COMMENT ON COLUMN mart.event_evidence.e_value IS 'Sum of the e-values of its anomalies of that day over n_expected of the day';
COMMENT ON COLUMN mart.event_evidence.counted_for IS 'Case that was told because of it; NULL until then. It counts for no other';

COMMENT ON TABLE mart.told_cases IS 'Cases that were told because their evidence sufficed, in the order in which they were: only ever added to';
COMMENT ON COLUMN mart.told_cases.case_id IS 'The case, see cases';
COMMENT ON COLUMN mart.told_cases.as_of IS 'Time in the record of readings, UTC';
COMMENT ON COLUMN mart.told_cases.told_at IS 'When it was recorded, UTC';
COMMENT ON COLUMN mart.told_cases.run_id IS 'Dagster run; NULL outside of runs';
COMMENT ON COLUMN mart.told_cases.promise IS 'scoring.false_cases then';
COMMENT ON COLUMN mart.told_cases.place IS 'How many had been told then, it among them; those that people had marked as normal do not count';
COMMENT ON COLUMN mart.told_cases.evidence IS 'Its evidence: e_value times share, summed over its events and their days';
COMMENT ON COLUMN mart.told_cases.needed IS 'Evidence that was needed: 1 / (promise times the place of the last one told with it)';

COMMENT ON TABLE mart.case_changes IS 'Every change of a case, by whom and why';
COMMENT ON COLUMN mart.case_changes.change_number IS 'Counts the changes; never used twice';
COMMENT ON COLUMN mart.case_changes.case_id IS 'The case, see cases';
COMMENT ON COLUMN mart.case_changes.change IS 'opened, told, worse, closed, reopened, merged, unshelved (by pwflow); acknowledged, shelved, marked or undone (by a person)';
COMMENT ON COLUMN mart.case_changes.from_state IS 'Its state before; NULL when it opened';
COMMENT ON COLUMN mart.case_changes.to_state IS 'Its state from then on';
COMMENT ON COLUMN mart.case_changes.severity IS 'Its severity from then on';
COMMENT ON COLUMN mart.case_changes.label IS 'Its label from then on';
COMMENT ON COLUMN mart.case_changes.label_kind IS 'Kind of a known cause';
COMMENT ON COLUMN mart.case_changes.as_of IS 'Time in the record of readings that the change is about, UTC';
COMMENT ON COLUMN mart.case_changes.changed_at IS 'When it was recorded, UTC';
COMMENT ON COLUMN mart.case_changes.changed_by IS 'Who or what changed it';
COMMENT ON COLUMN mart.case_changes.run_id IS 'Dagster run in which it changed; NULL outside of runs';
COMMENT ON COLUMN mart.case_changes.reason IS 'Why';

COMMENT ON TABLE mart.alarm_log IS 'What was raised, when, and by which model: only ever added to, whatever later models think';
COMMENT ON COLUMN mart.alarm_log.entry_number IS 'Counts the entries';
COMMENT ON COLUMN mart.alarm_log.raised_at IS 'When it was raised, UTC';
COMMENT ON COLUMN mart.alarm_log.run_id IS 'Dagster run that raised it; NULL outside of runs';
COMMENT ON COLUMN mart.alarm_log.case_id IS 'Case under which it was raised';
COMMENT ON COLUMN mart.alarm_log.entry IS 'event or verdict; or what became of the case: opened, told (see told_cases), worse, closed, reopened or merged';
COMMENT ON COLUMN mart.alarm_log.as_of IS 'Time in the record of readings that it is about, UTC';
COMMENT ON COLUMN mart.alarm_log.severity IS 'Severity of the case then';
COMMENT ON COLUMN mart.alarm_log.machine_ids IS 'Machines';
COMMENT ON COLUMN mart.alarm_log.event_id IS 'Event; NULL if it is about none';
COMMENT ON COLUMN mart.alarm_log.verdict_id IS 'Verdict on drift; NULL if it is about none';
COMMENT ON COLUMN mart.alarm_log.started_at IS 'Time of the first anomaly, UTC';
COMMENT ON COLUMN mart.alarm_log.ended_at IS 'Time of the last anomaly when it was raised, UTC';
COMMENT ON COLUMN mart.alarm_log.n_readings IS 'Anomalies when it was raised';
COMMENT ON COLUMN mart.alarm_log.peak_score IS 'Largest anomaly_score when it was raised';
COMMENT ON COLUMN mart.alarm_log.sensors IS 'Sensors that caused it, the largest contribution first';
COMMENT ON COLUMN mart.alarm_log.cluster_key IS 'Operating regime of the largest anomaly_score';
COMMENT ON COLUMN mart.alarm_log.flow_version IS 'Flow that gave that score';
COMMENT ON COLUMN mart.alarm_log.calibrated_at IS 'When that flow had been calibrated, UTC';
COMMENT ON COLUMN mart.alarm_log.model_set_id IS 'Clusters, weights and flows that judged';
COMMENT ON COLUMN mart.alarm_log.alpha IS 'p-value at or below which a reading was an anomaly';
COMMENT ON COLUMN mart.alarm_log.sentence IS 'What was said';

COMMENT ON TABLE mart.unusual_stretches IS 'Stretches of the history unlike the rest of it: no flow learns from them, and they calibrate nothing, until a person says that they are normal';
COMMENT ON COLUMN mart.unusual_stretches.stretch_id IS 'Short identifier, such as U-3f9a2c';
COMMENT ON COLUMN mart.unusual_stretches.machine_id IS 'Machine, as the source names it';
COMMENT ON COLUMN mart.unusual_stretches.segment IS 'Known process condition that the readings were compared within';
COMMENT ON COLUMN mart.unusual_stretches.started_at IS 'Time of the first reading, UTC';
COMMENT ON COLUMN mart.unusual_stretches.ended_at IS 'Time of the last reading, UTC';
COMMENT ON COLUMN mart.unusual_stretches.n_readings IS 'Readings in the stretch';
COMMENT ON COLUMN mart.unusual_stretches.excess IS 'How far it lies from what other days have seen, at its worst: 5 is the limit, ordinary readings are below 1';
COMMENT ON COLUMN mart.unusual_stretches.top_sensors IS 'Up to three sensors that stand out most';
COMMENT ON COLUMN mart.unusual_stretches.status IS 'open (left out), fault (left out, a person said so) or normal (learned from, a person said so)';
COMMENT ON COLUMN mart.unusual_stretches.found_at IS 'When it was found, UTC';
COMMENT ON COLUMN mart.unusual_stretches.decided_at IS 'When a person decided, UTC; NULL while nobody has';
COMMENT ON COLUMN mart.unusual_stretches.decided_by IS 'Who decided, and why';
COMMENT ON COLUMN mart.unusual_stretches.cluster_key IS 'Regime that was added when a person called it normal; NULL if none was';

COMMENT ON VIEW mart.plant IS 'The plant in one row: its time zone, its latest day, and the false-alarm rate in use';
COMMENT ON COLUMN mart.plant.plant IS 'Name of the plant';
COMMENT ON COLUMN mart.plant.timezone IS 'Time zone of the schedule, in which days are calendar days';
COMMENT ON COLUMN mart.plant.latest_day IS 'Calendar day of the last reading, in that time zone';
COMMENT ON COLUMN mart.plant.first_reading_at IS 'Time of the first reading, UTC';
COMMENT ON COLUMN mart.plant.last_reading_at IS 'Time of the last reading, UTC';
COMMENT ON COLUMN mart.plant.n_readings IS 'Readings';
COMMENT ON COLUMN mart.plant.n_machines IS 'Machines';
COMMENT ON COLUMN mart.plant.n_sensors IS 'Sensors';
COMMENT ON COLUMN mart.plant.n_regimes IS 'Operating regimes in use';
COMMENT ON COLUMN mart.plant.alpha IS 'False-alarm rate in use: a reading whose p-value is at most this is an anomaly';
COMMENT ON COLUMN mart.plant.alarms_per_week IS 'Budget of false events in a week that alpha was chosen for; NULL if scoring.alpha is given';
COMMENT ON COLUMN mart.plant.model_set_id IS 'Clusters, weights and flows in use';

COMMENT ON VIEW mart.latest_day IS 'The latest day in one row per machine, also of machines that sent nothing: what to look at in the morning';
COMMENT ON COLUMN mart.latest_day.day IS 'Calendar day of the last reading of the plant, in the time zone of the schedule';
COMMENT ON COLUMN mart.latest_day.machine_id IS 'Machine, as the source names it';
COMMENT ON COLUMN mart.latest_day.n_readings IS 'Readings of that day; 0 if none came';
COMMENT ON COLUMN mart.latest_day.n_scored IS 'Those of them that were scored';
COMMENT ON COLUMN mart.latest_day.n_anomalies IS 'Those of them that are anomalies';
COMMENT ON COLUMN mart.latest_day.highest_score IS 'Largest anomaly_score of the day; NULL if nothing was scored';
COMMENT ON COLUMN mart.latest_day.n_events IS 'Events that began on that day or went on into it';
COMMENT ON COLUMN mart.latest_day.worst_event_id IS 'The one of them with the largest score, see anomaly_events; NULL if there is none';
COMMENT ON COLUMN mart.latest_day.worst_event IS 'What happened then, as a sentence';
COMMENT ON COLUMN mart.latest_day.n_open_cases IS 'Cases of the machine that are open, acknowledged or shelved';

COMMENT ON VIEW mart.machines IS 'The machines: how long they have been read, and what was found';
COMMENT ON COLUMN mart.machines.machine_id IS 'Machine, as the source names it';
COMMENT ON COLUMN mart.machines.first_reading_at IS 'Time of its first reading, UTC';
COMMENT ON COLUMN mart.machines.last_reading_at IS 'Time of its last reading, UTC';
COMMENT ON COLUMN mart.machines.hours_silent IS 'Hours from its last reading to the last one of the plant: large if its data stopped';
COMMENT ON COLUMN mart.machines.n_readings IS 'Readings';
COMMENT ON COLUMN mart.machines.n_scored IS 'Those of them that were scored';
COMMENT ON COLUMN mart.machines.n_anomalies IS 'Those of them that are anomalies';
COMMENT ON COLUMN mart.machines.n_events IS 'Events';
COMMENT ON COLUMN mart.machines.last_event_at IS 'When the last of them began, UTC; NULL if there is none';
COMMENT ON COLUMN mart.machines.n_open_cases IS 'Cases that are open, acknowledged or shelved';

COMMENT ON TABLE mart.sensors IS 'The sensors: unit, physical limits, and what they read';
COMMENT ON COLUMN mart.sensors.sensor IS 'Name of the sensor: its column in readings';
COMMENT ON COLUMN mart.sensors.position IS 'Its place among the sensors, from 1';
COMMENT ON COLUMN mart.sensors.unit IS 'Its unit; empty if the configuration names none';
COMMENT ON COLUMN mart.sensors.low_limit IS 'Lower physical limit, in its unit; NULL if none is configured';
COMMENT ON COLUMN mart.sensors.high_limit IS 'Upper physical limit, in its unit; NULL if none is configured';
COMMENT ON COLUMN mart.sensors.n_values IS 'Readings with a value of it';
COMMENT ON COLUMN mart.sensors.n_missing IS 'Readings without a value of it';
COMMENT ON COLUMN mart.sensors.lowest IS 'Lowest value, in its unit';
COMMENT ON COLUMN mart.sensors.highest IS 'Highest value, in its unit';
COMMENT ON COLUMN mart.sensors.typical IS 'Median, in its unit';
COMMENT ON COLUMN mart.sensors.spread IS 'Half of what lies between the 16% and the 84% quantile, in its unit: the standard deviation of a normal distribution';

COMMENT ON VIEW mart.regimes IS 'The operating regimes for people: name, profile, share of the time, and what is known of them';
COMMENT ON COLUMN mart.regimes.cluster_key IS 'Key of the regime: the same for good';
COMMENT ON COLUMN mart.regimes.name IS 'What people call it, by `pwflow name`; NULL if nobody named it';
COMMENT ON COLUMN mart.regimes.segment IS 'Process condition that it belongs to';
COMMENT ON COLUMN mart.regimes.status IS 'active or retired';
COMMENT ON COLUMN mart.regimes.profile IS 'The three sensors by which it differs most from the plant as a whole, with their typical values; regime_profiles has all of them';
COMMENT ON COLUMN mart.regimes.share_of_time IS 'Share of the readings with a regime that are in this one, 0 to 1';
COMMENT ON COLUMN mart.regimes.n_readings IS 'Readings in it';
COMMENT ON COLUMN mart.regimes.n_machines IS 'Machines that were seen in it';
COMMENT ON COLUMN mart.regimes.first_seen_at IS 'Time of the first reading in it, UTC';
COMMENT ON COLUMN mart.regimes.last_seen_at IS 'Time of the last reading in it, UTC';
COMMENT ON COLUMN mart.regimes.n_anomalies IS 'Readings in it that are anomalies';
COMMENT ON COLUMN mart.regimes.flow_version IS 'Its flow in use, see flow_versions; NULL if there is none';
COMMENT ON COLUMN mart.regimes.trained_at IS 'When that was trained, UTC';
COMMENT ON COLUMN mart.regimes.is_blind IS 'Whether it misses lasting shifts of some sensor, see detectability';
COMMENT ON COLUMN mart.regimes.named_by IS 'Who named it, or took its name away';
COMMENT ON COLUMN mart.regimes.named_at IS 'When, UTC';

COMMENT ON TABLE mart.regime_profiles IS 'What each sensor reads in each regime when nothing is wrong: one row per regime and sensor';
COMMENT ON COLUMN mart.regime_profiles.cluster_key IS 'Operating regime';
COMMENT ON COLUMN mart.regime_profiles.sensor IS 'Sensor';
COMMENT ON COLUMN mart.regime_profiles.unit IS 'Unit of the sensor; empty if the configuration names none';
COMMENT ON COLUMN mart.regime_profiles.typical IS 'Median, in its unit';
COMMENT ON COLUMN mart.regime_profiles.spread IS 'Half of what lies between the 16% and the 84% quantile, in its unit: the standard deviation of a normal distribution';
COMMENT ON COLUMN mart.regime_profiles.usual_low IS 'One reading in twenty is below, in its unit';
COMMENT ON COLUMN mart.regime_profiles.usual_high IS 'One reading in twenty is above, in its unit';
COMMENT ON COLUMN mart.regime_profiles.n_readings IS 'Readings that this was drawn from: all that are no anomalies, or a sample of about 20,000';

COMMENT ON TABLE mart.regime_names IS 'Every name that a person gave to a regime, by whom and why; the last one holds';
COMMENT ON COLUMN mart.regime_names.change_number IS 'Counts the changes; never used twice';
COMMENT ON COLUMN mart.regime_names.cluster_key IS 'Operating regime';
COMMENT ON COLUMN mart.regime_names.name IS 'Its name from then on; NULL if its name was taken away';
COMMENT ON COLUMN mart.regime_names.named_at IS 'When, UTC';
COMMENT ON COLUMN mart.regime_names.named_by IS 'Who named it';
COMMENT ON COLUMN mart.regime_names.reason IS 'Why';

COMMENT ON TABLE mart.runs IS 'The Dagster runs of the plant; the one that published this has not ended yet';
COMMENT ON COLUMN mart.runs.run_id IS 'Id of the run in Dagster';
COMMENT ON COLUMN mart.runs.job IS 'What ran';
COMMENT ON COLUMN mart.runs.outcome IS 'success, failure or canceled; started or another word of Dagster for one that had not ended';
COMMENT ON COLUMN mart.runs.started_at IS 'When it started, UTC; NULL if it had not';
COMMENT ON COLUMN mart.runs.ended_at IS 'When it ended, UTC; NULL if it had not';
COMMENT ON COLUMN mart.runs.seconds IS 'How long it took, in seconds';
COMMENT ON COLUMN mart.runs.started_by IS 'Who or what started it, where that is known';
COMMENT ON COLUMN mart.runs.reason IS 'Why, where that is known';
COMMENT ON COLUMN mart.runs.error IS 'Why it failed, as a sentence; NULL if it did not';

COMMENT ON TABLE mart.clusters IS 'Learned operating regimes; retired ones are kept and their keys never used again';
COMMENT ON COLUMN mart.clusters.cluster_key IS 'Key of the regime, minted once; also the Dagster partition';
COMMENT ON COLUMN mart.clusters.segment IS 'Process condition that the regime belongs to';
COMMENT ON COLUMN mart.clusters.weight IS 'Share of the readings of the segment, 0 to 1';
COMMENT ON COLUMN mart.clusters.status IS 'active or retired';
COMMENT ON COLUMN mart.clusters.cluster_model_id IS 'SHA-256 of the cluster model that the regime is in, or was last in';
COMMENT ON COLUMN mart.clusters.minted_at IS 'When the key was minted, UTC';
COMMENT ON COLUMN mart.clusters.retired_at IS 'When the regime was retired, UTC';
COMMENT ON COLUMN mart.clusters.found_from IS 'Time from which a regime that a person added is learned, UTC; NULL: the window of [training]';

COMMENT ON TABLE mart.cluster_lineage IS 'What became of the regimes each time they were found again: kept, changed, split, merged, new, retired';
COMMENT ON COLUMN mart.cluster_lineage.cluster_model_id IS 'Cluster model that came into use';
COMMENT ON COLUMN mart.cluster_lineage.cluster_key IS 'Regime in that model; of relation retired: the one that is no longer in it';
COMMENT ON COLUMN mart.cluster_lineage.former_key IS 'Regime of the model before that readings came from; NULL if new or retired';
COMMENT ON COLUMN mart.cluster_lineage.overlap IS 'Readings in both over readings in either of the two, 0 to 1';
COMMENT ON COLUMN mart.cluster_lineage.relation IS 'kept (its flow stays valid), changed, split, merged, new or retired';
COMMENT ON COLUMN mart.cluster_lineage.recorded_at IS 'When the cluster model came into use, UTC';

COMMENT ON TABLE mart.flow_versions IS 'Every flow ever trained: the registry of models';
COMMENT ON COLUMN mart.flow_versions.flow_version IS 'SHA-256 of the model file';
COMMENT ON COLUMN mart.flow_versions.cluster_key IS 'Regime that the flow describes';
COMMENT ON COLUMN mart.flow_versions.cluster_model_id IS 'Cluster model that gave it its readings';
COMMENT ON COLUMN mart.flow_versions.in_force IS 'TRUE for the one version that scores the regime now';
COMMENT ON COLUMN mart.flow_versions.trained_at IS 'When it was trained, UTC';
COMMENT ON COLUMN mart.flow_versions.trained_from IS 'Time of the first reading that it learned from, UTC';
COMMENT ON COLUMN mart.flow_versions.trained_until IS 'Time of the last reading that it learned from, UTC';
COMMENT ON COLUMN mart.flow_versions.n_rows IS 'Readings that it learned from';
COMMENT ON COLUMN mart.flow_versions.n_held_out IS 'Readings that stopped the training early';
COMMENT ON COLUMN mart.flow_versions.held_out_log_density IS 'Mean log-density of those, in nats, in the raw units of the sensors';
COMMENT ON COLUMN mart.flow_versions.train_seconds IS 'Wall time of the training, in seconds';
COMMENT ON COLUMN mart.flow_versions.is_gaussian IS 'TRUE if the regime had too few readings for a flow, or a flow was no better';
COMMENT ON COLUMN mart.flow_versions.settings IS 'Hyperparameters, JSON';
COMMENT ON COLUMN mart.flow_versions.data_hash IS 'SHA-256 of the readings and weights that it learned from';
COMMENT ON COLUMN mart.flow_versions.promoted_at IS 'When it last came into use, UTC; NULL if it never was';
COMMENT ON COLUMN mart.flow_versions.promoted_by IS 'Who or what put it in use';
COMMENT ON COLUMN mart.flow_versions.reason IS 'Why it was trained';
COMMENT ON COLUMN mart.flow_versions.training_window IS 'What it could learn from, JSON: start, until and first_rows as in [training], max_rows, and whether anomalies in events were left out';
COMMENT ON COLUMN mart.flow_versions.random_state IS 'Seed of the training';
COMMENT ON COLUMN mart.flow_versions.file_deleted_at IS 'When its model file was deleted by models.keep_days, UTC; NULL while it is kept';

COMMENT ON VIEW mart.source_files IS 'The files that the readings come from, each as it was read last: what arrived';
COMMENT ON COLUMN mart.source_files.file_id IS 'Number of the file';
COMMENT ON COLUMN mart.source_files.file IS 'Its path';
COMMENT ON COLUMN mart.source_files.n_rows IS 'Rows that arrived in it, malformed lines included';
COMMENT ON COLUMN mart.source_files.ingested_at IS 'When it was read, UTC';

COMMENT ON TABLE mart.rejected_readings IS 'Rows and values that were refused, with the reason; nothing that arrived is lost';
COMMENT ON COLUMN mart.rejected_readings.file IS 'File that it came from';
COMMENT ON COLUMN mart.rejected_readings.file_id IS 'Number of that file';
COMMENT ON COLUMN mart.rejected_readings.row_number IS 'Row of that file, from 1';
COMMENT ON COLUMN mart.rejected_readings.machine_id IS 'Machine, as the source names it';
COMMENT ON COLUMN mart.rejected_readings.ts IS 'Timestamp as it arrived';
COMMENT ON COLUMN mart.rejected_readings.sensor IS 'Sensor whose value was refused; NULL if the whole row was';
COMMENT ON COLUMN mart.rejected_readings.value IS 'Refused value or line, as text';
COMMENT ON COLUMN mart.rejected_readings.reason IS 'missing_machine, missing_timestamp, unreadable_timestamp, naive_timestamp, unknown_time_zone, ambiguous_timestamp, nonexistent_timestamp, future_timestamp, beyond_retention, duplicate, malformed_line, not_a_number, infinite, not_physical, below_limit, above_limit or bad_quality';
COMMENT ON COLUMN mart.rejected_readings.detail IS 'The reason in words';
COMMENT ON COLUMN mart.rejected_readings.kept_file_id IS 'For a duplicate: the file whose reading was kept';
COMMENT ON COLUMN mart.rejected_readings.rejected_at IS 'When, UTC';

COMMENT ON TABLE mart.cluster_health IS 'What is known per night and regime: readings that could not be judged, alarms, evidence of drift';
COMMENT ON COLUMN mart.cluster_health.night IS 'Calendar day in the time zone of the schedule';
COMMENT ON COLUMN mart.cluster_health.cluster_key IS 'Operating regime; NULL for readings that could not be given to one, and for a mix of regimes';
COMMENT ON COLUMN mart.cluster_health.channel IS 'missing, invalid, stuck or thin (not judged), filled or partial (judged with gaps), alarms; drift (all evidence that the regime moved) and its parts log_density, latent_1 and so on, improbable; mix of SEGMENT';
COMMENT ON COLUMN mart.cluster_health.evidence IS 'log10 of the e-value that the regime moved, or the mix, at least -1; NULL in channels that count readings';
COMMENT ON COLUMN mart.cluster_health.threshold IS 'Evidence from which it has moved, by drift.false_refits_per_5_years, log10; NULL in channels that count readings';
COMMENT ON COLUMN mart.cluster_health.verdict IS 'normal, exceeded, refit_failed (it moved, and three runs failed to retrain it), or counted where there is no threshold';
COMMENT ON COLUMN mart.cluster_health.n_readings IS 'Readings that the channel counts: those not judged, those with gaps, those that alarm; of drift: those that it was drawn from';
COMMENT ON COLUMN mart.cluster_health.share IS 'Share of the readings of the regime on that day that the channel counts, of all readings where there is no regime, 0 to 1; of alarms: share of the scored readings; NULL in channels of drift';
COMMENT ON COLUMN mart.cluster_health.share_threshold IS 'Share of alarms that is too large: ten times alpha, 0 to 1; NULL in all other channels';

COMMENT ON TABLE mart.drift_verdicts IS 'What the evidence of drift came to, one row per finding, with what is to be done about it';
COMMENT ON COLUMN mart.drift_verdicts.verdict_id IS 'Made from night, verdict and regimes: the same finding has the same one when a night is replayed';
COMMENT ON COLUMN mart.drift_verdicts.night IS 'Calendar day in the time zone of the schedule on which the evidence sufficed';
COMMENT ON COLUMN mart.drift_verdicts.verdict IS 'What happened: one of the kinds of verdict, see docs/reference/verdicts.md';
COMMENT ON COLUMN mart.drift_verdicts.cluster_keys IS 'Operating regimes that it is about';
COMMENT ON COLUMN mart.drift_verdicts.machine_ids IS 'Machines that it is about';
COMMENT ON COLUMN mart.drift_verdicts.sensors IS 'Sensors that moved, the one that moved most first';
COMMENT ON COLUMN mart.drift_verdicts.since IS 'Day on which it began, as the evidence has it';
COMMENT ON COLUMN mart.drift_verdicts.effect_size IS 'Largest shift, in standard deviations of a reading within its regime; of a mix or an outage: share of the readings';
COMMENT ON COLUMN mart.drift_verdicts.summary IS 'What happened, as a sentence';
COMMENT ON COLUMN mart.drift_verdicts.answer IS 'retrain, update_weights, ask (a person decides) or none';
COMMENT ON COLUMN mart.drift_verdicts.status IS 'open, requested (a run is to answer it), done, failed or dismissed';
COMMENT ON COLUMN mart.drift_verdicts.decided_at IS 'When the status last changed, UTC';
COMMENT ON COLUMN mart.drift_verdicts.decided_by IS 'Who or what changed it';
COMMENT ON COLUMN mart.drift_verdicts.made_at IS 'When the verdict was made, UTC';
COMMENT ON COLUMN mart.drift_verdicts.run_id IS 'Dagster run that took it on, or that changed it last';
COMMENT ON COLUMN mart.drift_verdicts.ended IS 'Day after which it was closed by itself, because what it tells of was over; NULL otherwise';

COMMENT ON TABLE mart.verdict_changes IS 'Every change of the status of a verdict on drift, by whom and why';
COMMENT ON COLUMN mart.verdict_changes.verdict_id IS 'The verdict, see drift_verdicts';
COMMENT ON COLUMN mart.verdict_changes.from_status IS 'Its status before; NULL for a verdict that was made';
COMMENT ON COLUMN mart.verdict_changes.to_status IS 'Its status from then on: open, requested, done, failed or dismissed';
COMMENT ON COLUMN mart.verdict_changes.changed_at IS 'When, UTC';
COMMENT ON COLUMN mart.verdict_changes.changed_by IS 'Who or what changed it';
COMMENT ON COLUMN mart.verdict_changes.run_id IS 'Dagster run in which it changed; NULL outside of runs';
COMMENT ON COLUMN mart.verdict_changes.reason IS 'Why';

COMMENT ON TABLE mart.stretch_changes IS 'Every decision about an unusual stretch, and every one that was taken back, by whom and why';
COMMENT ON COLUMN mart.stretch_changes.stretch_id IS 'The stretch, see unusual_stretches';
COMMENT ON COLUMN mart.stretch_changes.from_status IS 'Its status before: open, fault or normal';
COMMENT ON COLUMN mart.stretch_changes.to_status IS 'Its status from then on; open if a decision was taken back';
COMMENT ON COLUMN mart.stretch_changes.changed_at IS 'When, UTC';
COMMENT ON COLUMN mart.stretch_changes.changed_by IS 'Who decided';
COMMENT ON COLUMN mart.stretch_changes.run_id IS 'Dagster run in which it was decided; NULL outside of runs';
COMMENT ON COLUMN mart.stretch_changes.reason IS 'Why';

COMMENT ON TABLE mart.detectability IS 'What each regime in use sees of each sensor: the smallest faults that raise an alarm with 90% probability, found by probing it';
COMMENT ON COLUMN mart.detectability.cluster_key IS 'Operating regime';
COMMENT ON COLUMN mart.detectability.flow_version IS 'Its flow';
COMMENT ON COLUMN mart.detectability.sensor IS 'Sensor';
COMMENT ON COLUMN mart.detectability.unit IS 'Unit of the sensor';
COMMENT ON COLUMN mart.detectability.spread IS 'Standard deviation of the sensor in the regime, in its unit; NULL if there were too few held-out readings to probe with';
COMMENT ON COLUMN mart.detectability.shift IS 'Smallest lasting shift, up or down, that alarms, and so do all larger ones, in the unit of the sensor; NULL if none does';
COMMENT ON COLUMN mart.detectability.shift_sigma IS 'The same in standard deviations; NULL also where the sensor is constant';
COMMENT ON COLUMN mart.detectability.spike IS 'Smallest error of a single reading, up or down, that alarms, in the unit of the sensor; NULL if none does';
COMMENT ON COLUMN mart.detectability.spike_sigma IS 'The same in standard deviations; NULL also where the sensor is constant';
COMMENT ON COLUMN mart.detectability.is_blind IS 'Whether some lasting shifts of ten standard deviations or more raise no alarm';
COMMENT ON COLUMN mart.detectability.reason IS 'Why it is blind: few_readings (nothing alarms there), other_regime (shifted readings are normal in another regime), unjudged_regime (they are taken for a regime that judges nothing yet) or calibration (held-out readings are as improbable); NULL where it is not';
COMMENT ON COLUMN mart.detectability.hidden_by IS 'Regime that shifted readings are taken for; NULL if that is their own';
COMMENT ON COLUMN mart.detectability.n_readings IS 'Held-out readings that it was probed with';
COMMENT ON COLUMN mart.detectability.alpha IS 'p-value at or below which a reading was an anomaly';
COMMENT ON COLUMN mart.detectability.min_readings IS 'Anomalies in a row that were an event; one reading suffices if its p-value is at most a hundredth of alpha';
COMMENT ON COLUMN mart.detectability.model_set_id IS 'Clusters, weights and flows that judged';
COMMENT ON COLUMN mart.detectability.probed_at IS 'When, UTC';

COMMENT ON TABLE mart.flow_decisions IS 'Every decision about a flow: promoted, refused or rolled back, by whom and why';
COMMENT ON COLUMN mart.flow_decisions.decided_at IS 'When, UTC';
COMMENT ON COLUMN mart.flow_decisions.cluster_key IS 'Operating regime';
COMMENT ON COLUMN mart.flow_decisions.flow_version IS 'Flow that it is about: the new one, or the one that was returned to';
COMMENT ON COLUMN mart.flow_decisions.decision IS 'promoted, refused (the one before stays in use) or rolled_back';
COMMENT ON COLUMN mart.flow_decisions.previous_version IS 'Flow that was in use before; NULL for the first one of a regime';
COMMENT ON COLUMN mart.flow_decisions.n_recent IS 'Recent held-out readings on which both were compared; NULL if they were not';
COMMENT ON COLUMN mart.flow_decisions.gain_recent IS 'How much better the new one describes those, in nats per reading';
COMMENT ON COLUMN mart.flow_decisions.gain_recent_error IS 'Standard error of that gain, in nats per reading';
COMMENT ON COLUMN mart.flow_decisions.gain_reference IS 'How much better the new one describes the held-out readings of the old one, in nats per reading';
COMMENT ON COLUMN mart.flow_decisions.decided_by IS 'Who or what decided';
COMMENT ON COLUMN mart.flow_decisions.reason IS 'Why';
COMMENT ON COLUMN mart.flow_decisions.run_id IS 'Dagster run in which it was decided, or which started that one; NULL outside of runs';

COMMENT ON TABLE mart.model_comparison IS 'What `pwflow poc` found last: pwflow with several numbers of regimes beside simpler models, on the readings of the plant';
COMMENT ON COLUMN mart.model_comparison.model IS 'pwflow_K with K regimes, single (one global flow), mixture_base and resampled_base (flows with such a base), gmm (Gaussian mixture), gaussian (one), isolation_forest or knn';
COMMENT ON COLUMN mart.model_comparison.n_regimes IS 'Regimes of pwflow, over the whole plant; NULL of the others';
COMMENT ON COLUMN mart.model_comparison.is_recommended IS 'TRUE for the model to use; for none if there is too little data';
COMMENT ON COLUMN mart.model_comparison.recommendation IS 'use_pwflow, one_regime, no_flows or too_little_data; the same in every row';
COMMENT ON COLUMN mart.model_comparison.reason IS 'Why, as sentences; the same in every row';
COMMENT ON COLUMN mart.model_comparison.n_learned IS 'Readings that the model learned from';
COMMENT ON COLUMN mart.model_comparison.n_held_out IS 'Held-out readings that it was asked to describe';
COMMENT ON COLUMN mart.model_comparison.held_out_log_density IS 'Mean log-density of those, in nats, in the raw units of the sensors; NULL of isolation_forest and knn';
COMMENT ON COLUMN mart.model_comparison.held_out_error IS 'Its standard error, in nats';
COMMENT ON COLUMN mart.model_comparison.bridge_mass IS 'Share of what the model generates that is farther from any reading than 99% of new ones; below 0 by chance';
COMMENT ON COLUMN mart.model_comparison.fault_source IS 'labelled, or injected into held-out readings';
COMMENT ON COLUMN mart.model_comparison.n_faults IS 'Faults to be found';
COMMENT ON COLUMN mart.model_comparison.n_found IS 'Faults that an event touches';
COMMENT ON COLUMN mart.model_comparison.false_alarms_per_week IS 'Events that touch no fault, in a week of the plant';
COMMENT ON COLUMN mart.model_comparison.false_alarms_error IS 'Standard error of that, by counting';
COMMENT ON COLUMN mart.model_comparison.alpha IS 'p-value at or below which a reading was an anomaly';
COMMENT ON COLUMN mart.model_comparison.train_cpu_seconds IS 'CPU time of learning everything, in seconds';
COMMENT ON COLUMN mart.model_comparison.train_seconds IS 'The same on the clock, in seconds';
COMMENT ON COLUMN mart.model_comparison.partial_refit_cpu_seconds IS 'CPU time of learning one regime again, in seconds; of everything, where there is one only';
COMMENT ON COLUMN mart.model_comparison.peak_memory_mb IS 'Most memory of the process until it had learned, in MB';
COMMENT ON COLUMN mart.model_comparison.added_memory_mb IS 'What learning added to that, in MB';
COMMENT ON COLUMN mart.model_comparison.nightly_cpu_seconds IS 'CPU time of scoring a night of the plant, in seconds';
COMMENT ON COLUMN mart.model_comparison.yearly_cost IS 'False alarms, missed events and computing in a year; NULL without [costs]';
COMMENT ON COLUMN mart.model_comparison.currency IS 'Currency of that';
COMMENT ON COLUMN mart.model_comparison.error IS 'Why there are no figures; NULL if there are';
COMMENT ON COLUMN mart.model_comparison.made_at IS 'When the comparison was made, UTC';
