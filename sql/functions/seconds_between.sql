-- Question: how many seconds lie between two moments?
-- Returns:  numeric, exact to the microsecond; NULL where either is unknown or the second comes first (a clock that was
--           set back, or a job that was rerun and hasn't started yet).
CREATE OR REPLACE FUNCTION aims360.seconds_between(earlier timestamptz, later timestamptz)
RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN later >= earlier THEN extract(epoch FROM later - earlier) END;

COMMENT ON FUNCTION aims360.seconds_between(timestamptz, timestamptz) IS
'Seconds from the first moment to the second; NULL where either is unknown or the second comes first.';
