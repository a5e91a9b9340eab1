"""Alembic's entry: runs the migrations on the connection of `etl.postgres.migrations.migrate`, inside its transaction.

Without one they are written down as statements, for `etl.postgres.migration_sql`.
"""

from typing import Any

from alembic import context

from etl.postgres.tables import metadata

given = context.config.attributes
common: dict[str, Any] = {"target_metadata": metadata, "version_table_schema": "etl", "include_schemas": True}
if context.is_offline_mode():
    written: dict[str, Any] = {
        "dialect_name": "postgresql",
        "dialect_opts": {"paramstyle": "named"},
        "literal_binds": True,
    }
    context.configure(output_buffer=given["buffer"], **written, **common)
else:
    context.configure(connection=given["connection"], **common)
context.execute("CREATE SCHEMA IF NOT EXISTS etl")
context.run_migrations()
