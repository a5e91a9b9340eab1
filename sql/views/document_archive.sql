-- Question: which outputs were kept before they went, and where are the files?
-- Grain:    one row a file that `aims360-etl documents fetch` put in its place.
-- Columns:  joins bi.jobs and bi.job_documents on (source, job_id, position) as long as these hold the job; rows outlive
--           it. A job that was run again may have a file of each run under the same position: sha256 tells them apart.
-- Notes:    paths are of the place where files were put, and no links: reading a file takes the right to read there. That
--           a file is still there is not known here.
CREATE OR REPLACE VIEW bi.document_archive WITH (security_barrier) AS
SELECT
    s.name AS source,
    d.job_id,
    d.position,
    d.document_name,
    d.account_code,
    d.path,
    d.bytes AS size_bytes,
    d.sha256,
    d.fetched_at AT TIME ZONE 'UTC' AS fetched_at_utc
FROM aims360.document_archive AS d
LEFT JOIN etl.sources AS s USING (source_id)
WHERE (
    (SELECT aims360.sees_all(current_user, session_user))
    OR d.source_id = ANY ((SELECT aims360.sources_seen(current_user, session_user))::smallint[])
    OR (d.source_id, d.account_code) IN (SELECT a.* FROM aims360.accounts_seen(current_user, session_user) AS a)
);

COMMENT ON VIEW bi.document_archive IS 'One row an output that was fetched and kept: where its file is; no links.';
