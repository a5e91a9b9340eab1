-- Question: Whose jobs fail, and in which category?
-- Grain:    one row a person and category with at least one failure, of the jobs that were completed or failed.
-- Columns:  created_by, category_name, jobs, failed, failed_share.
-- Notes:    all jobs the mirror holds, unless --since says otherwise. failed_share is from 0 to 1. created_by is
--           personal data; NULL where the purge took it (AIMS360_PURGE=scrub).
-- Sample:
--  created_by           | category_name | jobs | failed | failed_share
--  o'hara@example.com   | Exports       |  139 |     12 |        0.086
--  operator@example.com | Exports       |  143 |     11 |        0.077
--  operator@example.com | Reports       |  369 |      9 |        0.024
SELECT
    created_by,
    category_name,
    count(*) AS jobs,
    count(*) FILTER (WHERE is_failed) AS failed,
    round(bi.failure_rate(count(*) FILTER (WHERE is_failed), count(*)), 3) AS failed_share
FROM bi.jobs
WHERE created_at_utc >= bi.since('100 years')
  AND created_at_utc < bi.until()
  AND (bi.account() IS NULL OR account_code = bi.account())
  AND is_ended
GROUP BY created_by, category_name
HAVING count(*) FILTER (WHERE is_failed) > 0
ORDER BY failed DESC, created_by, category_name;
