-- Question: how are a source and an account of it said as one text?
-- Returns:  the source's name and a separator that no name holds, and the account after it; without an account all of
--           them; NULL never.
CREATE OR REPLACE FUNCTION aims360.seen_as(source text, account_code text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN source || E'\x1f' || coalesce(account_code, '');

-- Question: which accounts may the reader of a view see?
-- Returns:  NULL for all; else, perhaps none, the texts of which aims360.sees wants one: a source's name for all of its
--           accounts, or a source's and an account's.
-- Notes:    the rows of bi.account_access that name a role of the reader's count. Who has none sees all; but members of
--           aims360_held then see nothing, so that a role that was renamed, or came from another mirror on the server,
--           doesn't see all of a sudden. A role is the reader's if current_user is a member of it or, where those have
--           no row, if session_user is: SET ROLE to a wider role shows no more, and SET ROLE to a tenant's role shows the
--           tenant's. Who may read the mirror itself has nothing withheld. It sees all rows, as its owner does; readers
--           of the table see those of their roles.
CREATE OR REPLACE FUNCTION aims360.accounts_seen(reader name, login name)
RETURNS text[]
LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = ''
RETURN (
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
    SELECT coalesce(
        array_agg(aims360.seen_as(coalesce(n.source, s.name), n.account_code)),
        (
            SELECT '{}'::text[]
            FROM pg_catalog.pg_roles AS r
            WHERE r.rolname = 'aims360_held' AND (
                pg_catalog.pg_has_role(reader, r.oid, 'MEMBER')
                    AND NOT pg_catalog.has_table_privilege(reader, 'aims360.jobs', 'SELECT')
                OR pg_catalog.pg_has_role(login, r.oid, 'MEMBER')
                    AND NOT pg_catalog.has_table_privilege(login, 'aims360.jobs', 'SELECT')
            )
        )
    )
    FROM named AS n
    LEFT JOIN etl.sources AS s ON n.source IS NULL
    WHERE n.is_reader OR (n.is_login AND NOT EXISTS (SELECT FROM named WHERE is_reader))
);

-- Question: is nothing withheld from a reader?
-- Returns:  boolean, for Postgres' sake: of whether an array is NULL it believes that it hardly ever is.
CREATE OR REPLACE FUNCTION aims360.sees_all(reader name, login name)
RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
RETURN aims360.accounts_seen(reader, login) IS NULL;

-- Question: is a row of that source and account among those that a reader may see?
-- Returns:  boolean, by what aims360.accounts_seen gave; where that is NULL, don't ask: all are.
CREATE OR REPLACE FUNCTION aims360.sees(accounts text[], source text, account_code text)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN accounts && ARRAY[aims360.seen_as(source, NULL), aims360.seen_as(source, account_code)];

-- Question: is a source among those of which a reader may see an account?
CREATE OR REPLACE FUNCTION aims360.sees_some_of(accounts text[], source text)
RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN EXISTS (SELECT FROM unnest(accounts) AS seen WHERE starts_with(seen, aims360.seen_as(source, NULL)));

COMMENT ON FUNCTION aims360.seen_as(text, text) IS 'A source, or an account of it, as one text.';
COMMENT ON FUNCTION aims360.accounts_seen(name, name) IS
'What bi shows to a reader who logged in under a name: NULL for all, else accounts as aims360.sees wants them.';
COMMENT ON FUNCTION aims360.sees_all(name, name) IS 'Whether bi withholds nothing from a reader.';
COMMENT ON FUNCTION aims360.sees(text[], text, text) IS 'Whether a reader of these accounts may see rows of that one.';
COMMENT ON FUNCTION aims360.sees_some_of(text[], text) IS 'Whether a reader of these accounts may see any of a source.';

ALTER TABLE bi.account_access ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS own_rows ON bi.account_access;
CREATE POLICY own_rows ON bi.account_access FOR SELECT USING (
    EXISTS (
        SELECT FROM pg_catalog.pg_roles AS r WHERE r.rolname = role_name AND pg_has_role(r.oid, 'MEMBER')
    )
);
