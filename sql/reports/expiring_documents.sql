-- Question: Which accounts lose documents in the next seven days, and how many?
-- Grain:    one row an account.
-- Columns:  account_code, documents, first_expiry_utc.
-- Notes:    by the documents' own expiry; unpublished_documents and purge_calendar go by the jobs' purge too. --until
--           says until when instead, --since from when.
-- Sample:
--  account_code | documents |     first_expiry_utc
--  AZ022        |       359 | 2026-11-25 17:12:14Z
--  AZ031        |       208 | 2026-11-25 18:22:09Z
--  AZ0012       |       195 | 2026-11-25 17:23:13Z
SELECT account_code, count(*) AS documents, min(expires_at_utc) AS first_expiry_utc
FROM bi.job_documents
WHERE expires_at_utc >= greatest(bi.since('0 days'), now() AT TIME ZONE 'UTC')
  AND expires_at_utc < CASE
      WHEN bi.until() = 'infinity' THEN (now() AT TIME ZONE 'UTC') + interval '7 days'
      ELSE bi.until()
  END
  AND (bi.account() IS NULL OR account_code = bi.account())
GROUP BY account_code
ORDER BY documents DESC, account_code;
