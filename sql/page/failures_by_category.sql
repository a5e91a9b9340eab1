-- Question: Which kinds of job fail most, and is that new?
-- Grain:    one row a category and sub-category over all sources, the twelve that fail most often of those that ended
--           in the last 7 days.
-- Columns:  category_name, sub_category_name, jobs, failed, failure_rate, failure_rate_before, is_worse.
-- Notes:    is_worse: of at least 20 jobs in either time, five percentage points more failed and half as many again, as
--           in bi.category_health, whose own is_worse looks at run times too.
WITH kinds AS (
    SELECT
        category_name,
        sub_category_name,
        sum(jobs)::bigint AS jobs,
        sum(failed)::bigint AS failed,
        sum(jobs_before)::bigint AS jobs_before,
        round(
            sum(failure_rate * jobs) / nullif(sum(jobs) FILTER (WHERE failure_rate IS NOT NULL), 0), 4
        ) AS failure_rate,
        round(
            sum(failure_rate_before * jobs_before)
            / nullif(sum(jobs_before) FILTER (WHERE failure_rate_before IS NOT NULL), 0), 4
        ) AS failure_rate_before
    FROM bi.category_health
    GROUP BY category_name, sub_category_name
)
SELECT
    category_name,
    sub_category_name,
    jobs,
    failed,
    failure_rate,
    failure_rate_before,
    coalesce(
        least(jobs, jobs_before) >= 20
        AND failure_rate >= failure_rate_before + 0.05
        AND failure_rate >= failure_rate_before * 1.5,
        false
    ) AS is_worse
FROM kinds
WHERE failure_rate IS NOT NULL
ORDER BY failure_rate DESC, failed DESC, category_name, sub_category_name
LIMIT 12;
