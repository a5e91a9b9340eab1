-- Question: How long do jobs wait and run, by category?
-- Grain:    one row a category.
-- Columns:  category_name, jobs, mean_queued_seconds, mean_run_seconds.
-- Notes:    NULL where no such time is known; jobs that were rerun have no queue time.
SELECT
    coalesce(category_name, 'unknown') AS category_name,
    sum(jobs)::bigint AS jobs,
    round(sum(queued_seconds) / nullif(sum(queued_count), 0), 1) AS mean_queued_seconds,
    round(sum(run_seconds) / nullif(sum(run_count), 0), 1) AS mean_run_seconds
FROM bi.job_daily
GROUP BY 1
ORDER BY jobs DESC, category_name;
