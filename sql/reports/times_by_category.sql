-- Question: How long do jobs wait and run, by category?
-- Grain:    one row a category, purged jobs included.
-- Columns:  category_name, jobs, mean_queued_seconds, mean_run_seconds.
-- Notes:    all that is known, unless --since says otherwise. NULL where no such time is known; jobs that were rerun
--           have no queue time.
-- Sample:
--  category_name | jobs | mean_queued_seconds | mean_run_seconds
--  Reports       | 1779 |                 3.7 |             69.0
--  Exports       |  675 |                 8.6 |            152.4
--  Bulk Updates  |  636 |                15.8 |            320.6
SELECT
    coalesce(category_name, 'unknown') AS category_name,
    sum(jobs)::bigint AS jobs,
    round(sum(queued_seconds) / nullif(sum(queued_count), 0), 1) AS mean_queued_seconds,
    round(sum(run_seconds) / nullif(sum(run_count), 0), 1) AS mean_run_seconds
FROM bi.job_daily
WHERE day >= bi.since('100 years')::date
  AND day < bi.until()
  AND (bi.account() IS NULL OR account_code = bi.account())
GROUP BY 1
ORDER BY jobs DESC, category_name;
