-- Question: How many jobs ran on each day, and how did they end?
-- Grain:    one row a day and status.
-- Columns:  day, job_status, jobs.
SELECT day, coalesce(job_status, 'unknown') AS job_status, sum(jobs)::bigint AS jobs
FROM bi.job_daily
WHERE day IS NOT NULL
GROUP BY 1, 2
ORDER BY 1, 2;
