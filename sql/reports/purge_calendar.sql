-- Question: What goes on which day?
-- Grain:    one row a day (UTC) on which the source purges a job or a document ends.
-- Columns:  day_utc, jobs, documents, megabytes, unpublished, unpublished_megabytes.
-- Notes:    from today on, unless --since and --until say otherwise. Jobs go at their purge, documents at that or at
--           their own expiry, whichever comes first: so a day's documents need not be those of its jobs. A rerun puts
--           the purge off. Unpublished: the scope is neither Public nor PeopleInOrganization. Megabytes as the source
--           rounds them; documents without a size count as none.
-- Sample:
--     day_utc | jobs | documents | megabytes | unpublished | unpublished_megabytes
--  2026-11-25 |   25 |        36 |     82.41 |           6 |                 13.64
--  2026-11-26 |   84 |        86 |    205.84 |          31 |                 71.93
--  2026-11-27 |  106 |       106 |    254.62 |          29 |                 67.32
WITH jobs_going AS (
    SELECT purge_at_utc::date AS day_utc, count(*) AS jobs
    FROM bi.jobs
    WHERE purge_at_utc >= bi.since('0 days')
      AND purge_at_utc < bi.until()
      AND (bi.account() IS NULL OR account_code = bi.account())
      AND NOT is_purged
    GROUP BY 1
),
documents_going AS (
    SELECT
        available_until_utc::date AS day_utc,
        count(*) AS documents,
        sum(size_in_mb) AS megabytes,
        count(*) FILTER (WHERE NOT is_published) AS unpublished,
        sum(size_in_mb) FILTER (WHERE NOT is_published) AS unpublished_megabytes
    FROM bi.documents_expiring
    WHERE available_until_utc >= bi.since('0 days')
      AND available_until_utc < bi.until()
      AND (bi.account() IS NULL OR account_code = bi.account())
    GROUP BY 1
)
SELECT
    day_utc,
    coalesce(jobs, 0) AS jobs,
    coalesce(documents, 0) AS documents,
    coalesce(megabytes, 0) AS megabytes,
    coalesce(unpublished, 0) AS unpublished,
    coalesce(unpublished_megabytes, 0) AS unpublished_megabytes
FROM jobs_going
FULL JOIN documents_going USING (day_utc)
ORDER BY day_utc;
