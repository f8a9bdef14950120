-- The nights that hold a part of $days, which are days of UTC: a night is a calendar day in $timezone.
CREATE OR REPLACE TEMP TABLE candidates AS
SELECT DISTINCT unnest(generate_series(
    night_of(day::TIMESTAMP, $timezone)::TIMESTAMP,
    night_of(day::TIMESTAMP + INTERVAL '1 day' - INTERVAL '1 microsecond', $timezone)::TIMESTAMP,
    INTERVAL '1 day'
))::DATE AS night
FROM (SELECT unnest($days::DATE[]) AS day);

