-- Question: How many jobs were asked for each day, and how did they end?
-- Grain:    one row a day (source's time zone) and last status, the last 30 days.
-- Columns:  day, job_status, jobs.
SELECT
    d.day,
    job_status,
    sum(jobs)::bigint AS jobs
FROM bi.job_daily AS d
JOIN bi.freshness AS f USING (source)
WHERE d.day >= (now() AT TIME ZONE 'UTC')::date - 30
  AND d.day > (now() AT TIME ZONE f.time_zone)::date - 30
  AND d.day <= (now() AT TIME ZONE f.time_zone)::date
GROUP BY d.day, job_status
ORDER BY d.day, job_status;
