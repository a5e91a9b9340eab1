-- Question: How many jobs ran on each day, and how did they end?
-- Grain:    one row a day and status, purged jobs included.
-- Columns:  day, job_status, jobs.
-- Notes:    all that is known, unless --since says otherwise. A day is that of the job's creation, in the source's time
--           zone; jobs without one aren't counted.
-- Sample:
--         day | job_status | jobs
--  2026-10-26 | Completed  |   40
--  2026-10-27 | Completed  |   82
--  2026-10-27 | Failed     |    3
SELECT day, coalesce(job_status, 'unknown') AS job_status, sum(jobs)::bigint AS jobs
FROM bi.job_daily
WHERE day >= bi.since('100 years')::date
  AND day < bi.until()
  AND (bi.account() IS NULL OR account_code = bi.account())
GROUP BY 1, 2
ORDER BY 1, 2;
