-- Question: how many seconds lie between two moments of a job?
-- Returns:  numeric, exact to the microsecond; NULL where either moment is unknown or the second comes first (a clock
--           that was set back, or a job that was rerun and hasn't started yet).
CREATE OR REPLACE FUNCTION aims360.seconds_between(earlier timestamptz, later timestamptz)
RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN later >= earlier THEN extract(epoch FROM later - earlier) END;

COMMENT ON FUNCTION aims360.seconds_between(timestamptz, timestamptz) IS
'Seconds from the first moment to the second; NULL where either is unknown or the second comes first.';

-- Question: the same from a job's creation, of a job that ran once?
-- Returns:  NULL for a job that was run again too: its startDate and completedDate are then the last run's, and the
--           time since its creation holds whatever lay between the runs.
CREATE OR REPLACE FUNCTION aims360.seconds_since_creation(created timestamptz, later timestamptz, attempts integer)
RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN coalesce(attempts, 0) = 0 THEN aims360.seconds_between(created, later) END;

COMMENT ON FUNCTION aims360.seconds_since_creation(timestamptz, timestamptz, integer) IS
'Seconds from the creation of a job to a moment of its only run; NULL where it was run again (numberOfAttempts > 0).';
