-- Question: how fresh and how complete is the mirror?
-- Grain:    one row a source.
-- Columns:  lag is measured from complete_through, not from the newest row: a quiet source is fresh all the same.
-- Notes:    complete_through holds if changes are committed, and clocks apart, by less than AIMS360_LOOK_BACK.
--           is_complete is true if the mirror is known to hold everything that was committed by complete_through: that
--           is known and not more than an hour in the future (a clock was wrong), no row of the source waits in
--           etl.rejects, the source did not go back to an earlier state, and the last run that ended and has a verdict
--           (the last sync, re-check or reconciliation, not a purge) was not `incomplete`. It is never null.
--           Rejects belong to no account: whoever sees the source sees how many wait, and since when.
--           went_back names a job of any account: who is held to some accounts of the source sees only that it did.
--           paging and window_by are those of the last run that read. They cost requests, never completeness; refused
--           has names of capabilities alone, not what the service answered. last_requests is the average where the
--           last sync stands for several in etl.runs.
CREATE OR REPLACE VIEW bi.freshness WITH (security_barrier) AS
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
    waiting.number AS open_rejects,
    EXISTS (SELECT FROM etl.scans AS c WHERE c.source_id = s.source_id AND c.lane = 'sync') AS scan_is_open,
    s.strategy,
    s.reread_due_at AT TIME ZONE 'UTC' AS reread_due_at_utc,
    s.reconcile_due_at AT TIME ZONE 'UTC' AS reconcile_due_at_utc,
    CASE
        WHEN (SELECT aims360.sees_all(current_user, session_user))
            OR s.source_id = ANY ((SELECT aims360.sources_seen(current_user, session_user))::smallint[]) THEN s.went_back
        WHEN s.went_back IS NOT NULL THEN 'the source shows an older state than before'
    END AS went_back,
    s.time_zone,
    s.purge_mode,
    greatest(s.failures, s.deep_failures) AS failures_in_a_row,
    s.not_before AT TIME ZONE 'UTC' AS not_before_utc,
    waiting.since AT TIME ZONE 'UTC' AS oldest_reject_at_utc,
    coalesce(s.complete_through <= now() + interval '1 hour', false)
        AND waiting.number = 0
        AND s.went_back IS NULL
        AND judged.verdict IS DISTINCT FROM 'incomplete' AS is_complete,
    s.paging,
    s.window_by,
    (
        SELECT string_agg(c.key, ', ' ORDER BY c.key)
        FROM jsonb_each(s.capabilities) AS c
        WHERE c.value ->> 'support' = 'no'
    ) AS refused,
    (
        SELECT round(r.requests::numeric / r.runs)::integer
        FROM etl.runs AS r
        WHERE r.source_id = s.source_id AND r.kind IN ('incremental', 'full') AND r.outcome = 'succeeded'
        ORDER BY r.run_id DESC
        LIMIT 1
    ) AS last_requests
FROM etl.sources AS s
CROSS JOIN LATERAL (
    SELECT count(*) AS number, min(r.first_seen_at) AS since
    FROM etl.rejects AS r
    WHERE r.source_id = s.source_id
) AS waiting
LEFT JOIN LATERAL (
    SELECT r.*
    FROM etl.runs AS r
    WHERE r.source_id = s.source_id
    ORDER BY r.run_id DESC
    LIMIT 1
) AS last ON true
LEFT JOIN LATERAL (
    SELECT r.verdict
    FROM etl.runs AS r
    WHERE r.source_id = s.source_id AND r.verdict IS NOT NULL AND r.outcome <> 'running'
    ORDER BY r.run_id DESC
    LIMIT 1
) AS judged ON true
WHERE (
    (SELECT aims360.sees_all(current_user, session_user))
    OR s.source_id IN (SELECT a.source_id FROM aims360.accounts_seen(current_user, session_user) AS a)
);

COMMENT ON VIEW bi.freshness IS 'How fresh and complete the mirror is: one row a source.';
