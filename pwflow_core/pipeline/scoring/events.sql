-- From anomalies to events by the rule of event_rule.sql, derived as a whole. Binds $max_gap_minutes,
-- $default_gap_intervals, $min_readings, $rare_factor, $reach_readings (how far features over time look back) and
-- $segment_columns.

CREATE OR REPLACE TEMP MACRO decimals_for(width) AS
    CASE WHEN width > 0 THEN greatest(0, least(99, -floor(log10(width / 2))::INTEGER)) ELSE 0 END;

CREATE OR REPLACE TEMP MACRO figure(x, decimals) AS
    CASE
        WHEN abs(x) >= 1e9 THEN format('{:.3g}', x)
        WHEN decimals > 7 AND abs(x) < 0.001 THEN CASE WHEN x = 0 THEN '0' ELSE format(
            ['{:.1e}', '{:.2e}', '{:.3e}', '{:.4e}', '{:.5e}'][
                greatest(1, least(5, decimals + floor(log10(abs(x)))::INTEGER))
            ],
            x
        ) END
        ELSE format(
            ['{:,.0f}', '{:,.1f}', '{:,.2f}', '{:,.3f}', '{:,.4f}', '{:,.5f}', '{:,.6f}', '{:,.7f}'][
                least(decimals, 7) + 1
            ],
            round(x, least(decimals, 7)) + 0.0  -- no minus zero
        )
    END;

CREATE OR REPLACE TEMP MACRO with_unit(text, unit) AS text || CASE WHEN unit = '' THEN '' ELSE ' ' || unit END;

-- A value that is one of few, or the only one.
CREATE OR REPLACE TEMP MACRO state_text(x) AS format('{:.7g}', x);

CREATE OR REPLACE TEMP MACRO range_text(low, high, decimals) AS
    CASE
        WHEN low = high THEN state_text(low)
        WHEN figure(low, decimals) = figure(high, decimals) THEN 'about ' || figure(low, decimals)
        ELSE figure(low, decimals) || ' to ' || figure(high, decimals)
    END;

CREATE OR REPLACE TEMP MACRO duration_text(seconds) AS
    CASE
        WHEN seconds < 120 THEN round(seconds)::BIGINT || ' seconds'
        WHEN seconds < 7200 THEN round(seconds / 60)::BIGINT || ' minutes'
        WHEN seconds < 172800 THEN round(seconds / 3600)::BIGINT || ' hours'
        ELSE round(seconds / 86400)::BIGINT || ' days'
    END;

-- The usual time from one reading of a machine to the next.
CREATE TEMP TABLE intervals AS
SELECT machine_id, median(seconds) AS usual_seconds
FROM (
    SELECT machine_id, epoch(ts - lag(ts) OVER (PARTITION BY machine_id ORDER BY ts)) AS seconds
    FROM mart.anomaly_scores
)
GROUP BY machine_id;

CREATE TEMP TABLE anomalies AS
WITH spaced AS (
    SELECT
        score.*,
        intervals.usual_seconds,
        epoch(score.ts - lag(score.ts) OVER (PARTITION BY score.machine_id ORDER BY score.ts)) AS pause_seconds
    FROM mart.anomaly_scores AS score
    LEFT JOIN intervals USING (machine_id)
    WHERE score.is_anomaly
)
SELECT
    * EXCLUDE (pause_seconds),
    event_number(
        machine_id, ts, pause_seconds, coalesce(60 * $max_gap_minutes::DOUBLE, $default_gap_intervals * usual_seconds)
    ) AS number
FROM spaced;

CREATE TEMP TABLE found AS
SELECT
    machine_id,
    number,
    arg_min(reading_id, ts) AS reading_id,
    min(ts) AS started_at,
    max(ts) AS ended_at,
    max(anomaly_score) AS peak_score,
    count(*) AS n_readings,
    coalesce(any_value(usual_seconds), 0) AS usual_seconds,
    first({'cluster_key': cluster_key, 'segment': segment} ORDER BY anomaly_score DESC, ts) AS peak
FROM anomalies
GROUP BY machine_id, number
HAVING is_event(
    p_value,
    (SELECT max(alpha) FROM core.model_sets WHERE model_sets.model_set_id = anomalies.model_set_id),
    $min_readings,
    $rare_factor
);

CREATE TEMP TABLE first_anomalies AS SELECT reading_id, started_at AS ts FROM found;

/*event_ids*/

CREATE TEMP TABLE events AS
SELECT ids.event_id, found.* EXCLUDE (reading_id) FROM found JOIN core.event_ids AS ids USING (reading_id);

-- Each sensor's blame over the event, and what it read when it was furthest from what was expected.
CREATE TEMP TABLE blame AS
WITH summed AS (
    SELECT
        events.event_id,
        part.sensor,
        sum(part.contribution) AS contribution,
        arg_max(
            part,
            row(
                part.contribution * abs(part.observed - part.expected)
                    / greatest(part.expected_high - part.expected_low, 1e-300),
                -epoch_us(part.ts)
            )
        ) AS worst
    FROM events
    JOIN anomalies USING (machine_id, number)
    JOIN mart.sensor_contributions AS part
      ON part.reading_id = anomalies.reading_id AND part.scored_at = anomalies.scored_at
    GROUP BY events.event_id, part.sensor
)
SELECT
    event_id,
    sensor,
    contribution / greatest(sum(contribution) OVER of_event, 1e-300) AS share,
    row_number() OVER (of_event ORDER BY contribution DESC, sensor) AS place,
    worst
FROM summed
WINDOW of_event AS (PARTITION BY event_id);

-- Features over time look back at a fault that is over. An event lasted until the last reading at which the first sensor to
-- blame was itself about as far off as at its worst, and no less than its anomalies go beyond that look back.
CREATE TEMP TABLE durations AS
WITH off AS (
    SELECT
        blame.event_id,
        part.ts,
        abs(part.observed - part.expected) AS distance,
        max(abs(part.observed - part.expected)) OVER (PARTITION BY blame.event_id) AS furthest
    FROM blame
    JOIN events USING (event_id)
    JOIN anomalies USING (machine_id, number)
    JOIN mart.sensor_contributions AS part
      ON part.reading_id = anomalies.reading_id
     AND part.scored_at = anomalies.scored_at
     AND part.sensor = blame.sensor
    WHERE blame.place = 1 AND $reach_readings > 0
), last_off AS (
    SELECT event_id, max(ts) FILTER (distance >= 0.5 * furthest) AS ts FROM off GROUP BY event_id
)
SELECT
    events.event_id,
    CASE WHEN $reach_readings > 0 THEN greatest(
        events.started_at,
        events.ended_at - to_microseconds((1e6 * $reach_readings * events.usual_seconds)::BIGINT),
        coalesce(last_off.ts, events.started_at)
    ) ELSE events.ended_at END AS lasted_until
FROM events
LEFT JOIN last_off USING (event_id);

CREATE TEMP TABLE words AS
WITH described AS (
    SELECT
        *,
        worst.expected_high - worst.expected_low AS width,
        replace(sensor, '_', ' ') || ' ' AS name
    FROM blame
)
SELECT
    event_id,
    list(sensor ORDER BY place) FILTER (place = 1 OR (place <= 3 AND share >= 0.1)) AS top_sensors,
    string_agg(
        name || with_unit(
            CASE WHEN width > 0 THEN figure(worst.observed, decimals_for(width / 10)) ELSE state_text(worst.observed) END,
            worst.unit
        ) || CASE
            WHEN worst.observed BETWEEN worst.expected_low AND worst.expected_high THEN ', which does not fit the others'
            ELSE ' where ' || with_unit(range_text(worst.expected_low, worst.expected_high, decimals_for(width)), worst.unit)
                || ' was expected'
        END,
        ' and ' ORDER BY place
    ) FILTER (place = 1 OR (place = 2 AND share >= 0.25)) AS blamed
FROM described
GROUP BY event_id;

DELETE FROM mart.anomaly_events;

INSERT INTO mart.anomaly_events BY NAME
WITH placed AS (
    SELECT
        *,
        peak.segment AS segment,
        string_split(peak.segment, /*joint*/) AS conditions,
        epoch(lasted_until - started_at) + usual_seconds AS seconds
    FROM events
    JOIN durations USING (event_id)
)
SELECT
    event_id,
    machine_id,
    started_at,
    ended_at,
    peak_score,
    n_readings,
    peak.cluster_key AS cluster_key,
    coalesce(words.top_sensors, []) AS top_sensors,
    segment,
    machine_id || CASE
        WHEN len($segment_columns::VARCHAR[]) = 0 OR segment = machine_id THEN ''
        WHEN len(conditions) <> len($segment_columns::VARCHAR[]) THEN ', ' || segment
        ELSE ', ' || array_to_string(
            list_transform(
                list_zip($segment_columns::VARCHAR[], conditions),
                lambda pair: CASE WHEN pair[1] = 'filename' THEN '' ELSE replace(pair[1], '_', ' ') || ' ' END || pair[2]
            ),
            ', '
        )
    END || ': ' || coalesce(words.blamed, 'unusual readings') || CASE
        WHEN n_readings = 1 THEN ', in one reading'
        WHEN seconds < 2 THEN ', in ' || n_readings || ' readings'
        ELSE ', for ' || duration_text(seconds)
    END AS summary,
    lasted_until
FROM placed
LEFT JOIN words USING (event_id)
ORDER BY machine_id, started_at;
