-- Question: Is the mirror fresh and complete?
-- Grain:    one row a source.
-- Columns:  source, time_zone, complete_through_utc, last_kind, last_outcome, last_verdict, open_rejects, scan_is_open,
--           went_back, stuck, paging, window_by, refused, last_requests.
SELECT
    f.source,
    f.time_zone,
    f.complete_through_utc,
    f.last_kind,
    f.last_outcome,
    f.last_verdict,
    f.open_rejects,
    f.scan_is_open,
    f.went_back,
    coalesce(s.stuck, 0) AS stuck,
    f.paging,
    f.window_by,
    f.refused,
    f.last_requests
FROM bi.freshness AS f
LEFT JOIN (
    SELECT source, count(*) AS stuck
    FROM bi.jobs
    WHERE is_stuck
    GROUP BY source
) AS s USING (source)
ORDER BY f.source;
