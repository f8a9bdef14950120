-- When anomalies are an event, for tables and for arrays: those of a machine that are no further apart than the gap
-- belong together, and enough of them are an event, or one that is so much rarer than alpha asks for.

CREATE OR REPLACE TEMP MACRO event_number(machine, moment, pause_seconds, gap_seconds) AS
    count(*) FILTER (pause_seconds > gap_seconds) OVER (PARTITION BY machine ORDER BY moment);

CREATE OR REPLACE TEMP MACRO is_event(p_value, alpha, min_readings, rare_factor) AS
    count(*) >= min_readings OR bool_or(p_value <= rare_factor * alpha);
