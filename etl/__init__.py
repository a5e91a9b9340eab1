"""aims360-etl: a mirror of the AIMS360 background-jobs API in Postgres."""
