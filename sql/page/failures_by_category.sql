-- Question: Which kinds of job fail most, and is that new?
-- Grain:    one row a category and sub-category over all sources, the twelve that fail most often of those that ended
--           in the last 7 days.
-- Columns:  category_name, sub_category_name, jobs, failed, failure_rate, failure_rate_before, is_worse.
SELECT
    category_name,
    sub_category_name,
    sum(jobs)::bigint AS jobs,
    sum(failed)::bigint AS failed,
    sum(failure_rate * jobs) / nullif(sum(jobs) FILTER (WHERE failure_rate IS NOT NULL), 0) AS failure_rate,
    sum(failure_rate_before * jobs_before)
    / nullif(sum(jobs_before) FILTER (WHERE failure_rate_before IS NOT NULL), 0) AS failure_rate_before,
    bool_or(is_worse) AS is_worse
FROM bi.category_health
WHERE failure_rate IS NOT NULL
GROUP BY category_name, sub_category_name
ORDER BY failure_rate DESC, failed DESC, category_name, sub_category_name
LIMIT 12;
