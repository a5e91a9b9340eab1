-- Question: How fresh is what the other reports say?
-- Grain:    one row a source.
-- Columns:  source, complete_through_utc, lag_seconds, last_finished_at_utc, last_outcome, last_verdict, open_rejects,
--           scan_is_open, time_zone, went_back.
-- Notes:    whatever was committed at the source by complete_through_utc is here. last_finished_at_utc is NULL while a
--           run is at work. open_rejects: rows that couldn't be read. went_back: what tells that the source was
--           restored, until that is followed; NULL where nothing does.
-- Sample:
--  source  | complete_through_utc | lag_seconds | last_finished_at_utc | last_outcome | last_verdict | open_rejects | scan_is_open | time_zone | went_back
--  aims360 | 2026-11-25 16:52:08Z |         2.3 | 2026-11-25 16:52:08Z | succeeded    | complete     |            0 |           no | UTC       | -
SELECT
    source,
    complete_through_utc,
    lag_seconds,
    last_finished_at_utc,
    last_outcome,
    last_verdict,
    open_rejects,
    scan_is_open,
    time_zone,
    went_back
FROM bi.freshness
ORDER BY source;
