-- Question: Which kinds of job ran longest on average in the last seven days, and how often did they fail?
-- Grain:    one row a sub-category, the ten slowest.
-- Columns:  sub_category_name, jobs, failed, longest_run_seconds, mean_run_seconds.
SELECT
    sub_category_name,
    count(*) AS jobs,
    count(*) FILTER (WHERE job_status = 'Failed') AS failed,
    round(max(run_seconds)) AS longest_run_seconds,
    round(avg(run_seconds), 1) AS mean_run_seconds
FROM bi.jobs
WHERE created_at_utc >= (now() AT TIME ZONE 'UTC') - interval '7 days'
  AND NOT is_open
GROUP BY sub_category_name
ORDER BY mean_run_seconds DESC NULLS LAST, sub_category_name
LIMIT 10;
