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
spans AS (
    SELECT
        source,
        category_name,
        sub_category_name,
        is_now,
        sum(jobs)::bigint AS jobs,
        sum(failed)::bigint AS failed,
        sum(ended)::bigint AS ended,
        bi.failure_rate(sum(failed), sum(ended)) AS failure_rate,
        bi.percentile(
            0.95, sum(queued_count), sum(queued_le_1), sum(queued_le_2), sum(queued_le_5), sum(queued_le_10),
            sum(queued_le_30), sum(queued_le_60), sum(queued_le_120), sum(queued_le_300), sum(queued_le_600),
            sum(queued_le_1800), sum(queued_le_3600), sum(queued_le_7200), sum(queued_le_21600),
            sum(queued_le_86400)
        ) AS queued_p95,
        bi.percentile(
            0.95, sum(run_count), sum(run_le_1), sum(run_le_2), sum(run_le_5), sum(run_le_10), sum(run_le_30),
            sum(run_le_60), sum(run_le_120), sum(run_le_300), sum(run_le_600), sum(run_le_1800), sum(run_le_3600),
            sum(run_le_7200), sum(run_le_21600), sum(run_le_86400)
        ) AS run_p95
    FROM days
    GROUP BY source, category_name, sub_category_name, is_now
),
kinds AS (
    SELECT
        source,
        category_name,
        sub_category_name,
        coalesce(max(jobs) FILTER (WHERE is_now), 0) AS jobs,
        coalesce(max(failed) FILTER (WHERE is_now), 0) AS failed,
        max(ended) FILTER (WHERE is_now) AS ended,
        max(failure_rate) FILTER (WHERE is_now) AS failure_rate,
        max(queued_p95) FILTER (WHERE is_now) AS queued_p95_seconds,
        max(run_p95) FILTER (WHERE is_now) AS run_p95_seconds,
        coalesce(max(jobs) FILTER (WHERE NOT is_now), 0) AS jobs_before,
        coalesce(max(failed) FILTER (WHERE NOT is_now), 0) AS failed_before,
        max(ended) FILTER (WHERE NOT is_now) AS ended_before,
        max(failure_rate) FILTER (WHERE NOT is_now) AS failure_rate_before,
        max(queued_p95) FILTER (WHERE NOT is_now) AS queued_p95_seconds_before,
        max(run_p95) FILTER (WHERE NOT is_now) AS run_p95_seconds_before
    FROM spans
    GROUP BY source, category_name, sub_category_name
)
SELECT
    source,
    category_name,
    sub_category_name,
    jobs,
    failed,
    failure_rate,
    queued_p95_seconds,
    run_p95_seconds,
    jobs_before,
    failed_before,
    failure_rate_before,
    queued_p95_seconds_before,
    run_p95_seconds_before,
    failure_rate - failure_rate_before AS failure_rate_change,
    round(run_p95_seconds / nullif(run_p95_seconds_before, 0), 2) AS run_p95_ratio,
    bi.fails_more(failure_rate, failure_rate_before, ended, ended_before)
        OR coalesce(least(ended, ended_before) >= 20 AND run_p95_seconds >= run_p95_seconds_before * 1.5, false)
        AS is_worse
FROM kinds;

COMMENT ON VIEW bi.category_health IS
'Failure rate and p95 of the last seven days against the four weeks before, by sub-category.';
