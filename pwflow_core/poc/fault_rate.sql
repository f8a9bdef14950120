-- How many faults there are in the time that is labelled, and how many readings that can be scored.
-- Expects the faults as `labelled_faults`, the labelled time by machine as `known_times`, and where /*scorable*/
-- readings are.
SELECT
    (
        SELECT count(*)
        FROM labelled_faults AS fault
        SEMI JOIN known_times AS labelled
          ON labelled.machine_id = fault.machine_id
         AND fault.started_at <= labelled.known_until AND fault.ended_at >= labelled.known_from
    ) AS n_faults,
    (
        SELECT count(*)
        FROM (SELECT machine_id, ts FROM /*scorable*/) AS reading
        SEMI JOIN known_times AS labelled
          ON labelled.machine_id = reading.machine_id
         AND reading.ts BETWEEN labelled.known_from AND labelled.known_until
    ) AS n_readings;
