-- What the watch has found since the night, with the state and the positions after it. Times are µs since 1970, UTC.

CREATE TABLE IF NOT EXISTS live_scores (
    reading_id INTEGER PRIMARY KEY,
    machine_id TEXT NOT NULL,
    ts INTEGER NOT NULL,
    segment TEXT NOT NULL,
    cluster_key TEXT,
    log_density REAL,
    p_value REAL,
    anomaly_score REAL,
    is_anomaly INTEGER,
    status TEXT NOT NULL,
    reason TEXT,
    flow_version TEXT,
    model_set_id TEXT NOT NULL,
    scored_at INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS live_scores_by_time ON live_scores (machine_id, ts);

CREATE TABLE IF NOT EXISTS live_contributions (
    reading_id INTEGER NOT NULL,
    machine_id TEXT NOT NULL,
    ts INTEGER NOT NULL,
    sensor TEXT NOT NULL,
    contribution REAL,
    expected REAL,
    observed REAL,
    expected_low REAL,
    expected_high REAL,
    unit TEXT,
    cluster_key TEXT,
    scored_at INTEGER NOT NULL,
    PRIMARY KEY (reading_id, sensor)
) WITHOUT ROWID;

-- Events with live readings, as the steps of the nightly job find them, each with its case.
DROP TABLE IF EXISTS live_events;  -- of layout 1, with numbers for ids: it is filled again
CREATE TABLE live_events (event_id TEXT PRIMARY KEY, event TEXT NOT NULL);

CREATE TABLE IF NOT EXISTS positions (
    source TEXT NOT NULL,
    place TEXT NOT NULL,
    position TEXT NOT NULL,
    PRIMARY KEY (source, place)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS facts (fact TEXT PRIMARY KEY, value) WITHOUT ROWID;
