-- Question: what ran, for whom, how long did it wait and take, how did it end, when does it expire?
-- Grain:    one row a job the mirror holds.
-- Columns:  times are UTC `timestamp` columns named so, since BI tools filter without zones; seconds are numeric.
-- Notes:    no links, request addresses or responses: links are in a view of their own. Queue time is
--           startDate - createdDate, run time completedDate - startDate; NULL while a moment is unknown or the moments
--           are out of order. Of a job that was rerun the source shows the last run only: its run time is that one's,
--           and queue and total time are NULL, since what lies between creation and the last start isn't waiting.
CREATE OR REPLACE VIEW bi.jobs AS
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
    aims360.seconds_since_creation(j.created_date, j.start_date, j.number_of_attempts) AS queued_seconds,
    aims360.seconds_between(j.start_date, j.completed_date) AS run_seconds,
    aims360.seconds_since_creation(j.created_date, j.completed_date, j.number_of_attempts) AS total_seconds,
    (
        SELECT count(*)
        FROM aims360.job_documents AS d
        WHERE d.source_id = j.source_id AND d.job_id = j.job_id
    ) AS documents,
    round(extract(epoch FROM j.purge_date_time - now()) / 86400, 1) AS expires_in_days,
    coalesce(j.job_status IN ('Queued', 'Inprogress'), false) AS is_open,
    j.purged_at IS NOT NULL AS is_purged,
    j.row_version,
    coalesce(j.number_of_attempts > 0, false) AS is_rerun
FROM aims360.jobs AS j
JOIN etl.sources AS s USING (source_id);

COMMENT ON VIEW bi.jobs IS 'One row a job the mirror holds: whose, what, how long, how it ended, when it expires.';
COMMENT ON COLUMN bi.jobs.source IS 'the source''s name';
COMMENT ON COLUMN bi.jobs.job_id IS 'unique id of the job';
COMMENT ON COLUMN bi.jobs.account_code IS 'account';
COMMENT ON COLUMN bi.jobs.database_name IS 'database of the account';
COMMENT ON COLUMN bi.jobs.client_id IS 'client of AIMS360';
COMMENT ON COLUMN bi.jobs.category_name IS 'category, such as Reports';
COMMENT ON COLUMN bi.jobs.sub_category_name IS 'sub-category, such as Production Forecasting Report';
COMMENT ON COLUMN bi.jobs.job_description IS 'what was asked for';
COMMENT ON COLUMN bi.jobs.client_request_id IS 'the caller''s own id';
COMMENT ON COLUMN bi.jobs.created_by IS 'who asked for it; personal data';
COMMENT ON COLUMN bi.jobs.modified_by IS 'who changed it last; personal data';
COMMENT ON COLUMN bi.jobs.job_status IS 'Queued, Inprogress, Completed, Failed, or what else the source says';
COMMENT ON COLUMN bi.jobs.job_status_text IS 'status in words';
COMMENT ON COLUMN bi.jobs.percent_completed IS '0 to 100';
COMMENT ON COLUMN bi.jobs.number_of_attempts IS 'how often it was run again; null where the source doesn''t say';
COMMENT ON COLUMN bi.jobs.response_type IS 'File Attachment, Publishlink or In-line JSON';
COMMENT ON COLUMN bi.jobs.publish_link_access_scope IS 'Public, Private or PeopleInOrganization';
COMMENT ON COLUMN bi.jobs.can_rerun IS 'whether the source allows a rerun';
COMMENT ON COLUMN bi.jobs.can_publish IS 'whether the source allows publishing';
COMMENT ON COLUMN bi.jobs.created_at_utc IS 'when it was queued, UTC';
COMMENT ON COLUMN bi.jobs.started_at_utc IS 'when the last run began, UTC';
COMMENT ON COLUMN bi.jobs.completed_at_utc IS 'when the last run ended, UTC';
COMMENT ON COLUMN bi.jobs.modified_at_utc IS 'when this version was made, UTC';
COMMENT ON COLUMN bi.jobs.purge_at_utc IS 'when the source deletes job and outputs, UTC';
COMMENT ON COLUMN bi.jobs.queued_seconds IS 'seconds from creation to start; null where the job was rerun';
COMMENT ON COLUMN bi.jobs.run_seconds IS 'seconds from start to completion, of the last run';
COMMENT ON COLUMN bi.jobs.total_seconds IS 'seconds from creation to completion; null where the job was rerun';
COMMENT ON COLUMN bi.jobs.documents IS 'number of documents it made';
COMMENT ON COLUMN bi.jobs.expires_in_days IS 'days from now until the purge; negative when it is due';
COMMENT ON COLUMN bi.jobs.is_open IS 'queued or in progress';
COMMENT ON COLUMN bi.jobs.is_purged IS 'purged at the source and kept here (AIMS360_PURGE=scrub or keep)';
COMMENT ON COLUMN bi.jobs.row_version IS 'the source''s version number of the row';
COMMENT ON COLUMN bi.jobs.is_rerun IS 'whether it was run again, as far as number_of_attempts says';
