-- Question: Which documents are about to go without ever having been published?
-- Grain:    one row a document.
-- Columns:  available_until_utc, ends_by, source, job_id, position, account_code, sub_category_name, document_name,
--           type, size_in_mb.
-- Notes:    what goes in the next seven days; --until says until when instead, --since from when. available_until_utc
--           is the document's expiry or its job's purge, whichever comes first (ends_by). Not published: its scope is
--           neither Public nor PeopleInOrganization; a link that was public and was taken back isn't known of.
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
