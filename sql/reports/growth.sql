-- Question: How does the load grow from month to month?
-- Grain:    one row a month, purged jobs included.
-- Columns:  month, days, jobs, jobs_a_day, growth, failed, failure_rate, documents, run_hours.
-- Notes:    all that is known, unless --since says otherwise; a month that it cuts is counted in part. month is its
--           first day, in the source's time zone. days: those with jobs. growth is that of jobs_a_day over the
--           month before, 0.1 for a tenth more: the first month may have begun before the mirror did, and the last
--           isn't over. NULL where nothing is known of the month before.
-- Sample:
--       month | days | jobs | jobs_a_day | growth | failed | failure_rate | documents | run_hours
--  2026-10-01 |    6 |  526 |       87.7 |      - |     13 |        0.025 |       596 |      21.6
--  2026-11-01 |   25 | 2564 |      102.6 |   0.17 |     82 |        0.032 |      2764 |      97.6
WITH monthly AS (
    SELECT
        date_trunc('month', day)::date AS month,
        count(DISTINCT day) AS days,
        sum(jobs)::bigint AS jobs,
        sum(failed)::bigint AS failed,
        sum(ended)::bigint AS ended,
        sum(documents)::bigint AS documents,
        sum(run_seconds) AS run_seconds
    FROM bi.job_daily
    WHERE day >= bi.since('100 years')::date
      AND day < bi.until()
      AND (bi.account() IS NULL OR account_code = bi.account())
    GROUP BY 1
)
SELECT
    m.month,
    m.days,
    m.jobs,
    round(m.jobs::numeric / m.days, 1) AS jobs_a_day,
    round((m.jobs::numeric / m.days) / (before.jobs::numeric / before.days) - 1, 3) AS growth,
    m.failed,
    round(bi.failure_rate(m.failed, m.ended), 3) AS failure_rate,
    m.documents,
    round(m.run_seconds / 3600, 1) AS run_hours
FROM monthly AS m
LEFT JOIN monthly AS before ON before.month = m.month - interval '1 month'
ORDER BY m.month;
