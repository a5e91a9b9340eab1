-- Question: Which jobs hang?
-- Grain:    one row a job that is open and has not changed for over an hour.
-- Columns:  source, job_id, account_code, sub_category_name, job_status, percent_completed, created_by, created_at_utc,
--           modified_at_utc, unchanged_hours.
-- Notes:    as of the moment up to which the mirror is complete, not now: a mirror that lags accuses nobody.
-- Sample:
--  source  | job_id                       | account_code | sub_category_name      | job_status | percent_completed | created_by           |       created_at_utc |      modified_at_utc | unchanged_hours
--  aims360 | 994559b9-ddbf-4d61-ac27-428… | AZ031        | Style Catalogue Export | Inprogress |                35 | operator@example.com | 2026-11-25 09:52:08Z | 2026-11-25 10:52:08Z |               6
--  aims360 | e10508e3-7c3d-4077-ad65-0b6… | AZ022        | Inventory Aging Report | Inprogress |                35 | operator@example.com | 2026-11-25 10:52:08Z | 2026-11-25 11:52:08Z |               5
SELECT
    j.source,
    j.job_id,
    j.account_code,
    j.sub_category_name,
    j.job_status,
    j.percent_completed,
    j.created_by,
    j.created_at_utc,
    j.modified_at_utc,
    round(extract(epoch FROM f.complete_through_utc - j.modified_at_utc) / 3600, 1) AS unchanged_hours
FROM bi.jobs AS j
JOIN bi.freshness AS f USING (source)
WHERE j.job_status IN ('Queued', 'Inprogress')
  AND j.is_stuck
  AND (bi.account() IS NULL OR j.account_code = bi.account())
ORDER BY unchanged_hours DESC, j.source, j.job_id;
