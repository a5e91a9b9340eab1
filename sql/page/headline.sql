-- Question: How do the last 30 days compare with the 30 days before?
-- Grain:    one row a period of days in the source's time zone, today the last; none for a period without jobs.
-- Columns:  is_before, jobs, failed, failure_rate, run_p95_seconds.
SELECT
    d.day <= (now() AT TIME ZONE f.time_zone)::date - 30 AS is_before,
    sum(jobs)::bigint AS jobs,
    sum(failed)::bigint AS failed,
    bi.failure_rate(sum(failed), sum(ended)) AS failure_rate,
    bi.percentile(
        0.95, sum(run_count), sum(run_le_1), sum(run_le_2), sum(run_le_5), sum(run_le_10), sum(run_le_30),
        sum(run_le_60), sum(run_le_120), sum(run_le_300), sum(run_le_600), sum(run_le_1800), sum(run_le_3600),
        sum(run_le_7200), sum(run_le_21600), sum(run_le_86400)
    ) AS run_p95_seconds
FROM bi.job_daily AS d
JOIN bi.freshness AS f USING (source)
WHERE d.day >= (now() AT TIME ZONE 'UTC')::date - 60
  AND d.day > (now() AT TIME ZONE f.time_zone)::date - 60
  AND d.day <= (now() AT TIME ZONE f.time_zone)::date
GROUP BY is_before
ORDER BY is_before;
