-- Question: Did it help to run failed jobs again?
-- Grain:    one row a sub-category with at least one rerun.
-- Columns:  category_name, sub_category_name, reruns, after_failure, helped, did_not_help, end_unknown, after_success,
--           after_unknown, helped_share.
-- Notes:    of jobs created in the last 30 days, unless --since says otherwise. helped: failed, run again, completed.
--           end_unknown: still open, or run once more before its end was seen. after_success: somebody ran again what
--           had been completed. after_unknown: polling didn't see how the attempt before ended; such a rerun may have
--           helped or not. helped_share is helped of helped and did_not_help, from 0 to 1; NULL where none has ended.
-- Sample:
--  category_name | sub_category_name            | reruns | after_failure | helped | did_not_help | end_unknown | after_success | after_unknown | helped_share
--  Bulk Updates  | Order Allocation             |     25 |            14 |     10 |            4 |           0 |             1 |            10 |        0.714
--  Reports       | Production Forecasting Repo… |     55 |            11 |      9 |            2 |           0 |             0 |            44 |        0.818
--  Exports       | Style Catalogue Export       |     24 |            10 |      6 |            4 |           0 |             1 |            13 |        0.600
WITH attempts AS (
    SELECT
        category_name,
        sub_category_name,
        attempt,
        job_status,
        -- an attempt that was never seen leaves a gap: then nothing is known of how the one before ended
        CASE WHEN lag(attempt) OVER by_job = attempt - 1 THEN lag(job_status) OVER by_job END AS status_before
    FROM bi.job_attempts
    WHERE created_at_utc >= bi.since()
      AND created_at_utc < bi.until()
      AND (bi.account() IS NULL OR account_code = bi.account())
    WINDOW by_job AS (PARTITION BY source, job_id ORDER BY attempt)
),
reruns AS (
    SELECT
        *,
        coalesce(status_before = 'Failed', false) AS after_failure,
        job_status IN ('Queued', 'Inprogress') AS is_open
    FROM attempts
    WHERE attempt > 0
),
counted AS (
    SELECT
        category_name,
        sub_category_name,
        count(*) AS reruns,
        count(*) FILTER (WHERE after_failure) AS after_failure,
        count(*) FILTER (WHERE after_failure AND job_status = 'Completed') AS helped,
        count(*) FILTER (WHERE after_failure AND job_status <> 'Completed' AND NOT is_open) AS did_not_help,
        count(*) FILTER (WHERE after_failure AND is_open) AS end_unknown,
        count(*) FILTER (WHERE status_before = 'Completed') AS after_success,
        count(*) FILTER (WHERE status_before IS NULL OR status_before NOT IN ('Failed', 'Completed')) AS after_unknown
    FROM reruns
    GROUP BY category_name, sub_category_name
)
SELECT *, round(helped::numeric / nullif(helped + did_not_help, 0), 3) AS helped_share
FROM counted
ORDER BY after_failure DESC, reruns DESC, category_name, sub_category_name;
