-- Question: which accounts may the reader of a view see?
-- Grain:    aims360.reader_accounts: one row an account, or all of a source, or of any (NULL); aims360.reader: one row.
-- Columns:  source, account_code; sees_all: whether nothing is withheld.
-- Notes:    the rows of bi.account_access that name a role of the reader's count; who has none sees all. A role is the
--           reader's if current_user is a member of it or, where those have no row, if session_user is: SET ROLE to a
--           wider role shows no more, and SET ROLE to a tenant's role shows the tenant's. Who may read the mirror itself
--           is not withheld anything. Views see bi.account_access with their owner's eyes, readers see their own rows.
CREATE OR REPLACE VIEW aims360.reader_accounts AS
WITH named AS (
    SELECT
        a.source,
        a.account_code,
        pg_has_role(current_user, r.oid, 'MEMBER')
            AND NOT has_table_privilege(current_user, 'aims360.jobs', 'SELECT') AS is_current,
        pg_has_role(session_user, r.oid, 'MEMBER')
            AND NOT has_table_privilege(session_user, 'aims360.jobs', 'SELECT') AS is_session
    FROM bi.account_access AS a
    JOIN pg_catalog.pg_roles AS r ON r.rolname = a.role_name
)
SELECT source, account_code
FROM named
WHERE is_current OR (is_session AND NOT EXISTS (SELECT FROM named WHERE is_current));

CREATE OR REPLACE VIEW aims360.reader AS
SELECT NOT EXISTS (SELECT FROM aims360.reader_accounts) AS sees_all;

COMMENT ON VIEW aims360.reader_accounts IS 'What bi shows to the reader, where it doesn''t show all.';
COMMENT ON COLUMN aims360.reader_accounts.source IS 'the source''s name; null: any';
COMMENT ON COLUMN aims360.reader_accounts.account_code IS 'the account; null: any';
COMMENT ON VIEW aims360.reader IS 'Whether bi shows all to the reader: one row.';
COMMENT ON COLUMN aims360.reader.sees_all IS 'whether no role of the reader''s has a row in bi.account_access';

ALTER TABLE bi.account_access ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS own_rows ON bi.account_access;
CREATE POLICY own_rows ON bi.account_access FOR SELECT USING (
    EXISTS (
        SELECT FROM pg_catalog.pg_roles AS r WHERE r.rolname = role_name AND pg_has_role(r.oid, 'MEMBER')
    )
);
