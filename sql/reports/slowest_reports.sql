-- Question: Which kinds of job took longest in the last seven days, and how often did they fail?
-- Grain:    one row a sub-category, the ten slowest.
-- Columns:  sub_category_name, jobs, failed, longest_seconds, mean_seconds.
SELECT
    sub_category_name,
    count(*) AS jobs,
    count(*) FILTER (WHERE job_status = 'Failed') AS failed,
    round(max(total_seconds)) AS longest_seconds,
    round(avg(total_seconds), 1) AS mean_seconds
FROM bi.jobs
WHERE created_at_utc >= (now() AT TIME ZONE 'UTC') - interval '7 days'
GROUP BY sub_category_name
ORDER BY mean_seconds DESC NULLS LAST, sub_category_name
LIMIT 10;
