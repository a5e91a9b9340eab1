-- Question: Which kinds of job ran longest on average in the last seven days, and how often did they fail?
-- Grain:    one row a sub-category, the ten slowest, of the jobs that have ended.
-- Columns:  sub_category_name, jobs, failed, longest_run_seconds, mean_run_seconds.
-- Notes:    --since says another beginning than seven days ago. Run times are those of each job's last run; NULL where
--           none is known.
-- Sample:
--  sub_category_name      | jobs | failed | longest_run_seconds | mean_run_seconds
--  Order Allocation       |   69 |      5 |                1464 |            496.1
--  Style Catalogue Export |   69 |      2 |                1365 |            308.2
--  Price List Update      |   88 |      9 |                1296 |            178.8
SELECT
    sub_category_name,
    count(*) AS jobs,
    count(*) FILTER (WHERE is_failed) AS failed,
    round(max(run_seconds)) AS longest_run_seconds,
    round(avg(run_seconds), 1) AS mean_run_seconds
FROM bi.jobs
WHERE created_at_utc >= bi.since('7 days')
  AND created_at_utc < bi.until()
  AND (bi.account() IS NULL OR account_code = bi.account())
  AND is_ended
GROUP BY sub_category_name
ORDER BY mean_run_seconds DESC NULLS LAST, sub_category_name
LIMIT 10;
