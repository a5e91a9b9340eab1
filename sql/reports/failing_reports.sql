-- Question: Which kinds of job fail most, and why?
-- Grain:    one row a sub-category with at least one failure, of the jobs that were completed or failed.
-- Columns:  category_name, sub_category_name, ended, failed, failure_rate, commonest_cause, with_commonest_cause,
--           causes.
-- Notes:    jobs created in the last 30 days, unless --since says otherwise. failure_rate is from 0 to 1. A cause is
--           the status text without numbers and quoted names (bi.cause_of), so that equal causes meet. A job that
--           failed and was completed by a rerun counts as completed: its row shows the last run only.
-- Sample:
--  category_name | sub_category_name  | ended | failed | failure_rate | commonest_cause              | with_commonest_cause | causes
--  Exports       | EDI Invoice Export |   380 |     36 |        0.095 | Timeout expired. The server… |                   15 |      3
--  Bulk Updates  | Price List Update  |   327 |     18 |        0.055 | Timeout expired. The server… |                    9 |      3
--  Bulk Updates  | Order Allocation   |   307 |     13 |        0.042 | Timeout expired. The server… |                    7 |      3
WITH counted AS (
    SELECT
        category_name,
        sub_category_name,
        CASE WHEN is_failed THEN coalesce(bi.cause_of(job_status_text), 'no reason given') END AS cause,
        count(*) AS jobs
    FROM bi.jobs
    WHERE created_at_utc >= bi.since()
      AND created_at_utc < bi.until()
      AND (bi.account() IS NULL OR account_code = bi.account())
      AND is_ended
    GROUP BY 1, 2, 3
)
SELECT
    category_name,
    sub_category_name,
    sum(jobs)::bigint AS ended,
    (sum(jobs) FILTER (WHERE cause IS NOT NULL))::bigint AS failed,
    round(bi.failure_rate(sum(jobs) FILTER (WHERE cause IS NOT NULL), sum(jobs)), 3) AS failure_rate,
    (array_agg(cause ORDER BY jobs DESC, cause) FILTER (WHERE cause IS NOT NULL))[1] AS commonest_cause,
    max(jobs) FILTER (WHERE cause IS NOT NULL) AS with_commonest_cause,
    count(cause) AS causes
FROM counted
GROUP BY category_name, sub_category_name
HAVING count(cause) > 0
ORDER BY failure_rate DESC, failed DESC, category_name, sub_category_name;
