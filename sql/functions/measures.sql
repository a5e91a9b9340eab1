-- Question: within how many seconds does a share of the jobs lie?
-- Returns:  seconds, between the bounds of the bucket that the share falls into, as if its jobs lay evenly in it; 86400
--           where it lies beyond the last bound; NULL for no jobs, or no share.
--           bi.percentile(0.95, sum(run_count), sum(run_le_1), sum(run_le_2), …, sum(run_le_86400)) is the p95.
CREATE OR REPLACE FUNCTION bi.percentile(share numeric, jobs numeric, VARIADIC at_most numeric[])
RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN jobs > 0 AND share IS NOT NULL THEN coalesce(
    (
        SELECT round(lower + (upper - lower) * greatest(share * jobs - below, 0) / (held - below), 1)
        FROM (
            SELECT
                b.upper,
                lag(b.upper, 1, 0) OVER (ORDER BY b.upper) AS lower,
                at_most[b.place] AS held,
                lag(at_most[b.place], 1, 0) OVER (ORDER BY b.upper) AS below
            FROM unnest('{1,2,5,10,30,60,120,300,600,1800,3600,7200,21600,86400}'::numeric[])
                WITH ORDINALITY AS b (upper, place)
        ) AS buckets
        WHERE held >= share * jobs AND held > below
        ORDER BY upper
        LIMIT 1
    ),
    86400
) END;

COMMENT ON FUNCTION bi.percentile(numeric, numeric, numeric[]) IS
'Seconds within which a share of the jobs lies, from the counters *_le_1 to *_le_86400; NULL for no jobs, 86400 beyond.';

-- Question: what share of the jobs that ended failed?
-- Returns:  0 to 1; NULL where none ended.
CREATE OR REPLACE FUNCTION bi.failure_rate(failed numeric, ended numeric)
RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN round(failed / nullif(ended, 0), 4);

COMMENT ON FUNCTION bi.failure_rate(numeric, numeric) IS 'Share of the jobs that ended which failed; NULL where none ended.';

-- Question: do clearly more jobs fail than before?
-- Returns:  boolean, never NULL: five percentage points more and half as many again, of at least 20 jobs that ended in
--           either time.
CREATE OR REPLACE FUNCTION bi.fails_more(
    failure_rate numeric, failure_rate_before numeric, ended numeric, ended_before numeric
)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(
    least(ended, ended_before) >= 20
    AND failure_rate >= failure_rate_before + 0.05
    AND failure_rate >= failure_rate_before * 1.5,
    false
);

COMMENT ON FUNCTION bi.fails_more(numeric, numeric, numeric, numeric) IS
'Whether five percentage points more fail and half as many again, of at least 20 jobs that ended in either time.';
