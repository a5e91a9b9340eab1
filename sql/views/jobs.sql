-- Question: what ran, for whom, how long did it wait and take, how did it end, when does it expire?
-- Grain:    one row a job the mirror holds.
-- Columns:  times are UTC `timestamp` columns named so, since BI tools filter without zones; seconds are numeric.
-- Notes:    no links, request addresses or responses: links are in a view of their own. What queue and
--           run time are, what stuck means, and what polling can't see of them, stands at their columns.
CREATE OR REPLACE VIEW bi.jobs WITH (security_barrier) AS
SELECT
    s.name AS source,
    j.job_id,
    j.account_code,
    j.database_name,
    j.client_id,
    j.category_name,
    j.sub_category_name,
    j.job_description,
    j.client_request_id,
    j.created_by,
    j.modified_by,
    j.job_status,
    j.job_status_text,
    j.percent_completed,
    j.number_of_attempts,
    j.response_type,
    j.publish_link_access_scope,
    j.can_rerun,
    j.can_publish,
    j.created_date AT TIME ZONE 'UTC' AS created_at_utc,
    j.start_date AT TIME ZONE 'UTC' AS started_at_utc,
    j.completed_date AT TIME ZONE 'UTC' AS completed_at_utc,
    j.modified_date AT TIME ZONE 'UTC' AS modified_at_utc,
    j.purge_date_time AT TIME ZONE 'UTC' AS purge_at_utc,
    aims360.seconds_since_creation(j.created_date, j.start_date, r.attempts) AS queued_seconds,
    aims360.seconds_between(j.start_date, j.completed_date) AS run_seconds,
    aims360.seconds_since_creation(j.created_date, j.completed_date, r.attempts) AS total_seconds,
    j.documents::bigint AS documents,
    round(extract(epoch FROM j.purge_date_time - now()) / 86400, 1) AS expires_in_days,
    aims360.is_open(j.job_status) AS is_open,
    j.purged_at IS NOT NULL AS is_purged,
    j.row_version,
    r.attempts > 0 AS is_rerun,
    r.attempts,
    j.job_status IS NOT NULL AND j.job_status = 'Failed' AS is_failed,
    j.purged_at IS NULL AND aims360.is_stuck(
        j.job_status, coalesce(j.modified_date, j.start_date, j.created_date), s.complete_through
    ) AS is_stuck,
    aims360.is_published(j.publish_link_access_scope) AS is_published,
    aims360.day_of(j.purge_date_time, s.time_zone) AS purge_date,
    aims360.day_of(j.created_date, s.time_zone) AS created_day,
    aims360.local_time(j.created_date, s.time_zone) AS created_at_local,
    j.maximum_date_time_to_execute_job AT TIME ZONE 'UTC' AS rerun_until_utc,
    aims360.is_ended(j.job_status) AS is_ended
FROM aims360.jobs AS j
LEFT JOIN etl.sources AS s USING (source_id)
CROSS JOIN LATERAL (SELECT aims360.attempts(j.number_of_attempts, j.reruns_seen) AS attempts) AS r
WHERE (
    (SELECT aims360.sees_all(current_user, session_user))
    OR j.source_id = ANY ((SELECT aims360.sources_seen(current_user, session_user))::smallint[])
    OR (j.source_id, j.account_code) IN (SELECT a.* FROM aims360.accounts_seen(current_user, session_user) AS a)
);

COMMENT ON VIEW bi.jobs IS 'One row a job the mirror holds: whose, what, how long, how it ended, when it expires.';
