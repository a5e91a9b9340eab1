-- Question: Which kinds of job are slower, or fail more often, than they used to?
-- Grain:    one row a source and sub-category with jobs in the last seven days.
-- Columns:  source, category_name, sub_category_name, is_worse, jobs, jobs_before, run_p95_seconds,
--           run_p95_seconds_before, run_p95_ratio, queued_p95_seconds, queued_p95_seconds_before, failure_rate,
--           failure_rate_before.
-- Notes:    the last seven days against the 28 before them. The ratio is 2 for twice as slow; NULL where nothing is
--           known of the past.
-- Sample:
--  source  | category_name | sub_category_name            | is_worse | jobs | jobs_before | run_p95_seconds | run_p95_seconds_before | run_p95_ratio | queued_p95_seconds | queued_p95_seconds_before | failure_rate | failure_rate_before
--  aims360 | Exports       | EDI Invoice Export           |       no |  109 |         278 |           126.0 |                   95.5 |          1.32 |               24.7 |                      20.4 |        0.165 |               0.068
--  aims360 | Reports       | Production Forecasting Repo… |       no |  202 |         524 |           219.1 |                  167.9 |          1.31 |                8.7 |                      10.5 |        0.025 |               0.002
--  aims360 | Bulk Updates  | Price List Update            |       no |   80 |         247 |           460.9 |                  372.4 |          1.24 |               18.3 |                      24.0 |        0.088 |               0.040
SELECT
    source,
    category_name,
    sub_category_name,
    is_worse,
    jobs,
    jobs_before,
    round(run_p95_seconds, 1) AS run_p95_seconds,
    round(run_p95_seconds_before, 1) AS run_p95_seconds_before,
    round(run_p95_ratio, 2) AS run_p95_ratio,
    round(queued_p95_seconds, 1) AS queued_p95_seconds,
    round(queued_p95_seconds_before, 1) AS queued_p95_seconds_before,
    round(failure_rate, 3) AS failure_rate,
    round(failure_rate_before, 3) AS failure_rate_before
FROM bi.category_health
WHERE jobs > 0
ORDER BY run_p95_ratio DESC NULLS LAST, source, category_name, sub_category_name;
