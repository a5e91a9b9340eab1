"""The reports for notebooks, by the name that docs/cookbook.md gives; `etl.reporting.reports` has them."""

from etl.reporting.reports import Asked, Description, Report, ask, describe, knows_account, names, read

__all__ = ["Asked", "Description", "Report", "ask", "describe", "knows_account", "names", "read"]
