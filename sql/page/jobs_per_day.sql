-- Question: How many jobs were asked for each day, and how did they end?
-- Grain:    one row a day (source's time zone) and last status, the last 30 days.
-- Columns:  day, job_status, jobs.
SELECT
    day,
    job_status,
    sum(jobs)::bigint AS jobs
FROM bi.job_daily
WHERE day >= bi.since('29 days')::date AND day < bi.until()
GROUP BY day, job_status
ORDER BY day, job_status;
