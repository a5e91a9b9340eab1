-- Question: How did the pipeline's own runs go?
-- Grain:    one row an outcome and 150th part of the time since the first run of the last 14 days: its slowest run.
-- Columns:  outcome, started_at_utc, seconds, kind, runs.
-- Notes:    outcome is the verdict where a run succeeded and yet wasn't complete. Without seconds: a run that hasn't
--           ended, and days of runs without news, which are kept as one row.
WITH recent AS (
    SELECT
        CASE
            WHEN outcome = 'succeeded' AND verdict IN ('incomplete', 'complete_with_rejects')
                THEN replace(verdict, '_', ' ')
            ELSE outcome
        END AS outcome,
        started_at_utc,
        seconds,
        kind,
        runs,
        extract(epoch FROM started_at_utc) AS second,
        min(extract(epoch FROM started_at_utc)) OVER () AS first,
        max(extract(epoch FROM started_at_utc)) OVER () AS last
    FROM bi.runs
    WHERE started_at_utc >= bi.since('14 days') AND started_at_utc < bi.until()
),
placed AS (
    SELECT *, width_bucket(second, first, last + 1, 150) AS part
    FROM recent
)
SELECT
    outcome,
    (array_agg(started_at_utc ORDER BY seconds DESC NULLS LAST, started_at_utc))[1] AS started_at_utc,
    max(seconds) AS seconds,
    (array_agg(kind ORDER BY seconds DESC NULLS LAST, started_at_utc))[1] AS kind,
    sum(runs)::bigint AS runs
FROM placed
GROUP BY part, outcome
ORDER BY started_at_utc, outcome;
