-- Question: What kinds of document are made, how large are they, and how many are published?
-- Grain:    one row a file ending.
-- Columns:  type, documents, megabytes, mean_mb, largest_mb, published, published_share.
-- Notes:    documents of jobs created in the last 30 days, unless --since says otherwise. Sizes as the source rounds
--           them. published: the scope is Public or PeopleInOrganization. A rerun replaces a job's documents: those
--           of earlier attempts aren't counted.
-- Sample:
--  type  | documents | megabytes | mean_mb | largest_mb | published | published_share
--  .xlsx |      1287 |    3226.1 |    2.51 |       4.99 |       567 |           0.441
--  .csv  |       970 |    2420.9 |    2.50 |       4.98 |       970 |           1.000
--  .pdf  |       613 |    1534.1 |    2.50 |       4.99 |       613 |           1.000
SELECT
    type,
    count(*) AS documents,
    round(sum(size_in_mb), 1) AS megabytes,
    round(avg(size_in_mb), 2) AS mean_mb,
    round(max(size_in_mb), 2) AS largest_mb,
    count(*) FILTER (WHERE is_published) AS published,
    round(avg(is_published::int), 3) AS published_share
FROM bi.job_documents
WHERE job_created_at_utc >= bi.since()
  AND job_created_at_utc < bi.until()
  AND (bi.account() IS NULL OR account_code = bi.account())
GROUP BY type
ORDER BY megabytes DESC NULLS LAST, type;
