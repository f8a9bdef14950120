-- Events with readings that no earlier run of the cases has seen, as the cases see them: the table `fresh_events`. Binds
-- $min_readings and $rare_factor. Expects event_rule.sql. What was seen is in core.progress, by segment.

CREATE TEMP TABLE new_readings AS
SELECT reading.reading_id, reading.machine_id, reading.ts
FROM core.readings AS reading
LEFT JOIN core.progress AS seen ON seen.step = 'cases' AND seen.cluster_key = reading.segment
WHERE reading.batch_id > coalesce(seen.batch_id, -1);

CREATE TEMP TABLE parts AS
WITH since AS (
    SELECT machine_id, min(ts) AS ts FROM new_readings GROUP BY machine_id
)
SELECT
    event.event_id,
    score.reading_id,
    score.ts,
    score.p_value,
    score.anomaly_score,
    score.flow_version,
    score.model_set_id,
    score.scored_at,
    max(score.anomaly_score) OVER (
        PARTITION BY event.event_id ORDER BY score.ts ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS highest_before,
    count(*) OVER so_far AS n_so_far,
    min(score.p_value) OVER so_far AS lowest_so_far,
    (SELECT max(alpha) FROM core.model_sets WHERE model_sets.model_set_id = score.model_set_id) AS alpha
FROM mart.anomaly_events AS event
JOIN since ON since.machine_id = event.machine_id AND event.ended_at >= since.ts
JOIN mart.anomaly_scores AS score
  ON score.machine_id = event.machine_id AND score.ts BETWEEN event.started_at AND event.ended_at
WHERE score.is_anomaly
WINDOW so_far AS (PARTITION BY event.event_id ORDER BY score.ts ROWS UNBOUNDED PRECEDING);

-- An event is told by the anomaly that makes it one. Where an event goes by a rule of earlier scores, by its last.
CREATE TEMP TABLE heads AS
SELECT
    event_id,
    coalesce(min(ts) FILTER (n_so_far >= $min_readings OR lowest_so_far <= $rare_factor * alpha), max(ts)) AS told_at,
    arg_max({'flow_version': flow_version, 'model_set_id': model_set_id, 'alpha': alpha}, anomaly_score) AS model
FROM parts
GROUP BY event_id
HAVING bool_or(reading_id IN (SELECT reading_id FROM new_readings));

CREATE TEMP TABLE blames AS
SELECT
    parts.event_id,
    part.sensor,
    greatest(sum(part.contribution), 0) AS whole,
    greatest(coalesce(sum(part.contribution) FILTER (parts.ts <= heads.told_at), 0), 0) AS head
FROM parts
JOIN heads USING (event_id)
JOIN mart.sensor_contributions AS part ON part.reading_id = parts.reading_id AND part.scored_at = parts.scored_at
GROUP BY parts.event_id, part.sensor;

CREATE TEMP TABLE fresh_events AS
WITH blame AS (
    SELECT
        event_id,
        map_from_entries(list({'k': sensor, 'v': whole} ORDER BY sensor)) AS blame,
        map_from_entries(list({'k': sensor, 'v': head} ORDER BY sensor)) AS head_blame
    FROM blames
    GROUP BY event_id
), rises AS (
    SELECT
        event_id,
        max(anomaly_score) FILTER (parts.ts <= heads.told_at) AS head_peak,
        list({'ts': parts.ts, 'score': anomaly_score} ORDER BY parts.ts)
            FILTER (parts.ts > heads.told_at AND anomaly_score > highest_before) AS climbs
    FROM parts
    JOIN heads USING (event_id)
    GROUP BY event_id
)
SELECT
    event.* EXCLUDE (top_sensors),
    event.top_sensors AS sensors,
    heads.told_at,
    heads.model.flow_version AS flow_version,
    heads.model.model_set_id AS model_set_id,
    heads.model.alpha AS alpha,
    rises.head_peak,
    coalesce(rises.climbs, []) AS climbs,
    coalesce(blame.blame, MAP {}) AS blame,
    coalesce(blame.head_blame, MAP {}) AS head_blame
FROM mart.anomaly_events AS event
JOIN heads USING (event_id)
JOIN rises USING (event_id)
LEFT JOIN blame USING (event_id)
ORDER BY heads.told_at, event.machine_id, event.event_id;
