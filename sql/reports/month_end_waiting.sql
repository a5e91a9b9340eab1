-- Question: Who waits longest in the queue at month end?
-- Grain:    one row a person with at least one job on the last three days of a month.
-- Columns:  created_by, jobs_at_month_end, mean_queued_seconds, p95_queued_seconds, longest_queued_seconds,
--           jobs_otherwise, mean_queued_seconds_otherwise.
-- Notes:    jobs created in the last 62 days, unless --since says otherwise; the mirror holds jobs until their purge,
--           mostly 30 days. Days are those of the source's time zone. Jobs that were rerun have no queue time and
--           aren't counted. The last column is NULL for a person without jobs on other days.
-- Sample:
--  created_by              | jobs_at_month_end | mean_queued_seconds | p95_queued_seconds | longest_queued_seconds | jobs_otherwise | mean_queued_seconds_otherwise
--  operator@example.com    |                65 |                10.3 |               40.4 |                  146.9 |            550 |                           7.0
--  li.wei@example.com      |                45 |                11.7 |               27.2 |                  197.1 |            494 |                           7.3
--  maría.núñez@example.com |                58 |                 6.5 |               24.8 |                   78.8 |            530 |                           7.4
WITH waited AS (
    SELECT
        created_by,
        queued_seconds,
        created_day >= date_trunc('month', created_day) + interval '1 month' - interval '3 days' AS at_month_end
    FROM bi.jobs
    WHERE created_at_utc >= bi.since('62 days')
      AND created_at_utc < bi.until()
      AND (bi.account() IS NULL OR account_code = bi.account())
      AND queued_seconds IS NOT NULL
)
SELECT
    created_by,
    count(*) FILTER (WHERE at_month_end) AS jobs_at_month_end,
    round(avg(queued_seconds) FILTER (WHERE at_month_end), 1) AS mean_queued_seconds,
    round((percentile_cont(0.95) WITHIN GROUP (ORDER BY queued_seconds) FILTER (WHERE at_month_end))::numeric, 1)
        AS p95_queued_seconds,
    round(max(queued_seconds) FILTER (WHERE at_month_end), 1) AS longest_queued_seconds,
    count(*) FILTER (WHERE NOT at_month_end) AS jobs_otherwise,
    round(avg(queued_seconds) FILTER (WHERE NOT at_month_end), 1) AS mean_queued_seconds_otherwise
FROM waited
GROUP BY created_by
HAVING count(*) FILTER (WHERE at_month_end) > 0
ORDER BY p95_queued_seconds DESC, longest_queued_seconds DESC, created_by;
