-- Question: When in the week are jobs asked for?
-- Grain:    one row a weekday (1 = Monday) and hour of the source's time zone in which jobs were created.
-- Columns:  weekday, hour, jobs.
-- Notes:    exactly four weeks, so that each weekday counts four times.
SELECT
    extract(isodow FROM created_at_local)::int AS weekday,
    extract(hour FROM created_at_local)::int AS hour,
    count(*) AS jobs
FROM bi.jobs
WHERE created_at_utc >= (now() AT TIME ZONE 'UTC') - interval '28 days'
  AND created_at_utc < now() AT TIME ZONE 'UTC'
GROUP BY weekday, hour
ORDER BY weekday, hour;
