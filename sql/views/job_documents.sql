-- Question: which documents did the jobs make, how big are they, when do they expire?
-- Grain:    one row a document of a job the mirror holds.
-- Columns:  whose and what the job was stands here too, so that most questions need no join; the rest joins bi.jobs on
--           (source, job_id), where a job comes as often as it has documents.
-- Notes:    no links: whoever has a Public link has the file.
CREATE OR REPLACE VIEW bi.job_documents WITH (security_barrier) AS
SELECT
    s.name AS source,
    d.job_id,
    d.position,
    d.document_name,
    d.type,
    d.size_in_mb,
    d.version,
    d.document_id,
    d.expiry_date AT TIME ZONE 'UTC' AS expires_at_utc,
    d.account_code,
    j.category_name,
    j.sub_category_name,
    j.created_date AT TIME ZONE 'UTC' AS job_created_at_utc,
    aims360.is_published(j.publish_link_access_scope) AS is_published
FROM aims360.job_documents AS d
LEFT JOIN etl.sources AS s USING (source_id)
LEFT JOIN aims360.jobs AS j USING (source_id, job_id)
WHERE (
    (SELECT aims360.sees_all(current_user, session_user))
    OR d.source_id = ANY ((SELECT aims360.sources_seen(current_user, session_user))::smallint[])
    OR (d.source_id, d.account_code) IN (SELECT a.* FROM aims360.accounts_seen(current_user, session_user) AS a)
);

COMMENT ON VIEW bi.job_documents IS 'One row a document that a job made; no links.';
