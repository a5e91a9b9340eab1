"""aims360-etl: a mirror of the AIMS360 background-jobs API in Postgres."""

# The one place of the version: the package's own, what --version and User-Agent say, and what CHANGELOG.md must have.
# Read from the installed package's metadata it would cost each start 20 ms.
__version__ = "0.1.0"
