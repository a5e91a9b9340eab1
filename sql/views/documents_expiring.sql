-- Question: which documents will be gone, and when?
-- Grain:    one row a document that can still be had.
-- Columns:  available_until_utc is the document's own expiry or the purge of its job, whichever comes first; ends_by says
--           which.
-- Notes:    published: others than who made it may open it (Public, PeopleInOrganization). A document without either date
--           never ends, and is not here.
CREATE OR REPLACE VIEW bi.documents_expiring WITH (security_barrier) AS
SELECT
    s.name AS source,
    d.job_id,
    d.position,
    j.account_code,
    j.category_name,
    j.sub_category_name,
    d.document_name,
    d.type,
    d.size_in_mb,
    least(d.expiry_date, j.purge_date_time) AT TIME ZONE 'UTC' AS available_until_utc,
    round(extract(epoch FROM least(d.expiry_date, j.purge_date_time) - now()) / 86400, 1) AS expires_in_days,
    CASE WHEN j.purge_date_time < d.expiry_date OR d.expiry_date IS NULL THEN 'purge' ELSE 'expiry' END AS ends_by,
    aims360.is_published(j.publish_link_access_scope) AS is_published,
    j.created_date AT TIME ZONE 'UTC' AS job_created_at_utc
FROM aims360.job_documents AS d
JOIN aims360.jobs AS j USING (source_id, job_id)
JOIN etl.sources AS s USING (source_id)
WHERE least(d.expiry_date, j.purge_date_time) > now()
  AND j.purged_at IS NULL
  AND (
    (SELECT aims360.accounts_seen(current_user, session_user)) IS NULL
    OR aims360.sees((SELECT aims360.accounts_seen(current_user, session_user)), s.name, j.account_code)
);

COMMENT ON VIEW bi.documents_expiring IS 'One row a document that can still be had, with the moment from which it can''t.';
