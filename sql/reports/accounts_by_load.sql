-- Question: Which accounts ask for most, and what does it cost?
-- Grain:    one row an account, purged jobs included.
-- Columns:  account_code, jobs, share_of_jobs, run_hours, share_of_run_time, failed, failure_rate, documents, reruns.
-- Notes:    jobs created in the last 30 days, unless --since says otherwise. Shares are from 0 to 1; run hours are those
--           of each job's last run.
-- Sample:
--  account_code | jobs | share_of_jobs | run_hours | share_of_run_time | failed | failure_rate | documents | reruns
--  AZ022        | 1538 |         0.498 |      62.0 |             0.520 |     54 |        0.035 |      1657 |     69
--  AZ031        |  813 |         0.263 |      28.8 |             0.242 |     18 |        0.022 |       897 |     41
--  AZ0012       |  739 |         0.239 |      28.4 |             0.238 |     23 |        0.031 |       806 |     55
SELECT
    account_code,
    sum(jobs)::bigint AS jobs,
    round(sum(jobs) / sum(sum(jobs)) OVER (), 3) AS share_of_jobs,
    round(sum(run_seconds) / 3600, 1) AS run_hours,
    round(sum(run_seconds) / nullif(sum(sum(run_seconds)) OVER (), 0), 3) AS share_of_run_time,
    sum(failed)::bigint AS failed,
    round(bi.failure_rate(sum(failed), sum(ended)), 3) AS failure_rate,
    sum(documents)::bigint AS documents,
    sum(attempts)::bigint AS reruns
FROM bi.job_daily
WHERE day >= bi.since()::date
  AND day < bi.until()
  AND (bi.account() IS NULL OR account_code = bi.account())
GROUP BY account_code
ORDER BY jobs DESC, account_code;
