"""What is read from the mirror.

status          freshness, the last runs, and a health check
refusals        what a service refuses and what that costs, in plain English
reports         the reports of sql/reports/ as DataFrames
dataframes      query results to pandas, with dtypes
export_formats  table, CSV, JSON, Parquet
html            the HTML report, one file
metrics         Prometheus metrics
"""
