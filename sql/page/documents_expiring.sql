-- Question: How many documents can no longer be fetched, from which day?
-- Grain:    one row a day (source's time zone) and reason, the next 30 days.
-- Columns:  day, ends_by, documents, published.
SELECT
    (d.available_until_utc AT TIME ZONE 'UTC' AT TIME ZONE f.time_zone)::date AS day,
    d.ends_by,
    count(*) AS documents,
    count(*) FILTER (WHERE d.is_published) AS published
FROM bi.documents_expiring AS d
JOIN bi.freshness AS f USING (source)
WHERE d.available_until_utc >= now() AT TIME ZONE 'UTC'
  AND d.available_until_utc < (now() AT TIME ZONE 'UTC') + interval '30 days'
GROUP BY day, d.ends_by
ORDER BY day, d.ends_by;
