-- Question: which documents did the jobs make, how big are they, when do they expire?
-- Grain:    one row a document of a job the mirror holds.
-- Columns:  join to bi.jobs on (source, job_id). Times are UTC `timestamp` columns named so.
-- Notes:    no links: whoever has a Public link has the file.
CREATE OR REPLACE VIEW bi.job_documents AS
SELECT
    s.name AS source,
    d.job_id,
    d.position,
    d.document_name,
    d.type,
    d.size_in_mb,
    d.version,
    d.document_id,
    d.expiry_date AT TIME ZONE 'UTC' AS expires_at_utc
FROM aims360.job_documents AS d
JOIN etl.sources AS s USING (source_id);

COMMENT ON VIEW bi.job_documents IS 'One row a document that a job made; no links.';
COMMENT ON COLUMN bi.job_documents.source IS 'the source''s name';
COMMENT ON COLUMN bi.job_documents.job_id IS 'job that made it';
COMMENT ON COLUMN bi.job_documents.position IS 'place in the job''s list, from 0';
COMMENT ON COLUMN bi.job_documents.document_name IS 'file name';
COMMENT ON COLUMN bi.job_documents.type IS 'file ending, such as .xlsx';
COMMENT ON COLUMN bi.job_documents.size_in_mb IS 'size in megabytes, as the source rounds it';
COMMENT ON COLUMN bi.job_documents.version IS 'version of the document';
COMMENT ON COLUMN bi.job_documents.document_id IS 'the source''s document id; usually the job''s, so not unique';
COMMENT ON COLUMN bi.job_documents.expires_at_utc IS 'when the document stops being served, UTC';
