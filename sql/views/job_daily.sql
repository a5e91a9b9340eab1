-- Question: how many jobs ran on each day, how did they end, how long did they wait and take?
-- Grain:    one row a source, day, account, category, sub-category and last status.
-- Columns:  additive: sum them over any grouping. `*_le_N` counts the jobs with a time of at most N seconds, so
--           sum(run_le_60) / sum(run_count) is the share that ran within a minute.
-- Notes:    live jobs plus what purged jobs left behind (aims360.purged_daily): a purge never changes a total. Queue
--           and run time as in bi.jobs: no queue time for jobs that were rerun. Days are those of the source's time zone
--           (AIMS360_TIME_ZONE).
CREATE OR REPLACE VIEW bi.job_daily AS
WITH live AS (
    SELECT
        j.source_id,
        aims360.day_of(j.created_date, s.time_zone) AS day,
        j.account_code,
        j.category_name,
        j.sub_category_name,
        j.job_status,
        coalesce(j.number_of_attempts, 0) AS attempts,
        coalesce(d.documents, 0) AS documents,
        aims360.seconds_since_creation(j.created_date, j.start_date, j.number_of_attempts) AS queued_seconds,
        aims360.seconds_between(j.start_date, j.completed_date) AS run_seconds
    FROM aims360.jobs AS j
    JOIN etl.sources AS s USING (source_id)
    LEFT JOIN (
        SELECT source_id, job_id, count(*) AS documents
        FROM aims360.job_documents
        GROUP BY source_id, job_id
    ) AS d USING (source_id, job_id)
),
counted AS (
    SELECT
        source_id,
        day,
        account_code,
        category_name,
        sub_category_name,
        job_status,
        count(*) AS jobs,
        sum(attempts) AS attempts,
        sum(documents) AS documents,
        count(queued_seconds) AS queued_count,
        coalesce(sum(queued_seconds), 0) AS queued_seconds,
        count(*) FILTER (WHERE queued_seconds <= 1) AS queued_le_1,
        count(*) FILTER (WHERE queued_seconds <= 2) AS queued_le_2,
        count(*) FILTER (WHERE queued_seconds <= 5) AS queued_le_5,
        count(*) FILTER (WHERE queued_seconds <= 10) AS queued_le_10,
        count(*) FILTER (WHERE queued_seconds <= 30) AS queued_le_30,
        count(*) FILTER (WHERE queued_seconds <= 60) AS queued_le_60,
        count(*) FILTER (WHERE queued_seconds <= 120) AS queued_le_120,
        count(*) FILTER (WHERE queued_seconds <= 300) AS queued_le_300,
        count(*) FILTER (WHERE queued_seconds <= 600) AS queued_le_600,
        count(*) FILTER (WHERE queued_seconds <= 1800) AS queued_le_1800,
        count(*) FILTER (WHERE queued_seconds <= 3600) AS queued_le_3600,
        count(*) FILTER (WHERE queued_seconds <= 7200) AS queued_le_7200,
        count(*) FILTER (WHERE queued_seconds <= 21600) AS queued_le_21600,
        count(*) FILTER (WHERE queued_seconds <= 86400) AS queued_le_86400,
        count(run_seconds) AS run_count,
        coalesce(sum(run_seconds), 0) AS run_seconds,
        count(*) FILTER (WHERE run_seconds <= 1) AS run_le_1,
        count(*) FILTER (WHERE run_seconds <= 2) AS run_le_2,
        count(*) FILTER (WHERE run_seconds <= 5) AS run_le_5,
        count(*) FILTER (WHERE run_seconds <= 10) AS run_le_10,
        count(*) FILTER (WHERE run_seconds <= 30) AS run_le_30,
        count(*) FILTER (WHERE run_seconds <= 60) AS run_le_60,
        count(*) FILTER (WHERE run_seconds <= 120) AS run_le_120,
        count(*) FILTER (WHERE run_seconds <= 300) AS run_le_300,
        count(*) FILTER (WHERE run_seconds <= 600) AS run_le_600,
        count(*) FILTER (WHERE run_seconds <= 1800) AS run_le_1800,
        count(*) FILTER (WHERE run_seconds <= 3600) AS run_le_3600,
        count(*) FILTER (WHERE run_seconds <= 7200) AS run_le_7200,
        count(*) FILTER (WHERE run_seconds <= 21600) AS run_le_21600,
        count(*) FILTER (WHERE run_seconds <= 86400) AS run_le_86400
    FROM live
    GROUP BY source_id, day, account_code, category_name, sub_category_name, job_status
    UNION ALL
    SELECT
        source_id,
        day,
        account_code,
        category_name,
        sub_category_name,
        job_status,
        jobs,
        attempts,
        documents,
        queued_count,
        queued_seconds,
        queued_le_1,
        queued_le_2,
        queued_le_5,
        queued_le_10,
        queued_le_30,
        queued_le_60,
        queued_le_120,
        queued_le_300,
        queued_le_600,
        queued_le_1800,
        queued_le_3600,
        queued_le_7200,
        queued_le_21600,
        queued_le_86400,
        run_count,
        run_seconds,
        run_le_1,
        run_le_2,
        run_le_5,
        run_le_10,
        run_le_30,
        run_le_60,
        run_le_120,
        run_le_300,
        run_le_600,
        run_le_1800,
        run_le_3600,
        run_le_7200,
        run_le_21600,
        run_le_86400
    FROM aims360.purged_daily
)
SELECT
    s.name AS source,
    c.day,
    nullif(c.account_code, '') AS account_code,
    nullif(c.category_name, '') AS category_name,
    nullif(c.sub_category_name, '') AS sub_category_name,
    nullif(c.job_status, '') AS job_status,
    sum(c.jobs)::bigint AS jobs,
    sum(c.attempts)::bigint AS attempts,
    sum(c.documents)::bigint AS documents,
    sum(c.queued_count)::bigint AS queued_count,
    sum(c.queued_seconds)::numeric AS queued_seconds,
    sum(c.queued_le_1)::bigint AS queued_le_1,
    sum(c.queued_le_2)::bigint AS queued_le_2,
    sum(c.queued_le_5)::bigint AS queued_le_5,
    sum(c.queued_le_10)::bigint AS queued_le_10,
    sum(c.queued_le_30)::bigint AS queued_le_30,
    sum(c.queued_le_60)::bigint AS queued_le_60,
    sum(c.queued_le_120)::bigint AS queued_le_120,
    sum(c.queued_le_300)::bigint AS queued_le_300,
    sum(c.queued_le_600)::bigint AS queued_le_600,
    sum(c.queued_le_1800)::bigint AS queued_le_1800,
    sum(c.queued_le_3600)::bigint AS queued_le_3600,
    sum(c.queued_le_7200)::bigint AS queued_le_7200,
    sum(c.queued_le_21600)::bigint AS queued_le_21600,
    sum(c.queued_le_86400)::bigint AS queued_le_86400,
    sum(c.run_count)::bigint AS run_count,
    sum(c.run_seconds)::numeric AS run_seconds,
    sum(c.run_le_1)::bigint AS run_le_1,
    sum(c.run_le_2)::bigint AS run_le_2,
    sum(c.run_le_5)::bigint AS run_le_5,
    sum(c.run_le_10)::bigint AS run_le_10,
    sum(c.run_le_30)::bigint AS run_le_30,
    sum(c.run_le_60)::bigint AS run_le_60,
    sum(c.run_le_120)::bigint AS run_le_120,
    sum(c.run_le_300)::bigint AS run_le_300,
    sum(c.run_le_600)::bigint AS run_le_600,
    sum(c.run_le_1800)::bigint AS run_le_1800,
    sum(c.run_le_3600)::bigint AS run_le_3600,
    sum(c.run_le_7200)::bigint AS run_le_7200,
    sum(c.run_le_21600)::bigint AS run_le_21600,
    sum(c.run_le_86400)::bigint AS run_le_86400
FROM counted AS c
JOIN etl.sources AS s USING (source_id)
GROUP BY 1, 2, 3, 4, 5, 6;

COMMENT ON VIEW bi.job_daily IS
'Jobs by day, account, category and last status: additive counts, live and purged jobs together.';
COMMENT ON COLUMN bi.job_daily.source IS 'the source''s name';
COMMENT ON COLUMN bi.job_daily.day IS 'day the job was created, in the source''s time zone';
COMMENT ON COLUMN bi.job_daily.account_code IS 'account';
COMMENT ON COLUMN bi.job_daily.category_name IS 'category, such as Reports';
COMMENT ON COLUMN bi.job_daily.sub_category_name IS 'sub-category';
COMMENT ON COLUMN bi.job_daily.job_status IS 'last status seen';
COMMENT ON COLUMN bi.job_daily.jobs IS 'number of jobs';
COMMENT ON COLUMN bi.job_daily.attempts IS 'sum of their attempts';
COMMENT ON COLUMN bi.job_daily.documents IS 'documents they made';
COMMENT ON COLUMN bi.job_daily.queued_count IS 'jobs whose queue time is known';
COMMENT ON COLUMN bi.job_daily.queued_seconds IS 'sum of their queue times, in seconds';
COMMENT ON COLUMN bi.job_daily.queued_le_1 IS 'jobs with a queue time of at most 1 s';
COMMENT ON COLUMN bi.job_daily.queued_le_2 IS 'jobs with a queue time of at most 2 s';
COMMENT ON COLUMN bi.job_daily.queued_le_5 IS 'jobs with a queue time of at most 5 s';
COMMENT ON COLUMN bi.job_daily.queued_le_10 IS 'jobs with a queue time of at most 10 s';
COMMENT ON COLUMN bi.job_daily.queued_le_30 IS 'jobs with a queue time of at most 30 s';
COMMENT ON COLUMN bi.job_daily.queued_le_60 IS 'jobs with a queue time of at most 60 s';
COMMENT ON COLUMN bi.job_daily.queued_le_120 IS 'jobs with a queue time of at most 120 s';
COMMENT ON COLUMN bi.job_daily.queued_le_300 IS 'jobs with a queue time of at most 300 s';
COMMENT ON COLUMN bi.job_daily.queued_le_600 IS 'jobs with a queue time of at most 600 s';
COMMENT ON COLUMN bi.job_daily.queued_le_1800 IS 'jobs with a queue time of at most 1800 s';
COMMENT ON COLUMN bi.job_daily.queued_le_3600 IS 'jobs with a queue time of at most 3600 s';
COMMENT ON COLUMN bi.job_daily.queued_le_7200 IS 'jobs with a queue time of at most 7200 s';
COMMENT ON COLUMN bi.job_daily.queued_le_21600 IS 'jobs with a queue time of at most 21600 s';
COMMENT ON COLUMN bi.job_daily.queued_le_86400 IS 'jobs with a queue time of at most 86400 s';
COMMENT ON COLUMN bi.job_daily.run_count IS 'jobs whose run time is known';
COMMENT ON COLUMN bi.job_daily.run_seconds IS 'sum of their run times, in seconds';
COMMENT ON COLUMN bi.job_daily.run_le_1 IS 'jobs with a run time of at most 1 s';
COMMENT ON COLUMN bi.job_daily.run_le_2 IS 'jobs with a run time of at most 2 s';
COMMENT ON COLUMN bi.job_daily.run_le_5 IS 'jobs with a run time of at most 5 s';
COMMENT ON COLUMN bi.job_daily.run_le_10 IS 'jobs with a run time of at most 10 s';
COMMENT ON COLUMN bi.job_daily.run_le_30 IS 'jobs with a run time of at most 30 s';
COMMENT ON COLUMN bi.job_daily.run_le_60 IS 'jobs with a run time of at most 60 s';
COMMENT ON COLUMN bi.job_daily.run_le_120 IS 'jobs with a run time of at most 120 s';
COMMENT ON COLUMN bi.job_daily.run_le_300 IS 'jobs with a run time of at most 300 s';
COMMENT ON COLUMN bi.job_daily.run_le_600 IS 'jobs with a run time of at most 600 s';
COMMENT ON COLUMN bi.job_daily.run_le_1800 IS 'jobs with a run time of at most 1800 s';
COMMENT ON COLUMN bi.job_daily.run_le_3600 IS 'jobs with a run time of at most 3600 s';
COMMENT ON COLUMN bi.job_daily.run_le_7200 IS 'jobs with a run time of at most 7200 s';
COMMENT ON COLUMN bi.job_daily.run_le_21600 IS 'jobs with a run time of at most 21600 s';
COMMENT ON COLUMN bi.job_daily.run_le_86400 IS 'jobs with a run time of at most 86400 s';
