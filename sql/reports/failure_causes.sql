-- Question: Why do jobs fail, and whom does each cause hit?
-- Grain:    one row a cause.
-- Columns:  cause, failed, share, sub_categories, accounts, people, first_at_utc, last_at_utc.
-- Notes:    jobs created in the last 30 days, unless --since says otherwise. A cause is the status text without numbers
--           and quoted names (bi.cause_of). share is that of all failures, from 0 to 1; the next three are how many
--           sub-categories, accounts and people it hit; the moments are creations of the first and last such job.
-- Sample:
--  cause                        | failed | share | sub_categories | accounts | people |         first_at_utc |          last_at_utc
--  Timeout expired. The server… |     43 | 0.453 |              7 |        3 |      5 | 2026-10-27 12:31:52Z | 2026-11-25 16:00:44Z
--  Input file is empty. Nothin… |     28 | 0.295 |              7 |        3 |      5 | 2026-10-27 20:13:29Z | 2026-11-25 09:42:25Z
--  Style '…' hat keine Größe ﹣… |     24 | 0.253 |              7 |        3 |      5 | 2026-10-27 06:18:18Z | 2026-11-25 15:27:14Z
SELECT
    coalesce(bi.cause_of(job_status_text), 'no reason given') AS cause,
    count(*) AS failed,
    round(count(*) / sum(count(*)) OVER (), 3) AS share,
    count(DISTINCT sub_category_name) AS sub_categories,
    count(DISTINCT account_code) AS accounts,
    count(DISTINCT created_by) AS people,
    min(created_at_utc) AS first_at_utc,
    max(created_at_utc) AS last_at_utc
FROM bi.jobs
WHERE created_at_utc >= bi.since()
  AND created_at_utc < bi.until()
  AND (bi.account() IS NULL OR account_code = bi.account())
  AND job_status = 'Failed'
GROUP BY 1
ORDER BY failed DESC, cause;
