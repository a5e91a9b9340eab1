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
    j.job_id,
    t.attempt,
    t.is_last,
    j.account_code,
    j.category_name,
    j.sub_category_name,
    CASE WHEN t.is_last THEN j.job_status ELSE t.job_status END AS job_status,
    CASE WHEN t.is_last THEN j.start_date ELSE t.start_date END AT TIME ZONE 'UTC' AS started_at_utc,
    CASE WHEN t.is_last THEN j.completed_date ELSE t.completed_date END AT TIME ZONE 'UTC' AS completed_at_utc,
    CASE
        WHEN t.is_last THEN aims360.seconds_between(j.start_date, j.completed_date)
        ELSE aims360.seconds_between(t.start_date, t.completed_date)
    END AS run_seconds,
    j.created_date AT TIME ZONE 'UTC' AS created_at_utc
FROM aims360.jobs AS j
JOIN etl.sources AS s USING (source_id)
CROSS JOIN LATERAL (
    SELECT 0 AS attempt, true AS is_last, NULL AS job_status, NULL::timestamptz AS start_date,
           NULL::timestamptz AS completed_date
    WHERE aims360.attempts(j.number_of_attempts, j.reruns_seen) = 0
    UNION ALL
    SELECT
        n.attempt,
        n.attempt = max(n.attempt) OVER (),
        (array_agg(n.job_status ORDER BY n.history_id DESC))[1],
        max(n.start_date),
        max(n.completed_date)
    FROM (
        SELECT
            v.*,
            coalesce(v.number_of_attempts, sum(v.gave_way::int) OVER (ORDER BY v.history_id))::integer AS attempt
        FROM (
            SELECT
                h.*,
                lag(h.completed_date) OVER versions IS NOT NULL
                    AND h.start_date IS DISTINCT FROM lag(h.start_date) OVER versions AS gave_way
            FROM aims360.job_status_history AS h
            WHERE h.source_id = j.source_id AND h.job_id = j.job_id
            WINDOW versions AS (ORDER BY h.history_id)
        ) AS v
    ) AS n
    WHERE aims360.attempts(j.number_of_attempts, j.reruns_seen) > 0
    GROUP BY n.attempt
) AS t
WHERE (
    (SELECT aims360.accounts_seen(current_user, session_user)) IS NULL
    OR aims360.sees((SELECT aims360.accounts_seen(current_user, session_user)), s.name, j.account_code)
);

COMMENT ON VIEW bi.job_attempts IS 'One row a run of a job, reruns included, as far as polling saw it.';
