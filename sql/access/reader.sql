-- Question: which accounts may the reader of a view see, where not all?
-- Returns:  one row an account: its source's number and its code; NULL for all accounts of the source.
-- Notes:    the rows of bi.account_access that name a role of the reader's count. A role is the reader's if current_user is
--           a member of it or, where those have no row, if session_user is: SET ROLE to a wider role shows no more, and
--           SET ROLE to a tenant's role shows the tenant's. Who may read the mirror itself has nothing withheld. This sees
--           all rows, as its owner does; readers of the table see those of their roles.
CREATE OR REPLACE FUNCTION aims360.accounts_seen(reader name, login name)
RETURNS TABLE (source_id smallint, account_code text)
LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = ''
BEGIN ATOMIC
    WITH named AS (
        SELECT
            a.source,
            a.account_code,
            pg_catalog.pg_has_role(reader, r.oid, 'MEMBER')
                AND NOT pg_catalog.has_table_privilege(reader, 'aims360.jobs', 'SELECT') AS is_reader,
            pg_catalog.pg_has_role(login, r.oid, 'MEMBER')
                AND NOT pg_catalog.has_table_privilege(login, 'aims360.jobs', 'SELECT') AS is_login
        FROM bi.account_access AS a
        JOIN pg_catalog.pg_roles AS r ON r.rolname = a.role_name
    )
    SELECT s.source_id, n.account_code
    FROM named AS n
    LEFT JOIN etl.sources AS s ON n.source IS NULL OR n.source = s.name
    WHERE n.is_reader OR (n.is_login AND NOT EXISTS (SELECT FROM named WHERE is_reader));
END;

-- Question: is nothing withheld from a reader?
-- Returns:  boolean. Who has no row sees all; but members of aims360_held then see nothing, so that a role that was
--           renamed, or that another mirror on the server knows, doesn't see all of a sudden.
CREATE OR REPLACE FUNCTION aims360.sees_all(reader name, login name)
RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = ''
RETURN NOT EXISTS (SELECT FROM aims360.accounts_seen(reader, login)) AND NOT EXISTS (
    SELECT
    FROM pg_catalog.pg_roles AS r
    WHERE r.rolname = 'aims360_held' AND (
        pg_catalog.pg_has_role(reader, r.oid, 'MEMBER')
            AND NOT pg_catalog.has_table_privilege(reader, 'aims360.jobs', 'SELECT')
        OR pg_catalog.pg_has_role(login, r.oid, 'MEMBER')
            AND NOT pg_catalog.has_table_privilege(login, 'aims360.jobs', 'SELECT')
    )
);

-- Question: of which sources may a reader see all accounts?
-- Returns:  their numbers, perhaps none; asked once a statement, where aims360.sees_all says no.
CREATE OR REPLACE FUNCTION aims360.sources_seen(reader name, login name)
RETURNS smallint[]
LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = ''
RETURN ARRAY(SELECT a.source_id FROM aims360.accounts_seen(reader, login) AS a WHERE a.account_code IS NULL);

COMMENT ON FUNCTION aims360.accounts_seen(name, name) IS
'What bi shows to a reader who logged in under a name, where it doesn''t show all: accounts, NULL for all of a source.';
COMMENT ON FUNCTION aims360.sees_all(name, name) IS 'Whether bi withholds nothing from a reader.';
COMMENT ON FUNCTION aims360.sources_seen(name, name) IS 'The sources of which bi shows all accounts to a reader.';

ALTER TABLE bi.account_access ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS own_rows ON bi.account_access;
CREATE POLICY own_rows ON bi.account_access FOR SELECT USING (
    EXISTS (
        SELECT FROM pg_catalog.pg_roles AS r WHERE r.rolname = role_name AND pg_has_role(r.oid, 'MEMBER')
    )
);
