"""Alembic's entry: runs the migrations on the connection that `etl.schema.migrate` opened, inside its transaction."""

from alembic import context

from etl.tables import metadata

connection = context.config.attributes["connection"]
connection.exec_driver_sql("CREATE SCHEMA IF NOT EXISTS etl")
context.configure(connection=connection, target_metadata=metadata, version_table_schema="etl", include_schemas=True)
context.run_migrations()
