-- Question: is a run at work on a source right now?
-- Returns:  boolean: whether a session holds the source's lock. A run that was killed holds none, whatever its row says.
--           On a standby, which shows no such locks, always true: there the row's own word counts.
CREATE OR REPLACE FUNCTION etl.is_held(source_id smallint)
RETURNS boolean
LANGUAGE sql STABLE
RETURN pg_is_in_recovery() OR EXISTS (
    SELECT
    FROM pg_locks AS l
    WHERE l.locktype = 'advisory'
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND l.classid = 360361
      AND l.objid = is_held.source_id::int
      AND l.objsubid = 2
      AND l.granted
);

COMMENT ON FUNCTION etl.is_held(smallint) IS 'Whether a run is at work on a source right now.';
