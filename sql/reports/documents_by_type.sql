-- Question: What kinds of document are made, how large are they, and how many are published?
-- Grain:    one row a file ending.
-- Columns:  type, documents, megabytes, mean_mb, largest_mb, published, published_share.
-- Notes:    documents of jobs created in the last 30 days, unless --since says otherwise. Sizes as the source rounds
--           them. published: the scope is Public or PeopleInOrganization. A rerun replaces a job's documents: those
--           of earlier attempts aren't counted.
-- Sample:
--  type  | documents | megabytes | mean_mb | largest_mb | published | published_share
--  .xlsx |      1288 |    3221.4 |    2.50 |       4.99 |       565 |           0.439
--  .csv  |       948 |    2344.4 |    2.47 |       4.98 |       948 |           1.000
--  .pdf  |       603 |    1503.0 |    2.49 |       4.99 |       603 |           1.000
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
