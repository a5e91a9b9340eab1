-- Question: which documents will be gone, and when?
-- Grain:    one row a document that can still be had.
-- Columns:  available_until_utc is the document's own expiry or the purge of its job, whichever comes first; ends_by says
--           which.
-- Notes:    published: others than who made it may open it (Public, PeopleInOrganization). A document without either date
--           never ends, and is not here. What of its job stands in it is read only where it is asked for: by account and
--           day, counts and sizes come from an index.
CREATE OR REPLACE VIEW bi.documents_expiring WITH (security_barrier) AS
SELECT
    s.name AS source,
    d.job_id,
    d.position,
    d.account_code,
    j.category_name,
    j.sub_category_name,
    d.document_name,
    d.type,
    d.size_in_mb,
    d.available_until AT TIME ZONE 'UTC' AS available_until_utc,
    round(extract(epoch FROM d.available_until - now()) / 86400, 1) AS expires_in_days,
    CASE WHEN d.available_until = d.expiry_date THEN 'expiry' ELSE 'purge' END AS ends_by,
    aims360.is_published(j.publish_link_access_scope) AS is_published,
    j.created_date AT TIME ZONE 'UTC' AS job_created_at_utc
FROM aims360.job_documents AS d
LEFT JOIN etl.sources AS s USING (source_id)
LEFT JOIN aims360.jobs AS j USING (source_id, job_id)
WHERE d.available_until AT TIME ZONE 'UTC' > now() AT TIME ZONE 'UTC'
  AND (
      (SELECT aims360.sees_all(current_user, session_user))
      OR d.source_id = ANY ((SELECT aims360.sources_seen(current_user, session_user))::smallint[])
      OR (d.source_id, d.account_code) IN (SELECT a.* FROM aims360.accounts_seen(current_user, session_user) AS a)
  );

COMMENT ON VIEW bi.documents_expiring IS 'One row a document that can still be had, with the moment from which it can''t.';
