-- Question: Which kinds of job fail most, and is that new?
-- Grain:    one row a category and sub-category over all sources, the twelve with most failures in the last 7 days.
-- Columns:  category_name, sub_category_name, failed, ended, failure_rate, failure_rate_before, is_worse.
-- Notes:    days as in bi.category_health, whose own is_worse looks at run times too.
WITH days AS (
    SELECT d.*, d.day > (now() AT TIME ZONE f.time_zone)::date - 7 AS is_now
    FROM bi.job_daily AS d
    JOIN bi.freshness AS f USING (source)
    WHERE d.day >= (now() AT TIME ZONE 'UTC')::date - 36
      AND d.day > (now() AT TIME ZONE f.time_zone)::date - 35
      AND d.day <= (now() AT TIME ZONE f.time_zone)::date
),
kinds AS (
    SELECT
        category_name,
        sub_category_name,
        coalesce(sum(failed) FILTER (WHERE is_now), 0)::bigint AS failed,
        coalesce(sum(ended) FILTER (WHERE is_now), 0)::bigint AS ended,
        coalesce(sum(ended) FILTER (WHERE NOT is_now), 0)::bigint AS ended_before,
        bi.failure_rate(sum(failed) FILTER (WHERE is_now), sum(ended) FILTER (WHERE is_now)) AS failure_rate,
        bi.failure_rate(
            sum(failed) FILTER (WHERE NOT is_now), sum(ended) FILTER (WHERE NOT is_now)
        ) AS failure_rate_before
    FROM days
    GROUP BY category_name, sub_category_name
),
most AS (
    SELECT *
    FROM kinds
    WHERE ended > 0
    ORDER BY failed DESC, failure_rate DESC, category_name, sub_category_name
    LIMIT 12
)
SELECT
    category_name,
    sub_category_name,
    failed,
    ended,
    failure_rate,
    failure_rate_before,
    bi.fails_more(failure_rate, failure_rate_before, ended, ended_before) AS is_worse
FROM most
ORDER BY failure_rate DESC, failed DESC, category_name, sub_category_name;
