-- Question: What did jobs answer in line?
-- Grain:    one row a job and property of its answer; of an answer that is a list, one row an element and property.
-- Columns:  source, job_id, account_code, sub_category_name, created_at_utc, element, property, kind, value.
-- Notes:    jobs created in the last 30 days, unless --since says otherwise. element: the place in the list, from 0;
--           NULL where the answer is none. property: NULL where the answer is no object. kind: string, number, boolean,
--           null, array or object. value: as text; what is nested deeper is JSON. An answer may hold anything, people
--           and links too: what comes out is as secret as the mirror.
-- Rights:   USAGE on the schemas aims360, etl and bi; SELECT on aims360.jobs and etl.sources. No view of bi shows
--           responses, so that this is the one report which a role that reads bi alone can't ask.
-- Sample:
--  source  | job_id                       | account_code | sub_category_name |       created_at_utc | element | property | kind   | value
--  aims360 | 93f2ccc5-60a3-4454-aa5e-8a1… | AZ0012       | Price List Update | 2026-10-26 16:59:42Z |       - | note     | string | Prices updated.
--  aims360 | 93f2ccc5-60a3-4454-aa5e-8a1… | AZ0012       | Price List Update | 2026-10-26 16:59:42Z |       - | skipped  | array  | []
--  aims360 | 93f2ccc5-60a3-4454-aa5e-8a1… | AZ0012       | Price List Update | 2026-10-26 16:59:42Z |       - | updated  | number | 516
WITH answers AS (
    SELECT
        s.name AS source,
        j.job_id,
        j.account_code,
        j.sub_category_name,
        j.created_date AT TIME ZONE 'UTC' AS created_at_utc,
        jsonb_typeof(j.response_json) = 'array' AS is_list,
        CASE jsonb_typeof(j.response_json)
            WHEN 'array' THEN j.response_json
            ELSE jsonb_build_array(j.response_json)
        END AS elements
    FROM aims360.jobs AS j
    JOIN etl.sources AS s USING (source_id)
    WHERE j.created_date AT TIME ZONE 'UTC' >= bi.since()
      AND j.created_date AT TIME ZONE 'UTC' < bi.until()
      AND (bi.account() IS NULL OR j.account_code = bi.account())
      AND j.response_json IS NOT NULL
)
SELECT
    a.source,
    a.job_id,
    a.account_code,
    a.sub_category_name,
    a.created_at_utc,
    CASE WHEN a.is_list THEN e.place - 1 END AS element,
    p.property,
    jsonb_typeof(coalesce(p.value, e.value)) AS kind,
    coalesce(p.value, e.value) #>> '{}' AS value
FROM answers AS a
CROSS JOIN LATERAL jsonb_array_elements(a.elements) WITH ORDINALITY AS e (value, place)
LEFT JOIN LATERAL jsonb_each(
    CASE jsonb_typeof(e.value) WHEN 'object' THEN e.value ELSE '{}' END
) AS p (property, value) ON true
ORDER BY a.created_at_utc, a.source, a.job_id, element, p.property;
