-- Question: At which hours of which weekdays is most asked for?
-- Grain:    one row a weekday and hour with at least one job.
-- Columns:  weekday, weekday_name, hour, jobs, days, jobs_a_day, most_in_one_hour.
-- Notes:    jobs created in the last 30 days, unless --since says otherwise. weekday is 1 for Monday, hour 0 to 23, both
--           of the source's time zone (AIMS360_TIME_ZONE). days: on how many days such an hour had jobs; an hour
--           without any isn't counted, so that jobs_a_day is the load when there is some.
-- Sample:
--  weekday | weekday_name | hour | jobs | days | jobs_a_day | most_in_one_hour
--        1 | Monday       |    0 |   12 |    4 |        3.0 |                6
--        1 | Monday       |    1 |   18 |    4 |        4.5 |                7
--        1 | Monday       |    2 |   21 |    4 |        5.3 |                7
WITH hourly AS (
    SELECT
        created_day,
        extract(hour FROM created_at_local)::int AS hour,
        count(*) AS jobs
    FROM bi.jobs
    WHERE created_at_utc >= bi.since()
      AND created_at_utc < bi.until()
      AND (bi.account() IS NULL OR account_code = bi.account())
    GROUP BY 1, 2
)
SELECT
    extract(isodow FROM created_day)::int AS weekday,
    to_char(created_day, 'FMDay') AS weekday_name,
    hour,
    sum(jobs)::bigint AS jobs,
    count(*) AS days,
    round(avg(jobs), 1) AS jobs_a_day,
    max(jobs) AS most_in_one_hour
FROM hourly
GROUP BY 1, 2, 3
ORDER BY weekday, hour;
