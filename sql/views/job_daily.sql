-- Question: how many jobs ran on each day, how did they end, how long did they wait and take?
-- Grain:    one row a source, day, account, category, sub-category and last status.
-- Columns:  additive: sum them over any grouping. `*_le_N` counts the jobs with a time of at most N seconds, so
--           sum(run_le_60) / sum(run_count) is the share that ran within a minute, and bi.percentile gives a p50 or p95.
-- Notes:    the jobs in the mirror (aims360.live_daily) plus what purged ones left behind (aims360.purged_daily): a purge
--           never changes a total. Both are kept in the transactions that change the jobs; a source's first scan is
--           counted when it ends. Queue and run time as in bi.jobs: no queue time for jobs that were rerun. Days are
--           those of the source's time zone (AIMS360_TIME_ZONE).
CREATE OR REPLACE VIEW bi.job_daily WITH (security_barrier) AS
SELECT
    s.name AS source,
    d.day,
    nullif(d.account_code, '') AS account_code,
    nullif(d.category_name, '') AS category_name,
    nullif(d.sub_category_name, '') AS sub_category_name,
    nullif(d.job_status, '') AS job_status,
    sum(d.jobs)::bigint AS jobs,
    sum(d.attempts)::bigint AS attempts,
    sum(d.documents)::bigint AS documents,
    sum(d.queued_count)::bigint AS queued_count,
    sum(d.queued_seconds)::numeric AS queued_seconds,
    sum(d.queued_le_1)::bigint AS queued_le_1,
    sum(d.queued_le_2)::bigint AS queued_le_2,
    sum(d.queued_le_5)::bigint AS queued_le_5,
    sum(d.queued_le_10)::bigint AS queued_le_10,
    sum(d.queued_le_30)::bigint AS queued_le_30,
    sum(d.queued_le_60)::bigint AS queued_le_60,
    sum(d.queued_le_120)::bigint AS queued_le_120,
    sum(d.queued_le_300)::bigint AS queued_le_300,
    sum(d.queued_le_600)::bigint AS queued_le_600,
    sum(d.queued_le_1800)::bigint AS queued_le_1800,
    sum(d.queued_le_3600)::bigint AS queued_le_3600,
    sum(d.queued_le_7200)::bigint AS queued_le_7200,
    sum(d.queued_le_21600)::bigint AS queued_le_21600,
    sum(d.queued_le_86400)::bigint AS queued_le_86400,
    sum(d.run_count)::bigint AS run_count,
    sum(d.run_seconds)::numeric AS run_seconds,
    sum(d.run_le_1)::bigint AS run_le_1,
    sum(d.run_le_2)::bigint AS run_le_2,
    sum(d.run_le_5)::bigint AS run_le_5,
    sum(d.run_le_10)::bigint AS run_le_10,
    sum(d.run_le_30)::bigint AS run_le_30,
    sum(d.run_le_60)::bigint AS run_le_60,
    sum(d.run_le_120)::bigint AS run_le_120,
    sum(d.run_le_300)::bigint AS run_le_300,
    sum(d.run_le_600)::bigint AS run_le_600,
    sum(d.run_le_1800)::bigint AS run_le_1800,
    sum(d.run_le_3600)::bigint AS run_le_3600,
    sum(d.run_le_7200)::bigint AS run_le_7200,
    sum(d.run_le_21600)::bigint AS run_le_21600,
    sum(d.run_le_86400)::bigint AS run_le_86400,
    coalesce(sum(d.jobs) FILTER (WHERE d.job_status = 'Failed'), 0)::bigint AS failed,
    coalesce(sum(d.jobs) FILTER (WHERE aims360.is_ended(d.job_status)), 0)::bigint AS ended
FROM (
    SELECT * FROM aims360.live_daily WHERE jobs <> 0
    UNION ALL
    SELECT * FROM aims360.purged_daily
) AS d
JOIN etl.sources AS s USING (source_id)
WHERE (
    (SELECT aims360.sees_all(current_user, session_user))
    OR d.source_id = ANY ((SELECT aims360.sources_seen(current_user, session_user))::smallint[])
    OR (d.source_id, d.account_code) IN (SELECT a.* FROM aims360.accounts_seen(current_user, session_user) AS a)
)
GROUP BY 1, 2, 3, 4, 5, 6;

COMMENT ON VIEW bi.job_daily IS
'Jobs by day, account, category and last status: additive counts, live and purged jobs together.';
