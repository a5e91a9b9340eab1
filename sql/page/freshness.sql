-- Question: Is the mirror fresh and complete?
-- Grain:    one row a source.
-- Columns:  source, time_zone, complete_through_utc, last_kind, last_outcome, last_verdict, open_rejects, scan_is_open,
--           went_back, stuck, paging, window_by, refused, last_requests.
-- Notes:    last_requests are those of the last sync, only where the source isn't read by key with a window of dates;
--           of several runs in one row their average.
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
    last.requests AS last_requests
FROM bi.freshness AS f
LEFT JOIN (
    SELECT source, count(*) AS stuck
    FROM bi.jobs
    WHERE is_stuck
    GROUP BY source
) AS s USING (source)
LEFT JOIN LATERAL (
    SELECT round(r.requests::numeric / r.runs)::integer AS requests
    FROM bi.runs AS r
    WHERE r.source = f.source
        AND (f.paging <> 'key' OR f.window_by = 'none')
        AND r.kind IN ('incremental', 'full')
        AND r.outcome = 'succeeded'
    ORDER BY r.run_id DESC
    LIMIT 1
) AS last ON true
ORDER BY f.source;
