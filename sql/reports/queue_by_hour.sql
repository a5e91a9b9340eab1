-- Question: At which hour of the day do jobs wait longest?
-- Grain:    one row an hour of the day in which jobs were created.
-- Columns:  hour, jobs, median_queued_seconds, p95_queued_seconds, longest_queued_seconds, over_a_minute.
-- Notes:    jobs created in the last 30 days, unless --since says otherwise. hour is 0 to 23 of the source's time zone
--           (AIMS360_TIME_ZONE). Jobs that were rerun or haven't started have no queue time and aren't counted.
--           over_a_minute is the share that waited longer, from 0 to 1.
-- Sample:
--  hour | jobs | median_queued_seconds | p95_queued_seconds | longest_queued_seconds | over_a_minute
--     0 |  108 |                   3.2 |               31.6 |                   61.1 |         0.009
--     1 |  123 |                   2.6 |               24.5 |                   57.9 |         0.000
--     2 |  133 |                   3.3 |               19.1 |                  101.9 |         0.015
SELECT
    extract(hour FROM created_at_local)::int AS hour,
    count(*) AS jobs,
    round((percentile_cont(0.5) WITHIN GROUP (ORDER BY queued_seconds))::numeric, 1) AS median_queued_seconds,
    round((percentile_cont(0.95) WITHIN GROUP (ORDER BY queued_seconds))::numeric, 1) AS p95_queued_seconds,
    round(max(queued_seconds), 1) AS longest_queued_seconds,
    round(avg((queued_seconds > 60)::int), 3) AS over_a_minute
FROM bi.jobs
WHERE created_at_utc >= bi.since()
  AND created_at_utc < bi.until()
  AND (bi.account() IS NULL OR account_code = bi.account())
  AND queued_seconds IS NOT NULL
GROUP BY 1
ORDER BY hour;
