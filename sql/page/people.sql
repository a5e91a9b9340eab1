-- Question: Who waits longest, and whose jobs fail?
-- Grain:    one row a person who asked for jobs in the last 30 days, the twenty with the most failures.
-- Columns:  person, jobs, failed, failure_rate, queued_p95_seconds, run_p95_seconds.
-- Notes:    personal data: only on the page where it is asked for.
SELECT
    created_by AS person,
    count(*) AS jobs,
    count(*) FILTER (WHERE is_failed) AS failed,
    bi.failure_rate(count(*) FILTER (WHERE is_failed), count(*) FILTER (WHERE is_ended)) AS failure_rate,
    percentile_cont(0.95) WITHIN GROUP (ORDER BY queued_seconds) AS queued_p95_seconds,
    percentile_cont(0.95) WITHIN GROUP (ORDER BY run_seconds) AS run_p95_seconds
FROM bi.jobs
WHERE created_at_utc >= bi.since('29 days') AND created_at_utc < bi.until()
GROUP BY created_by
ORDER BY failed DESC, queued_p95_seconds DESC NULLS LAST, created_by
LIMIT 20;
