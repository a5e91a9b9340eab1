-- Question: How quickly were jobs served, month by month?
-- Grain:    one row a month, purged jobs included.
-- Columns:  month, jobs, started_within_a_minute, median_queued_seconds, p95_queued_seconds, ran_within_five_minutes,
--           median_run_seconds, p95_run_seconds.
-- Notes:    all that is known, unless --since says otherwise. Shares are from 0 to 1, of the jobs whose time is known;
--           NULL where it is of none. Percentiles are read from counts by bucket (bi.percentile), so near enough, not
--           exact. Months are those of the source's time zone.
-- Sample:
--       month | jobs | started_within_a_minute | median_queued_seconds | p95_queued_seconds | ran_within_five_minutes | median_run_seconds | p95_run_seconds
--  2026-10-01 |  526 |                   0.984 |                   3.4 |               29.5 |                   0.875 |               75.4 |           548.1
--  2026-11-01 | 2564 |                   0.990 |                   3.4 |               28.7 |                   0.888 |               72.7 |           548.1
SELECT
    date_trunc('month', day)::date AS month,
    sum(jobs)::bigint AS jobs,
    round(sum(queued_le_60) / nullif(sum(queued_count), 0), 3) AS started_within_a_minute,
    bi.percentile(
        0.5, sum(queued_count),
        sum(queued_le_1), sum(queued_le_2), sum(queued_le_5), sum(queued_le_10), sum(queued_le_30), sum(queued_le_60),
        sum(queued_le_120), sum(queued_le_300), sum(queued_le_600), sum(queued_le_1800), sum(queued_le_3600),
        sum(queued_le_7200), sum(queued_le_21600), sum(queued_le_86400)
    ) AS median_queued_seconds,
    bi.percentile(
        0.95, sum(queued_count),
        sum(queued_le_1), sum(queued_le_2), sum(queued_le_5), sum(queued_le_10), sum(queued_le_30), sum(queued_le_60),
        sum(queued_le_120), sum(queued_le_300), sum(queued_le_600), sum(queued_le_1800), sum(queued_le_3600),
        sum(queued_le_7200), sum(queued_le_21600), sum(queued_le_86400)
    ) AS p95_queued_seconds,
    round(sum(run_le_300) / nullif(sum(run_count), 0), 3) AS ran_within_five_minutes,
    bi.percentile(
        0.5, sum(run_count),
        sum(run_le_1), sum(run_le_2), sum(run_le_5), sum(run_le_10), sum(run_le_30), sum(run_le_60),
        sum(run_le_120), sum(run_le_300), sum(run_le_600), sum(run_le_1800), sum(run_le_3600),
        sum(run_le_7200), sum(run_le_21600), sum(run_le_86400)
    ) AS median_run_seconds,
    bi.percentile(
        0.95, sum(run_count),
        sum(run_le_1), sum(run_le_2), sum(run_le_5), sum(run_le_10), sum(run_le_30), sum(run_le_60),
        sum(run_le_120), sum(run_le_300), sum(run_le_600), sum(run_le_1800), sum(run_le_3600),
        sum(run_le_7200), sum(run_le_21600), sum(run_le_86400)
    ) AS p95_run_seconds
FROM bi.job_daily
WHERE day >= bi.since('100 years')::date
  AND day < bi.until()
  AND (bi.account() IS NULL OR account_code = bi.account())
GROUP BY 1
ORDER BY month;
