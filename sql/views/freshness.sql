-- Question: how fresh and how complete is the mirror?
-- Grain:    one row a source.
-- Columns:  lag is measured from complete_through, not from the newest row: a quiet source is fresh all the same.
-- Notes:    complete_through holds if changes are committed, and clocks apart, by less than AIMS360_LOOK_BACK.
CREATE OR REPLACE VIEW bi.freshness AS
SELECT
    s.name AS source,
    s.complete_through AT TIME ZONE 'UTC' AS complete_through_utc,
    round(extract(epoch FROM now() - s.complete_through), 1) AS lag_seconds,
    s.watermark AT TIME ZONE 'UTC' AS watermark_utc,
    last.run_id AS last_run_id,
    last.kind AS last_kind,
    last.started_at AT TIME ZONE 'UTC' AS last_started_at_utc,
    last.finished_at AT TIME ZONE 'UTC' AS last_finished_at_utc,
    CASE
        WHEN last.outcome = 'running' AND NOT etl.is_held(s.source_id) THEN 'interrupted'
        ELSE last.outcome
    END AS last_outcome,
    last.verdict AS last_verdict,
    (SELECT count(*) FROM etl.rejects AS r WHERE r.source_id = s.source_id) AS open_rejects,
    EXISTS (SELECT FROM etl.scans AS c WHERE c.source_id = s.source_id AND c.lane = 'sync') AS scan_is_open,
    s.strategy,
    s.reread_due_at AT TIME ZONE 'UTC' AS reread_due_at_utc,
    s.reconcile_due_at AT TIME ZONE 'UTC' AS reconcile_due_at_utc,
    s.went_back
FROM etl.sources AS s
LEFT JOIN LATERAL (
    SELECT r.*
    FROM etl.runs AS r
    WHERE r.source_id = s.source_id
    ORDER BY r.run_id DESC
    LIMIT 1
) AS last ON true;

COMMENT ON VIEW bi.freshness IS 'How fresh and complete the mirror is: one row a source.';
COMMENT ON COLUMN bi.freshness.source IS 'the source''s name';
COMMENT ON COLUMN bi.freshness.complete_through_utc IS
'Every version committed by then is in the mirror (UTC, the source''s clock), provided that changes are committed late, and clocks are apart, by less than AIMS360_LOOK_BACK.';
COMMENT ON COLUMN bi.freshness.lag_seconds IS 'seconds since complete_through_utc';
COMMENT ON COLUMN bi.freshness.watermark_utc IS 'newest modifiedDate that complete scans have covered, UTC';
COMMENT ON COLUMN bi.freshness.last_run_id IS 'last run';
COMMENT ON COLUMN bi.freshness.last_kind IS 'incremental, full, purge or reconcile';
COMMENT ON COLUMN bi.freshness.last_started_at_utc IS 'when the last run began, UTC';
COMMENT ON COLUMN bi.freshness.last_finished_at_utc IS 'when it ended, UTC; null while it runs';
COMMENT ON COLUMN bi.freshness.last_outcome IS 'running, succeeded, failed or interrupted';
COMMENT ON COLUMN bi.freshness.last_verdict IS 'complete, complete_with_rejects or incomplete';
COMMENT ON COLUMN bi.freshness.open_rejects IS 'rows of the source that could not be read and wait in etl.rejects';
COMMENT ON COLUMN bi.freshness.scan_is_open IS 'whether a scan was begun and not ended: the next run goes on with it';
COMMENT ON COLUMN bi.freshness.strategy IS 'key, or time where the source refuses to be asked by its keys';
COMMENT ON COLUMN bi.freshness.reread_due_at_utc IS
'when a sync reads the last days again (AIMS360_REREAD), UTC; null: with the next one';
COMMENT ON COLUMN bi.freshness.reconcile_due_at_utc IS
'when a sync compares all keys again (AIMS360_RECONCILE_EVERY), UTC; null: with the next one';
COMMENT ON COLUMN bi.freshness.went_back IS
'what told that the source was restored to an earlier state, until that is followed; else null';
