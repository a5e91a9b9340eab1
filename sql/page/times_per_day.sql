-- Question: How long do jobs wait, and how long do they run?
-- Grain:    one row a day (source's time zone), the last 30 days.
-- Columns:  day, queued_count, queued_p50_seconds, queued_p95_seconds, run_count, run_p50_seconds, run_p95_seconds.
SELECT
    d.day,
    sum(queued_count)::bigint AS queued_count,
    bi.percentile(
        0.5, sum(queued_count), sum(queued_le_1), sum(queued_le_2), sum(queued_le_5), sum(queued_le_10),
        sum(queued_le_30), sum(queued_le_60), sum(queued_le_120), sum(queued_le_300), sum(queued_le_600),
        sum(queued_le_1800), sum(queued_le_3600), sum(queued_le_7200), sum(queued_le_21600), sum(queued_le_86400)
    ) AS queued_p50_seconds,
    bi.percentile(
        0.95, sum(queued_count), sum(queued_le_1), sum(queued_le_2), sum(queued_le_5), sum(queued_le_10),
        sum(queued_le_30), sum(queued_le_60), sum(queued_le_120), sum(queued_le_300), sum(queued_le_600),
        sum(queued_le_1800), sum(queued_le_3600), sum(queued_le_7200), sum(queued_le_21600), sum(queued_le_86400)
    ) AS queued_p95_seconds,
    sum(run_count)::bigint AS run_count,
    bi.percentile(
        0.5, sum(run_count), sum(run_le_1), sum(run_le_2), sum(run_le_5), sum(run_le_10), sum(run_le_30),
        sum(run_le_60), sum(run_le_120), sum(run_le_300), sum(run_le_600), sum(run_le_1800), sum(run_le_3600),
        sum(run_le_7200), sum(run_le_21600), sum(run_le_86400)
    ) AS run_p50_seconds,
    bi.percentile(
        0.95, sum(run_count), sum(run_le_1), sum(run_le_2), sum(run_le_5), sum(run_le_10), sum(run_le_30),
        sum(run_le_60), sum(run_le_120), sum(run_le_300), sum(run_le_600), sum(run_le_1800), sum(run_le_3600),
        sum(run_le_7200), sum(run_le_21600), sum(run_le_86400)
    ) AS run_p95_seconds
FROM bi.job_daily AS d
JOIN bi.freshness AS f USING (source)
WHERE d.day >= (now() AT TIME ZONE 'UTC')::date - 30
  AND d.day > (now() AT TIME ZONE f.time_zone)::date - 30
  AND d.day <= (now() AT TIME ZONE f.time_zone)::date
GROUP BY d.day
ORDER BY d.day;
