-- Question: Which failed jobs can still be run again, and until when?
-- Grain:    one row a job.
-- Columns:  source, job_id, account_code, sub_category_name, created_by, failed_at_utc, attempts, rerun_until_utc,
--           job_status_text.
-- Notes:    jobs created in the last 30 days, unless --since says otherwise. rerun_until_utc is NULL where the source
--           sets no limit; the purge of the job is one in any case. attempts: how often it was run again already.
-- Sample:
--  source  | job_id                       | account_code | sub_category_name      | created_by            |        failed_at_utc | attempts |      rerun_until_utc | job_status_text
--  aims360 | d6b8cb1e-a64a-496e-a236-131… | AZ031        | Inventory Aging Report | o'hara@example.com    | 2026-10-27 12:33:14Z |        0 | 2026-11-26 16:52:08Z | Timeout expired. The server…
--  aims360 | b1e3af38-ac46-4d58-a646-a80… | AZ022        | Inventory Aging Report | warehouse@example.com | 2026-10-27 20:14:49Z |        0 | 2026-11-27 16:52:08Z | Input file is empty. Nothin…
--  aims360 | bbcf2a75-926d-416d-abf0-d6e… | AZ022        | Style Catalogue Export | o'hara@example.com    | 2026-11-25 15:29:54Z |        0 |                    - | Style 'AB-100' hat keine Gr…
SELECT
    source,
    job_id,
    account_code,
    sub_category_name,
    created_by,
    completed_at_utc AS failed_at_utc,
    attempts,
    rerun_until_utc,
    job_status_text
FROM bi.jobs
WHERE job_status = 'Failed'
  AND created_at_utc >= bi.since()
  AND created_at_utc < bi.until()
  AND (bi.account() IS NULL OR account_code = bi.account())
  AND can_rerun
  AND NOT is_purged
  AND (rerun_until_utc IS NULL OR rerun_until_utc >= now() AT TIME ZONE 'UTC')
ORDER BY rerun_until_utc NULLS LAST, failed_at_utc DESC NULLS LAST, source, job_id;
