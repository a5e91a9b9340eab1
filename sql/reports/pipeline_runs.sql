-- Question: What did the pipeline do each day, and did it do well?
-- Grain:    one row a day (UTC), source, kind of run and outcome.
-- Columns:  day_utc, source, kind, outcome, runs, requests, inserted, updated, purged, rejected, repaired,
--           longest_seconds, last_error.
-- Notes:    runs begun in the last seven days, unless --since says otherwise. longest_seconds is NULL where the ledger
--           has folded a day's runs into one row.
-- Sample:
--     day_utc | source  | kind        | outcome   | runs | requests | inserted | updated | purged | rejected | repaired | longest_seconds | last_error
--  2026-11-25 | aims360 | full        | succeeded |    1 |       38 |     3002 |       0 |      0 |        0 |        0 |               0 | -
--  2026-11-25 | aims360 | incremental | succeeded |   26 |       78 |       88 |     102 |     13 |        0 |        0 |               0 | -
SELECT
    started_at_utc::date AS day_utc,
    source,
    kind,
    outcome,
    sum(runs)::bigint AS runs,
    sum(requests)::bigint AS requests,
    sum(inserted)::bigint AS inserted,
    sum(updated)::bigint AS updated,
    sum(purged)::bigint AS purged,
    sum(rejected)::bigint AS rejected,
    sum(repaired)::bigint AS repaired,
    round(max(seconds), 1) AS longest_seconds,
    (array_agg(error ORDER BY run_id DESC) FILTER (WHERE error IS NOT NULL))[1] AS last_error
FROM bi.runs
WHERE started_at_utc >= bi.since('7 days')
  AND started_at_utc < bi.until()
GROUP BY 1, 2, 3, 4
ORDER BY day_utc, source, kind, outcome;
