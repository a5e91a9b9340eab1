-- Question: what did each run do?
-- Grain:    one row a run; runs without news that are older than a week are one row a day and kind (column runs), which
--           has the number, the end and the as_of_utc of the last, the beginning of the first, the widest window, and sums.
-- Columns:  times are UTC `timestamp` columns named so; counts are jobs unless they say otherwise.
-- Notes:    verdict `complete` or `complete_with_rejects`: its scan came to its end and moved complete_through to
--           as_of_utc, whatever became of the purge after it. A purge by itself has no verdict and no window. A run that
--           first ended the scan of an earlier one has that one's kind and the window of its own increment.
CREATE OR REPLACE VIEW bi.runs AS
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
    r.error,
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
    array_to_string(r.notes, E'\n') AS notes
FROM etl.runs AS r
JOIN etl.sources AS s USING (source_id);

COMMENT ON VIEW bi.runs IS 'The ledger: one row a run.';
COMMENT ON COLUMN bi.runs.run_id IS 'ascending';
COMMENT ON COLUMN bi.runs.source IS 'the source''s name';
COMMENT ON COLUMN bi.runs.kind IS 'incremental, full, purge or reconcile';
COMMENT ON COLUMN bi.runs.outcome IS 'running, succeeded, failed or interrupted';
COMMENT ON COLUMN bi.runs.verdict IS 'complete, complete_with_rejects or incomplete';
COMMENT ON COLUMN bi.runs.started_at_utc IS 'when it began, UTC; of several runs the first';
COMMENT ON COLUMN bi.runs.finished_at_utc IS 'when it ended, UTC; null while it runs, and where it was interrupted; of several runs the last';
COMMENT ON COLUMN bi.runs.seconds IS 'how long it took; null of a row that stands for several runs';
COMMENT ON COLUMN bi.runs.window_from_utc IS 'rows modified since then were asked for, UTC; null: all rows';
COMMENT ON COLUMN bi.runs.window_to_utc IS 'newest modifiedDate when the scan was opened, UTC';
COMMENT ON COLUMN bi.runs.as_of_utc IS 'when the scan was opened, UTC, by the source''s clock';
COMMENT ON COLUMN bi.runs.pages IS 'pages read';
COMMENT ON COLUMN bi.runs.requests IS 'requests made, retries included';
COMMENT ON COLUMN bi.runs.inserted IS 'new to the mirror';
COMMENT ON COLUMN bi.runs.updated IS 'brought to a newer version';
COMMENT ON COLUMN bi.runs.unchanged IS 'the same as before: not written';
COMMENT ON COLUMN bi.runs.refused IS 'older than the mirror''s version: not written';
COMMENT ON COLUMN bi.runs.skipped IS 'purged here already and not extended: not written';
COMMENT ON COLUMN bi.runs.returned IS 'of the inserted: had been purged or missing, and came back';
COMMENT ON COLUMN bi.runs.rejected IS 'rows that could not be read: they wait in etl.rejects';
COMMENT ON COLUMN bi.runs.duplicates IS 'rows that came twice in a page';
COMMENT ON COLUMN bi.runs.purged IS 'removed, scrubbed or marked by the purge';
COMMENT ON COLUMN bi.runs.error IS 'why it failed';
COMMENT ON COLUMN bi.runs.watermark_before_utc IS 'watermark when the run began, UTC';
COMMENT ON COLUMN bi.runs.watermark_after_utc IS 'watermark when the run ended, UTC';
COMMENT ON COLUMN bi.runs.unversioned IS 'rows judged by modifiedDate for want of a rowversion';
COMMENT ON COLUMN bi.runs.replaced_characters IS 'NUL and lone surrogates stored as U+FFFD';
COMMENT ON COLUMN bi.runs.runs IS 'runs that the row stands for: after a week, those of a day (UTC) and kind that brought no news are one';
COMMENT ON COLUMN bi.runs.strategy IS 'what its scans went by: ID, jobID, or modifiedDate where keys can''t be filtered on';
COMMENT ON COLUMN bi.runs.checks IS 'checks that every answer of its scans passed';
COMMENT ON COLUMN bi.runs.missing IS 'jobs that a deep pass found and no increment would have brought';
COMMENT ON COLUMN bi.runs.stale IS 'jobs that a deep pass found changed and no increment would have brought';
COMMENT ON COLUMN bi.runs.ghosts_purged IS 'jobs that a comparison no longer found at the source, past their purge date';
COMMENT ON COLUMN bi.runs.ghosts_early IS 'jobs that a comparison no longer found at the source, before their purge date';
COMMENT ON COLUMN bi.runs.ghosts_vanished IS 'jobs without a purge date that a comparison no longer found at the source';
COMMENT ON COLUMN bi.runs.repaired IS 'of the missing, the stale and the ghosts: set right';
COMMENT ON COLUMN bi.runs.notes IS 'what is worth knowing, such as a restore of the source';
