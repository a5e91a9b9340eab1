-- Question: what did each run do?
-- Grain:    one row a run; runs without news that are older than AIMS360_FOLD_AFTER (a week) are one row a day and kind
--           (column runs), which has the number, the end and the as_of_utc of the last, the beginning of the first, the
--           widest window, and sums.
-- Columns:  times are UTC `timestamp` columns named so; counts are jobs unless they say otherwise.
-- Notes:    verdict `complete` or `complete_with_rejects`: its scan came to its end and moved complete_through to
--           as_of_utc, whatever became of the purge after it. A purge by itself has no verdict and no window, nor has a
--           job (`aims360-etl jobs wait` or `rerun` brought that one up to date). A run that
--           first ended the scan of an earlier one has that one's kind and the window of its own increment.
--           Counts are of the whole source. error and notes may name jobs and clients of any account: who is held to some
--           accounts of the source sees none.
CREATE OR REPLACE VIEW bi.runs WITH (security_barrier) AS
SELECT
    r.run_id,
    s.name AS source,
    r.kind,
    CASE WHEN r.outcome = 'running' AND NOT etl.is_held(r.source_id) THEN 'interrupted' ELSE r.outcome END AS outcome,
    r.verdict,
    r.started_at AT TIME ZONE 'UTC' AS started_at_utc,
    r.finished_at AT TIME ZONE 'UTC' AS finished_at_utc,
    CASE WHEN r.runs = 1 THEN aims360.seconds_between(r.started_at, r.finished_at) END AS seconds,
    r.window_from AT TIME ZONE 'UTC' AS window_from_utc,
    r.window_to AT TIME ZONE 'UTC' AS window_to_utc,
    r.as_of AT TIME ZONE 'UTC' AS as_of_utc,
    r.pages,
    r.requests,
    r.inserted,
    r.updated,
    r.unchanged,
    r.refused,
    r.skipped,
    r.returned,
    r.rejected,
    r.duplicates,
    r.purged,
    CASE WHEN e.is_seen THEN r.error END AS error,
    r.watermark_before AT TIME ZONE 'UTC' AS watermark_before_utc,
    r.watermark_after AT TIME ZONE 'UTC' AS watermark_after_utc,
    r.unversioned,
    r.replaced_characters,
    r.runs,
    r.strategy,
    array_to_string(r.checks, ', ') AS checks,
    r.missing,
    r.stale,
    r.ghosts_purged,
    r.ghosts_early,
    r.ghosts_vanished,
    r.repaired,
    CASE WHEN e.is_seen THEN array_to_string(r.notes, E'\n') END AS notes
FROM etl.runs AS r
LEFT JOIN etl.sources AS s USING (source_id)
CROSS JOIN LATERAL (
    SELECT
        (SELECT aims360.sees_all(current_user, session_user))
            OR r.source_id = ANY ((SELECT aims360.sources_seen(current_user, session_user))::smallint[]) AS is_seen
) AS e
WHERE (
    (SELECT aims360.sees_all(current_user, session_user))
    OR r.source_id IN (SELECT a.source_id FROM aims360.accounts_seen(current_user, session_user) AS a)
);

COMMENT ON VIEW bi.runs IS 'The ledger: one row a run.';
