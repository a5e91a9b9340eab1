-- Question: Which kinds of job are slower, or fail more often, than they used to?
-- Grain:    one row a source and sub-category with jobs in the last seven days.
-- Columns:  source, category_name, sub_category_name, is_worse, jobs, jobs_before, run_p95_seconds,
--           run_p95_seconds_before, run_p95_ratio, queued_p95_seconds, queued_p95_seconds_before, failure_rate,
--           failure_rate_before.
-- Notes:    the last seven days against the 28 before them. The ratio is 2 for twice as slow; NULL where nothing is
--           known of the past.
-- Sample:
--  source  | category_name | sub_category_name            | is_worse | jobs | jobs_before | run_p95_seconds | run_p95_seconds_before | run_p95_ratio | queued_p95_seconds | queued_p95_seconds_before | failure_rate | failure_rate_before
--  aims360 | Exports       | EDI Invoice Export           |      yes |   98 |         282 |           189.8 |                  107.1 |          1.77 |               25.2 |                      21.8 |        0.163 |               0.071
--  aims360 | Reports       | Production Forecasting Repo… |       no |  195 |         540 |           248.7 |                  230.1 |          1.08 |                9.8 |                      11.0 |        0.031 |               0.002
--  aims360 | Exports       | Style Catalogue Export       |       no |   62 |         233 |          1068.0 |                 1023.3 |          1.04 |               46.5 |                      48.4 |        0.033 |               0.013
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
