-- Question: is a job still under way, has it come to an end, does it seem to be stuck?
-- Returns:  boolean, never NULL. Stuck is what is open and was not changed for an hour when the mirror was last known to
--           be complete: a mirror that isn't fed calls no job stuck that wasn't. Written as conditions joined by AND,
--           so that WHERE is_open finds the index on job_status.
-- Notes:    statuses are stored in the documented spelling, however the source writes their letters.
CREATE OR REPLACE FUNCTION aims360.is_open(job_status text)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN job_status IS NOT NULL AND job_status IN ('Queued', 'Inprogress');

CREATE OR REPLACE FUNCTION aims360.is_ended(job_status text)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN job_status IS NOT NULL AND job_status IN ('Completed', 'Failed');

CREATE OR REPLACE FUNCTION aims360.is_stuck(job_status text, changed timestamptz, complete_through timestamptz)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN aims360.is_open(job_status) AND coalesce(complete_through - changed > '1 hour', false);

CREATE OR REPLACE FUNCTION aims360.is_published(access_scope text)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(access_scope IN ('Public', 'PeopleInOrganization'), false);

COMMENT ON FUNCTION aims360.is_ended(text) IS 'Whether a job came to an end, good or bad.';
COMMENT ON FUNCTION aims360.is_open(text) IS 'Whether a job is queued or in progress.';
COMMENT ON FUNCTION aims360.is_stuck(text, timestamptz, timestamptz) IS
'Whether a job is open and was not changed in the hour before the mirror was last complete.';
COMMENT ON FUNCTION aims360.is_published(text) IS 'Whether others than who made it may open an output.';
