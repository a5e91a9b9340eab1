-- Question: who reads what?
-- Roles:    aims360_bi reads all of schema bi but the links; aims360_links the links too. None logs in: a login role is
--           made a member (`aims360-etl grant --bi ROLE`), and reads what they read.
--           Functions are granted too: a database may have taken them from everyone. Those that only the views call lie
--           in schemas that these roles can't use.
--           aims360_held reads nothing: its members are held to accounts, and see none where bi.account_access has no
--           row for them: in another mirror on the server, or once they are called otherwise.
-- Notes:    run by `aims360-etl grant`, and by `migrate` where the roles exist, so that new views are granted too. Only
--           what is missing is made: where the roles exist, owning schema bi is enough to run this.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'aims360_bi') THEN
        CREATE ROLE aims360_bi NOLOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'aims360_links') THEN
        CREATE ROLE aims360_links NOLOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'aims360_held') THEN
        CREATE ROLE aims360_held NOLOGIN;
    END IF;
    IF NOT EXISTS (
        SELECT FROM pg_auth_members
        WHERE roleid = 'aims360_bi'::regrole AND member = 'aims360_links'::regrole
    ) THEN
        GRANT aims360_bi TO aims360_links;
    END IF;
END
$$;

GRANT USAGE ON SCHEMA bi TO aims360_bi;
GRANT SELECT ON ALL TABLES IN SCHEMA bi TO aims360_bi;
REVOKE ALL ON bi.job_links FROM aims360_bi;
GRANT SELECT ON bi.job_links TO aims360_links;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA bi, aims360, etl TO aims360_bi;
