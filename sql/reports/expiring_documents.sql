-- Question: Which accounts lose documents in the next seven days, and how many?
-- Grain:    one row an account.
-- Columns:  account_code, documents, first_expiry_utc.
SELECT j.account_code, count(*) AS documents, min(d.expires_at_utc) AS first_expiry_utc
FROM bi.job_documents AS d
JOIN bi.jobs AS j USING (source, job_id)
WHERE d.expires_at_utc >= now() AT TIME ZONE 'UTC'
  AND d.expires_at_utc < (now() AT TIME ZONE 'UTC') + interval '7 days'
GROUP BY j.account_code
ORDER BY documents DESC, j.account_code;
