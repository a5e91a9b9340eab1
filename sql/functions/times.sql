-- Question: how many seconds lie between two moments of a job?
-- Returns:  numeric, exact to the microsecond; NULL where either moment is unknown or the second comes first (a clock
--           that was set back, or a job that was rerun and hasn't started yet).
CREATE OR REPLACE FUNCTION aims360.seconds_between(earlier timestamptz, later timestamptz)
RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN later >= earlier THEN extract(epoch FROM later - earlier) END;

COMMENT ON FUNCTION aims360.seconds_between(timestamptz, timestamptz) IS
'Seconds from the first moment to the second; NULL where either is unknown or the second comes first.';

-- Question: what does the clock of a time zone show at a moment?
-- Returns:  timestamp from the year 1 to 9999: the year 10000 that 9999-12-31 becomes east of UTC, and the one before the
--           year 1 west of it, are more than Python and most BI tools can read.
CREATE OR REPLACE FUNCTION aims360.local_time(moment timestamptz, time_zone text)
RETURNS timestamp
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN moment IS NOT NULL THEN least(
    greatest(moment AT TIME ZONE time_zone, '0001-01-01 00:00:00'::timestamp), '9999-12-31 23:59:59.999999'::timestamp
) END;

COMMENT ON FUNCTION aims360.local_time(timestamptz, text) IS 'What the clock of a time zone shows at a moment.';

-- Question: on which day of a time zone does a moment lie?
-- Returns:  date, of the same years.
CREATE OR REPLACE FUNCTION aims360.day_of(moment timestamptz, time_zone text)
RETURNS date
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN aims360.local_time(moment, time_zone)::date;

COMMENT ON FUNCTION aims360.day_of(timestamptz, text) IS 'The day of a time zone on which a moment lies.';

-- Question: how often was a job run again?
-- Returns:  what the source says; where it doesn't, how often it was seen here; 0 for a job that ran once.
CREATE OR REPLACE FUNCTION aims360.attempts(number_of_attempts integer, reruns_seen integer)
RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(number_of_attempts, reruns_seen, 0);

COMMENT ON FUNCTION aims360.attempts(integer, integer) IS
'How often a job was run again: by the source''s word, else as often as it was seen.';

-- Question: how many seconds after its creation was a moment of a job that ran once?
-- Returns:  NULL for a job that was run again too: its startDate and completedDate are then the last run's, and the
--           time since its creation holds whatever lay between the runs.
CREATE OR REPLACE FUNCTION aims360.seconds_since_creation(created timestamptz, later timestamptz, attempts integer)
RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN coalesce(attempts, 0) = 0 THEN aims360.seconds_between(created, later) END;

COMMENT ON FUNCTION aims360.seconds_since_creation(timestamptz, timestamptz, integer) IS
'Seconds from the creation of a job to a moment of its only run; NULL where it was run again (attempts > 0).';
