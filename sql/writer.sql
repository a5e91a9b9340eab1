-- Question: who keeps the mirror, without being its owner?
-- Roles:    aims360_writer reads and writes rows: sync, purge, reconcile, status, reports, jobs and documents. It doesn't log
--           in: a login role is made a member (`aims360-etl grant --writer ROLE`).
-- Notes:    run by `aims360-etl grant --writer`, and by `migrate` in a database whose jobs the role may already write, so
--           that new tables are granted too. Only what is missing is made: where the role exists, owning the schemas is
--           enough to run this.
--           It may not create, alter, truncate or drop anything, nor grant. What says which revision the schema is at,
--           what was erased, and which sources there are, it only reads: that is for `migrate`, `erase` and `sources add`,
--           all the owner's. A source says which secrets of a machine are sent where. Numbers that Postgres gives
--           (GENERATED ALWAYS AS IDENTITY) take no right on their sequences.
--           A worker of a fleet may be a writer: where there is a queue it is the writer's too, sequences and all.
--           Views are read with their owner's rights; functions are granted, since a database may have taken them from
--           everyone: day totals are worked out by those of aims360 with the rights of whoever writes.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'aims360_writer') THEN
        CREATE ROLE aims360_writer NOLOGIN;
    END IF;
END
$$;

GRANT USAGE ON SCHEMA aims360, etl, bi TO aims360_writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA aims360, etl TO aims360_writer;
REVOKE INSERT, UPDATE, DELETE
ON etl.alembic_version, etl.definitions, etl.queue, etl.erasures, etl.roster
FROM aims360_writer;
GRANT SELECT ON ALL TABLES IN SCHEMA bi TO aims360_writer;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA aims360, etl, bi TO aims360_writer;

DO $$
BEGIN
    IF to_regnamespace('queue') IS NOT NULL THEN
        GRANT USAGE ON SCHEMA queue TO aims360_writer;
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA queue TO aims360_writer;
        GRANT USAGE ON ALL SEQUENCES IN SCHEMA queue TO aims360_writer;
        GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA queue TO aims360_writer;
    END IF;
END
$$;
