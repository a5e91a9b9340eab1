"""All day totals as readers see them: a purge changes none of them."""

TOTALS = """
SELECT day, account_code, category_name, sub_category_name, job_status, to_jsonb(d) - 'source'
FROM bi.job_daily AS d
ORDER BY 1, 2, 3, 4, 5
"""
TOTALS_BY_SOURCE = (
    "SELECT * FROM bi.job_daily ORDER BY source, day, account_code, category_name, sub_category_name, job_status"
)
