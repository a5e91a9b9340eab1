"""The database as such: connections, tables, migrations, roles.

connection         connect, read-only snapshots, errors without passwords
pooler             detect a pooler that shares sessions (PgBouncer)
locks              the advisory lock of a source
tables             the tables, with their comments
migrations         migrate; views, functions, comments, grants
migration_sql      `migrate --sql`
queue_schema       Procrastinate's tables, in schema queue
roles              GRANTs for readers, writers and accounts
daily_aggregates   live_daily and purged_daily
embedded           start and stop the embedded Postgres
embedded_binaries  its programs, account and folders
package_data       where migrations/ and sql/ are
"""
