-- Question: which states did a job pass, and when did it enter them?
-- Grain:    one row a version seen of a job the mirror holds.
-- Columns:  is_entry marks the versions whose status differs from the one seen before; they alone have bounds: the state
--           was entered after entered_after_utc and by entered_by_utc.
-- Notes:    polling sees what lies there when it looks: states that came and went between two looks are not here, and a
--           state may have been left and entered again unseen. The bounds are the moments of the versions around it, by
--           the source's clock; where a change didn't move modifiedDate, those at which the mirror looked. A purged job
--           takes its history along.
CREATE OR REPLACE VIEW bi.job_status_history WITH (security_barrier) AS
SELECT
    s.name AS source,
    h.job_id,
    h.history_id AS version_seen,
    j.account_code,
    j.category_name,
    j.sub_category_name,
    h.job_status,
    h.previous_status,
    e.is_entry,
    CASE WHEN e.is_entry THEN least(h.made_after, h.made_by) END AT TIME ZONE 'UTC' AS entered_after_utc,
    CASE WHEN e.is_entry THEN h.made_by END AT TIME ZONE 'UTC' AS entered_by_utc,
    h.percent_completed,
    h.number_of_attempts,
    h.modified_date AT TIME ZONE 'UTC' AS modified_at_utc,
    h.seen_at AT TIME ZONE 'UTC' AS seen_at_utc,
    h.row_version
FROM (
    SELECT
        v.*,
        coalesce(v.previous_date, v.not_seen_before) AS made_after,
        CASE WHEN v.modified_date <= v.previous_date THEN v.seen_at ELSE coalesce(v.modified_date, v.seen_at) END AS made_by
    FROM (
        SELECT
            h.*,
            lag(h.job_status) OVER versions AS previous_status,
            lag(h.modified_date) OVER versions AS previous_date,
            row_number() OVER versions = 1 AS is_first
        FROM aims360.job_status_history AS h
        WINDOW versions AS (PARTITION BY h.source_id, h.job_id ORDER BY h.history_id)
    ) AS v
) AS h
JOIN aims360.jobs AS j USING (source_id, job_id)
LEFT JOIN etl.sources AS s USING (source_id)
CROSS JOIN LATERAL (SELECT h.is_first OR h.job_status IS DISTINCT FROM h.previous_status AS is_entry) AS e
WHERE (
    (SELECT aims360.sees_all(current_user, session_user))
    OR h.source_id = ANY ((SELECT aims360.sources_seen(current_user, session_user))::smallint[])
    OR (h.source_id, j.account_code) IN (SELECT a.* FROM aims360.accounts_seen(current_user, session_user) AS a)
);

COMMENT ON VIEW bi.job_status_history IS
'One row a version seen of a job, with the bounds of when its state was entered. Polling misses states between two looks.';
