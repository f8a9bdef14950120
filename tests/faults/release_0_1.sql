-- The tables of a warehouse of release 0.1, as that release made them: without a number of its layout.

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

ALTER TABLE core.readings ADD COLUMN IF NOT EXISTS reason VARCHAR;

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

CREATE TABLE IF NOT EXISTS core.cluster_models (
    cluster_model_id VARCHAR,
    fitted_at TIMESTAMP,
    n_rows BIGINT,
    settings VARCHAR,
    in_force BOOLEAN
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
    company DOUBLE,
    threshold DOUBLE,
    threshold_p_value DOUBLE,
    tail_scale DOUBLE,
    tail_shape DOUBLE,
    calibrated_at TIMESTAMP
);

CREATE TABLE IF NOT EXISTS core.calibration_steps (
    cluster_key VARCHAR,
    flow_version VARCHAR,
    log_density DOUBLE,
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
    retired_at TIMESTAMP
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
    reason VARCHAR
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

-- The scores that the rows of a night in mart.cluster_health were derived from.
CREATE TABLE IF NOT EXISTS core.health_nights (night DATE, n_scores BIGINT, last_scored_at TIMESTAMP);

COMMENT ON TABLE core.readings IS 'Valid readings: one row per machine and time, values within physical limits';
COMMENT ON COLUMN core.readings.reading_id IS 'Identifier made from machine and time: the same reading has the same one in every warehouse';
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

COMMENT ON TABLE core.cluster_assignments IS 'Candidate regimes of every reading: the regimes that could have produced it';
COMMENT ON COLUMN core.cluster_assignments.cluster_key IS 'Operating regime';
COMMENT ON COLUMN core.cluster_assignments.reading_id IS 'Reading';
COMMENT ON COLUMN core.cluster_assignments.responsibility IS 'Probability of the regime given the reading, by the cluster model, 0 to 1';

COMMENT ON TABLE core.component_log_density IS 'Log-density of readings in their candidate regimes: one slice per regime';
COMMENT ON COLUMN core.component_log_density.cluster_key IS 'Operating regime';
COMMENT ON COLUMN core.component_log_density.reading_id IS 'Reading';
COMMENT ON COLUMN core.component_log_density.log_density IS 'log p_k(x) in nats, in the raw units of the sensors';
COMMENT ON COLUMN core.component_log_density.conformity IS 'How well the reading conforms to the flow alone, in nats: what p-values rank';
COMMENT ON COLUMN core.component_log_density.flow_version IS 'Flow that gave it';
COMMENT ON COLUMN core.component_log_density.scored_at IS 'When, UTC';

COMMENT ON TABLE mart.anomaly_scores IS 'Every reading with its calibrated probability, or with the reason why it has none';
COMMENT ON COLUMN mart.anomaly_scores.reading_id IS 'Identifier of the reading, stable across runs';
COMMENT ON COLUMN mart.anomaly_scores.machine_id IS 'Machine, as the source names it';
COMMENT ON COLUMN mart.anomaly_scores.ts IS 'Time of the reading, UTC';
COMMENT ON COLUMN mart.anomaly_scores.segment IS 'Known process condition; "all" where none is configured';
COMMENT ON COLUMN mart.anomaly_scores.cluster_key IS 'Most probable operating regime; NULL if the reading could not be assigned';
COMMENT ON COLUMN mart.anomaly_scores.log_density IS 'Mixture log-density log p(x) within the segment, in nats, in the raw units of the sensors';
COMMENT ON COLUMN mart.anomaly_scores.p_value IS 'Share of normal readings of the regime that are at least as improbable, above 0, at most 1';
COMMENT ON COLUMN mart.anomaly_scores.anomaly_score IS 'Minus log10 of p_value: 3 means one normal reading in a thousand';
COMMENT ON COLUMN mart.anomaly_scores.is_anomaly IS 'p_value is at most alpha, the false-alarm rate of scoring.alpha or scoring.alarms_per_week; NULL if the reading was not scored';
COMMENT ON COLUMN mart.anomaly_scores.status IS 'scored, missing, invalid, stuck or thin; only scored readings have numbers';
COMMENT ON COLUMN mart.anomaly_scores.reason IS 'Why the reading was not judged, or what was filled in; NULL for an ordinary reading';
COMMENT ON COLUMN mart.anomaly_scores.flow_version IS 'Flow of the regime that gave the score, see flow_versions';
COMMENT ON COLUMN mart.anomaly_scores.model_set_id IS 'The clusters, weights and flows in force when the reading was scored';
COMMENT ON COLUMN mart.anomaly_scores.scored_at IS 'When the score was computed, UTC';

COMMENT ON TABLE mart.sensor_contributions IS 'Which sensors are to blame for each anomaly: one row per anomaly and sensor';
COMMENT ON COLUMN mart.sensor_contributions.reading_id IS 'Reading that is an anomaly, see anomaly_scores';
COMMENT ON COLUMN mart.sensor_contributions.machine_id IS 'Machine, as the source names it';
COMMENT ON COLUMN mart.sensor_contributions.ts IS 'Time of the reading, UTC';
COMMENT ON COLUMN mart.sensor_contributions.sensor IS 'Name of the sensor';
COMMENT ON COLUMN mart.sensor_contributions.contribution IS 'Part of the anomaly_score that the sensor is to blame for; those of a reading add up to its score';
COMMENT ON COLUMN mart.sensor_contributions.expected IS 'What the sensor should have read given the other sensors, in its unit';
COMMENT ON COLUMN mart.sensor_contributions.observed IS 'What it read, in its unit';
COMMENT ON COLUMN mart.sensor_contributions.expected_low IS 'Lower end of what was expected: one normal reading in twenty is below, in its unit';
COMMENT ON COLUMN mart.sensor_contributions.expected_high IS 'Upper end of what was expected: one normal reading in twenty is above, in its unit';
COMMENT ON COLUMN mart.sensor_contributions.unit IS 'Unit of the sensor; empty if the configuration names none';
COMMENT ON COLUMN mart.sensor_contributions.cluster_key IS 'Regime that the expectation is for: the one that suits the other sensors';
COMMENT ON COLUMN mart.sensor_contributions.scored_at IS 'Score that it explains: scored_at of anomaly_scores, UTC';

COMMENT ON TABLE mart.anomaly_events IS 'Anomalies of a machine that follow each other closely, as one event with a plain sentence';
COMMENT ON COLUMN mart.anomaly_events.event_id IS 'reading_id of the first anomaly: an event that goes on keeps its identifier';
COMMENT ON COLUMN mart.anomaly_events.machine_id IS 'Machine, as the source names it';
COMMENT ON COLUMN mart.anomaly_events.started_at IS 'Time of the first anomaly, UTC';
COMMENT ON COLUMN mart.anomaly_events.ended_at IS 'Time of the last anomaly, UTC';
COMMENT ON COLUMN mart.anomaly_events.peak_score IS 'Largest anomaly_score of the event';
COMMENT ON COLUMN mart.anomaly_events.n_readings IS 'Anomalies in the event';
COMMENT ON COLUMN mart.anomaly_events.cluster_key IS 'Operating regime of the reading with the largest score';
COMMENT ON COLUMN mart.anomaly_events.top_sensors IS 'Up to three sensors with at least a tenth of the blame, by contribution summed over the event';
COMMENT ON COLUMN mart.anomaly_events.segment IS 'Known process condition of the reading with the largest score';
COMMENT ON COLUMN mart.anomaly_events.summary IS 'What happened, as a sentence: what the sensors to blame read at their worst, and what was expected';

COMMENT ON TABLE mart.clusters IS 'Learned operating regimes; retired ones are kept and their keys never used again';
COMMENT ON COLUMN mart.clusters.cluster_key IS 'Key of the regime, minted once; also the Dagster partition';
COMMENT ON COLUMN mart.clusters.segment IS 'Process condition that the regime belongs to';
COMMENT ON COLUMN mart.clusters.weight IS 'Share of the readings of the segment, 0 to 1';
COMMENT ON COLUMN mart.clusters.status IS 'active or retired';
COMMENT ON COLUMN mart.clusters.cluster_model_id IS 'SHA-256 of the cluster model that the regime is in, or was last in';
COMMENT ON COLUMN mart.clusters.minted_at IS 'When the key was minted, UTC';
COMMENT ON COLUMN mart.clusters.retired_at IS 'When the regime was retired, UTC';

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
COMMENT ON COLUMN mart.flow_versions.promoted_at IS 'When it came into force, UTC';
COMMENT ON COLUMN mart.flow_versions.promoted_by IS 'Who or what put it in force';
COMMENT ON COLUMN mart.flow_versions.reason IS 'Why it was trained';

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
COMMENT ON COLUMN mart.rejected_readings.reason IS 'missing_timestamp, unreadable_timestamp, naive_timestamp, duplicate, malformed_line, not_a_number, infinite, below_limit or above_limit';
COMMENT ON COLUMN mart.rejected_readings.detail IS 'The reason in words';
COMMENT ON COLUMN mart.rejected_readings.kept_file_id IS 'For a duplicate: the file whose reading was kept';
COMMENT ON COLUMN mart.rejected_readings.rejected_at IS 'When, UTC';

COMMENT ON TABLE mart.cluster_health IS 'What is known per night and regime: readings that could not be judged, alarms';
COMMENT ON COLUMN mart.cluster_health.night IS 'Calendar day in the time zone of the schedule';
COMMENT ON COLUMN mart.cluster_health.cluster_key IS 'Operating regime; NULL for readings that could not be given to one';
COMMENT ON COLUMN mart.cluster_health.channel IS 'missing, invalid, stuck or thin (not judged), filled or partial (judged with gaps), alarms';
COMMENT ON COLUMN mart.cluster_health.evidence IS 'Share of the readings of the regime in that night, of all readings where there is no regime, 0 to 1; of alarms: share of the scored readings';
COMMENT ON COLUMN mart.cluster_health.threshold IS 'What the evidence is compared with, ten times alpha for alarms; NULL if it is only counted';
COMMENT ON COLUMN mart.cluster_health.verdict IS 'normal, exceeded, or counted where there is no threshold';
COMMENT ON COLUMN mart.cluster_health.n_readings IS 'Readings that the channel counts: those not judged, those with gaps, those that alarm';
