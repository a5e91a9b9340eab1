-- Question: Whose jobs fail, and in which category?
-- Grain:    one row a person and category with at least one failure, of the jobs that have ended.
-- Columns:  created_by, category_name, jobs, failed, failed_share.
SELECT
    created_by,
    category_name,
    count(*) AS jobs,
    count(*) FILTER (WHERE job_status = 'Failed') AS failed,
    round(avg((job_status = 'Failed')::int), 3) AS failed_share
FROM bi.jobs
WHERE NOT is_open
GROUP BY created_by, category_name
HAVING count(*) FILTER (WHERE job_status = 'Failed') > 0
ORDER BY failed DESC, created_by, category_name;
