-- Question: Which documents are about to go without ever having been published?
-- Grain:    one row a document.
-- Columns:  available_until_utc, ends_by, source, job_id, position, account_code, sub_category_name, document_name,
--           type, size_in_mb.
-- Notes:    what goes in the next seven days; --until says until when instead, --since from when. available_until_utc
--           is the document's expiry or its job's purge, whichever comes first (ends_by). Not published: its scope is
--           neither Public nor PeopleInOrganization; a link that was public and was taken back isn't known of.
-- Sample:
--   available_until_utc | ends_by | source  | job_id                       | position | account_code | sub_category_name            | document_name                | type  | size_in_mb
--  2026-11-25 17:35:56Z | purge   | aims360 | c77dd54b-f1f3-43a3-a372-8c3… |        0 | AZ022        | EDI Invoice Export           | EDIInvoiceExport_2026102617… | .edi  |       2.40
--  2026-11-25 18:49:36Z | purge   | aims360 | 5937bbd8-869e-4bba-af4c-95c… |        0 | AZ0012       | Production Forecasting Repo… | ProductionForecastingReport… | .xlsx |       4.62
--  2026-11-25 19:55:28Z | purge   | aims360 | 70d85d85-be00-462b-a87b-390… |        0 | AZ031        | Production Forecasting Repo… | ProductionForecastingReport… | .xlsx |       0.36
SELECT
    available_until_utc,
    ends_by,
    source,
    job_id,
    position,
    account_code,
    sub_category_name,
    document_name,
    type,
    size_in_mb
FROM bi.documents_expiring
WHERE available_until_utc >= greatest(bi.since('0 days'), now() AT TIME ZONE 'UTC')
  AND available_until_utc < CASE
      WHEN bi.until() = 'infinity' THEN (now() AT TIME ZONE 'UTC') + interval '7 days'
      ELSE bi.until()
  END
  AND (bi.account() IS NULL OR account_code = bi.account())
  AND NOT is_published
ORDER BY available_until_utc, source, job_id, position;
