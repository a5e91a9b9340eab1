-- Question: Which failed jobs can still be run again, and until when?
-- Grain:    one row a job.
-- Columns:  source, job_id, account_code, sub_category_name, created_by, failed_at_utc, attempts, rerun_until_utc,
--           job_status_text.
-- Notes:    jobs created in the last 30 days, unless --since says otherwise. rerun_until_utc is NULL where the source
--           sets no limit; the purge of the job is one in any case. attempts: how often it was run again already.
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
