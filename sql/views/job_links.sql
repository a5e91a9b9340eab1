-- Question: under which addresses can the outputs of a job be had?
-- Grain:    one row a link: the job's own publish link, and one a document.
-- Columns:  kind is publish or document; position joins bi.job_documents on (source, job_id, position).
-- Notes:    whoever has a Public link has the file: only the role aims360_links reads this view. Links of another scope
--           want a token of AIMS360 too. Under AIMS360_PURGE=scrub and delete they go with the job.
CREATE OR REPLACE VIEW bi.job_links WITH (security_barrier) AS
SELECT
    s.name AS source,
    j.job_id,
    j.account_code,
    l.kind,
    l.position,
    l.document_name,
    l.link,
    j.publish_link_access_scope AS access_scope,
    l.available_until AT TIME ZONE 'UTC' AS available_until_utc
FROM aims360.jobs AS j
LEFT JOIN etl.sources AS s USING (source_id)
CROSS JOIN LATERAL (
    SELECT 'publish' AS kind, NULL::integer AS position, NULL AS document_name, j.publish_link AS link,
           j.purge_date_time AS available_until
    WHERE j.publish_link IS NOT NULL
    UNION ALL
    SELECT 'document', d.position, d.document_name, d.download_link, d.available_until
    FROM aims360.job_documents AS d
    WHERE d.source_id = j.source_id AND d.job_id = j.job_id AND d.download_link IS NOT NULL
) AS l
WHERE (
    (SELECT aims360.sees_all(current_user, session_user))
    OR j.source_id = ANY ((SELECT aims360.sources_seen(current_user, session_user))::smallint[])
    OR (j.source_id, j.account_code) IN (SELECT a.* FROM aims360.accounts_seen(current_user, session_user) AS a)
);

COMMENT ON VIEW bi.job_links IS 'One row a link to an output: secret, for the role aims360_links alone.';
