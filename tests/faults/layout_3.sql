-- The tables of a warehouse of layout 3, of November 2026, as its release made them; their comments are left out.

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
    ingested_at TIMESTAMP
);

CREATE TABLE IF NOT EXISTS ingest.raw_readings (
    file_id BIGINT,
    row_number BIGINT,
    ts VARCHAR,
    machine_id VARCHAR,
    segment VARCHAR,
    refused_values MAP(VARCHAR, VARCHAR)
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
    scored_at TIMESTAMP
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

CREATE TABLE IF NOT EXISTS mart.anomaly_events (
    event_id BIGINT,
    machine_id VARCHAR,
    started_at TIMESTAMP,
    ended_at TIMESTAMP,
    peak_score DOUBLE,
    n_readings BIGINT,
    cluster_key VARCHAR,
    top_sensors VARCHAR[],
    segment VARCHAR,
    summary VARCHAR
);

CREATE TABLE IF NOT EXISTS mart.cluster_health (
    night DATE,
    cluster_key VARCHAR,
    channel VARCHAR,
    evidence DOUBLE,
    threshold DOUBLE,
    verdict VARCHAR,
    n_readings BIGINT
);

-- Means of the readings of a regime over blocks of time, by which drift is followed: what the flow in force makes of
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
    made_at TIMESTAMP
);

-- Machines that moved in a regime while others held still: a fault, until a person dismisses the verdict. No refit learns
-- from their readings.
CREATE OR REPLACE VIEW core.suspects AS
SELECT machine_id, cluster_key, since
FROM mart.drift_verdicts
CROSS JOIN unnest(machine_ids) AS machines (machine_id)
CROSS JOIN unnest(cluster_keys) AS regimes (cluster_key)
WHERE verdict = 'machine_moved' AND status = 'open';

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
    reason VARCHAR
);

-- Times of a machine whose anomalies a person has said to be normal: refits may learn from them.
CREATE TABLE IF NOT EXISTS core.confirmations (
    machine_id VARCHAR,
    started_at TIMESTAMP,
    ended_at TIMESTAMP,
    event_id BIGINT,
    confirmed_by VARCHAR,
    confirmed_at TIMESTAMP
);

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

-- The scores that the rows of a night in mart.cluster_health were derived from.
CREATE TABLE IF NOT EXISTS core.health_nights (night DATE, n_scores BIGINT, last_scored_at TIMESTAMP);


UPDATE core.warehouse_state SET schema_version = 3;
