-- Question: how did each run of a job go, reruns included?
-- Grain:    one row a run of a job the mirror holds, as far as it was seen.
-- Columns:  attempt counts from 0, as the source's numberOfAttempts does; is_last marks the run that bi.jobs shows.
-- Notes:    the source keeps the last run only. Earlier ones are those that the mirror saw before they gave way: a run
--           that began and ended between two looks is not here, so the first attempt of a job may be missing, and
--           job_status is the last that was seen of it. Where the source doesn't count attempts, the mirror does: an
--           ended run that gives way to another start is one more.
CREATE OR REPLACE VIEW bi.job_attempts WITH (security_barrier) AS
SELECT
    s.name AS source,
    r.job_id,
    r.attempt,
    r.is_last,
    r.account_code,
    r.category_name,
    r.sub_category_name,
    r.job_status,
    r.started_at_utc,
    r.completed_at_utc,
    r.run_seconds,
    r.created_at_utc
FROM (
    -- Postgres flattens a view that is nothing but a UNION ALL, and its barrier with it: the condition stands outside.
    SELECT
        j.source_id,
        j.job_id,
        0 AS attempt,
        true AS is_last,
        j.account_code,
        j.category_name,
        j.sub_category_name,
        j.job_status,
        j.start_date AT TIME ZONE 'UTC' AS started_at_utc,
        j.completed_date AT TIME ZONE 'UTC' AS completed_at_utc,
        aims360.seconds_between(j.start_date, j.completed_date) AS run_seconds,
        j.created_date AT TIME ZONE 'UTC' AS created_at_utc
    FROM aims360.jobs AS j
    WHERE aims360.attempts(j.number_of_attempts, j.reruns_seen) = 0
    UNION ALL
    SELECT
        t.source_id,
        t.job_id,
        t.attempt,
        t.is_last,
        t.account_code,
        t.category_name,
        t.sub_category_name,
        t.job_status,
        t.started AT TIME ZONE 'UTC',
        t.completed AT TIME ZONE 'UTC',
        aims360.seconds_between(t.started, t.completed),
        t.created_date AT TIME ZONE 'UTC'
    FROM (
        SELECT
            e.*,
            CASE WHEN e.is_last THEN e.last_start ELSE e.seen_start END AS started,
            CASE WHEN e.is_last THEN e.last_completed ELSE e.seen_completed END AS completed
        FROM (
            SELECT
                n.source_id,
                n.job_id,
                n.attempt,
                n.account_code,
                n.category_name,
                n.sub_category_name,
                n.created_date,
                n.last_start,
                n.last_completed,
                bool_or(n.is_newest) AS is_last,
                (array_agg(n.job_status ORDER BY n.history_id DESC))[1] AS job_status,
                max(n.start_date) AS seen_start,
                max(n.completed_date) AS seen_completed
            FROM (
                SELECT
                    v.*,
                    row_number() OVER (
                        PARTITION BY v.source_id, v.job_id, v.account_code, v.created_date ORDER BY v.history_id DESC
                    ) = 1 AS is_newest,
                    coalesce(
                        v.number_of_attempts,
                        sum(v.gave_way::int) OVER (
                            PARTITION BY v.source_id, v.job_id, v.account_code, v.created_date ORDER BY v.history_id
                        )
                    )::integer AS attempt
                FROM (
                    SELECT
                        h.*,
                        j.account_code,
                        j.category_name,
                        j.sub_category_name,
                        j.created_date,
                        j.start_date AS last_start,
                        j.completed_date AS last_completed,
                        lag(h.completed_date) OVER versions IS NOT NULL
                            AND h.start_date IS DISTINCT FROM lag(h.start_date) OVER versions AS gave_way
                    FROM aims360.job_status_history AS h
                    JOIN aims360.jobs AS j USING (source_id, job_id)
                    WHERE aims360.attempts(j.number_of_attempts, j.reruns_seen) > 0
                    -- Account and creation are the job's: named here, conditions on them reach the tables.
                    WINDOW versions AS (
                        PARTITION BY h.source_id, h.job_id, j.account_code, j.created_date ORDER BY h.history_id
                    )
                ) AS v
            ) AS n
            GROUP BY
                n.source_id, n.job_id, n.attempt, n.account_code, n.category_name, n.sub_category_name, n.created_date,
                n.last_start, n.last_completed
        ) AS e
    ) AS t
) AS r
LEFT JOIN etl.sources AS s USING (source_id)
WHERE (
    (SELECT aims360.sees_all(current_user, session_user))
    OR r.source_id = ANY ((SELECT aims360.sources_seen(current_user, session_user))::smallint[])
    OR (r.source_id, r.account_code) IN (SELECT a.* FROM aims360.accounts_seen(current_user, session_user) AS a)
);

COMMENT ON VIEW bi.job_attempts IS 'One row a run of a job, reruns included, as far as polling saw it.';
