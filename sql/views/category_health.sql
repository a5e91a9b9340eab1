-- Question: which kinds of job do worse now than they used to?
-- Grain:    one row a source, category and sub-category that had a job in the last five weeks.
-- Columns:  now is the last seven days, today included; *_before the four weeks before them. Shares are 0 to 1.
-- Notes:    what makes a kind worse stands at is_worse. Days are those of the source's time zone; a job dated after today
--           is in none. What a role may not see is not in its numbers.
CREATE OR REPLACE VIEW bi.category_health WITH (security_barrier) AS
WITH days AS (
    SELECT d.*, d.day > aims360.day_of(now(), f.time_zone) - 7 AS is_now
    FROM bi.job_daily AS d
    JOIN bi.freshness AS f USING (source)
    WHERE d.day >= (now() AT TIME ZONE 'UTC')::date - 36
      AND d.day > aims360.day_of(now(), f.time_zone) - 35
      AND d.day <= aims360.day_of(now(), f.time_zone)
),
sums AS (
    SELECT
        source,
        category_name,
        sub_category_name,
        sum(jobs) FILTER (WHERE is_now)::bigint AS jobs,
        sum(failed) FILTER (WHERE is_now)::bigint AS failed,
        sum(ended) FILTER (WHERE is_now)::bigint AS ended,
        bi.percentile(
            0.95, sum(queued_count) FILTER (WHERE is_now),
            sum(queued_le_1) FILTER (WHERE is_now),
            sum(queued_le_2) FILTER (WHERE is_now),
            sum(queued_le_5) FILTER (WHERE is_now),
            sum(queued_le_10) FILTER (WHERE is_now),
            sum(queued_le_30) FILTER (WHERE is_now),
            sum(queued_le_60) FILTER (WHERE is_now),
            sum(queued_le_120) FILTER (WHERE is_now),
            sum(queued_le_300) FILTER (WHERE is_now),
            sum(queued_le_600) FILTER (WHERE is_now),
            sum(queued_le_1800) FILTER (WHERE is_now),
            sum(queued_le_3600) FILTER (WHERE is_now),
            sum(queued_le_7200) FILTER (WHERE is_now),
            sum(queued_le_21600) FILTER (WHERE is_now),
            sum(queued_le_86400) FILTER (WHERE is_now)
        ) AS queued_p95_seconds,
        bi.percentile(
            0.95, sum(run_count) FILTER (WHERE is_now),
            sum(run_le_1) FILTER (WHERE is_now),
            sum(run_le_2) FILTER (WHERE is_now),
            sum(run_le_5) FILTER (WHERE is_now),
            sum(run_le_10) FILTER (WHERE is_now),
            sum(run_le_30) FILTER (WHERE is_now),
            sum(run_le_60) FILTER (WHERE is_now),
            sum(run_le_120) FILTER (WHERE is_now),
            sum(run_le_300) FILTER (WHERE is_now),
            sum(run_le_600) FILTER (WHERE is_now),
            sum(run_le_1800) FILTER (WHERE is_now),
            sum(run_le_3600) FILTER (WHERE is_now),
            sum(run_le_7200) FILTER (WHERE is_now),
            sum(run_le_21600) FILTER (WHERE is_now),
            sum(run_le_86400) FILTER (WHERE is_now)
        ) AS run_p95_seconds,
        sum(jobs) FILTER (WHERE NOT is_now)::bigint AS jobs_before,
        sum(failed) FILTER (WHERE NOT is_now)::bigint AS failed_before,
        sum(ended) FILTER (WHERE NOT is_now)::bigint AS ended_before,
        bi.percentile(
            0.95, sum(queued_count) FILTER (WHERE NOT is_now),
            sum(queued_le_1) FILTER (WHERE NOT is_now),
            sum(queued_le_2) FILTER (WHERE NOT is_now),
            sum(queued_le_5) FILTER (WHERE NOT is_now),
            sum(queued_le_10) FILTER (WHERE NOT is_now),
            sum(queued_le_30) FILTER (WHERE NOT is_now),
            sum(queued_le_60) FILTER (WHERE NOT is_now),
            sum(queued_le_120) FILTER (WHERE NOT is_now),
            sum(queued_le_300) FILTER (WHERE NOT is_now),
            sum(queued_le_600) FILTER (WHERE NOT is_now),
            sum(queued_le_1800) FILTER (WHERE NOT is_now),
            sum(queued_le_3600) FILTER (WHERE NOT is_now),
            sum(queued_le_7200) FILTER (WHERE NOT is_now),
            sum(queued_le_21600) FILTER (WHERE NOT is_now),
            sum(queued_le_86400) FILTER (WHERE NOT is_now)
        ) AS queued_p95_seconds_before,
        bi.percentile(
            0.95, sum(run_count) FILTER (WHERE NOT is_now),
            sum(run_le_1) FILTER (WHERE NOT is_now),
            sum(run_le_2) FILTER (WHERE NOT is_now),
            sum(run_le_5) FILTER (WHERE NOT is_now),
            sum(run_le_10) FILTER (WHERE NOT is_now),
            sum(run_le_30) FILTER (WHERE NOT is_now),
            sum(run_le_60) FILTER (WHERE NOT is_now),
            sum(run_le_120) FILTER (WHERE NOT is_now),
            sum(run_le_300) FILTER (WHERE NOT is_now),
            sum(run_le_600) FILTER (WHERE NOT is_now),
            sum(run_le_1800) FILTER (WHERE NOT is_now),
            sum(run_le_3600) FILTER (WHERE NOT is_now),
            sum(run_le_7200) FILTER (WHERE NOT is_now),
            sum(run_le_21600) FILTER (WHERE NOT is_now),
            sum(run_le_86400) FILTER (WHERE NOT is_now)
        ) AS run_p95_seconds_before
    FROM days
    GROUP BY source, category_name, sub_category_name
),
rates AS (
    SELECT
        *,
        bi.failure_rate(failed, ended) AS failure_rate,
        bi.failure_rate(failed_before, ended_before) AS failure_rate_before
    FROM sums
)
SELECT
    source,
    category_name,
    sub_category_name,
    coalesce(jobs, 0) AS jobs,
    coalesce(failed, 0) AS failed,
    failure_rate,
    queued_p95_seconds,
    run_p95_seconds,
    coalesce(jobs_before, 0) AS jobs_before,
    coalesce(failed_before, 0) AS failed_before,
    failure_rate_before,
    queued_p95_seconds_before,
    run_p95_seconds_before,
    failure_rate - failure_rate_before AS failure_rate_change,
    round(run_p95_seconds / nullif(run_p95_seconds_before, 0), 2) AS run_p95_ratio,
    coalesce(
        least(ended, ended_before) >= 20
        AND (
            (failure_rate >= failure_rate_before + 0.05 AND failure_rate >= failure_rate_before * 1.5)
            OR run_p95_seconds >= run_p95_seconds_before * 1.5
        ),
        false
    ) AS is_worse
FROM rates;

COMMENT ON VIEW bi.category_health IS
'Failure rate and p95 of the last seven days against the four weeks before, by sub-category.';
