-- Question: to which week, month and season of the trade does a day belong?
-- Grain:    one row a day, from 2018 to the end of the year after next.
-- Columns:  joins bi.job_daily on day, and bi.jobs on created_day. Weeks are ISO weeks, which begin on Monday; retail_*
--           is the 4-5-4 calendar of the National Retail Federation, whose year ends on the Saturday nearest 31 January.
-- Notes:    a year of 53 retail weeks has its last one in month 12 (January). A calendar knows no time zone: the days that
--           join it are those of the source's.
CREATE OR REPLACE VIEW bi.calendar WITH (security_barrier) AS
WITH days AS (
    SELECT day::date AS day
    FROM generate_series(
        '2018-01-01'::timestamp,
        date_trunc('year', now() AT TIME ZONE 'UTC') + interval '3 years' - interval '1 day',
        interval '1 day'
    ) AS day
),
begun AS (
    -- The Sunday after the Saturday nearest 31 January is the one on or before 4 February.
    SELECT
        day,
        extract(year FROM day)::integer AS calendar_year,
        make_date(extract(year FROM day)::integer, 2, 4)
            - extract(dow FROM make_date(extract(year FROM day)::integer, 2, 4))::integer AS this_start,
        make_date(extract(year FROM day)::integer - 1, 2, 4)
            - extract(dow FROM make_date(extract(year FROM day)::integer - 1, 2, 4))::integer AS last_start
    FROM days
),
retail AS (
    SELECT
        day,
        CASE WHEN day >= this_start THEN calendar_year ELSE calendar_year - 1 END AS retail_year,
        (day - CASE WHEN day >= this_start THEN this_start ELSE last_start END) / 7 + 1 AS retail_week
    FROM begun
)
SELECT
    day,
    extract(year FROM day)::integer AS year,
    extract(quarter FROM day)::integer AS quarter,
    extract(month FROM day)::integer AS month,
    to_char(day, 'FMMonth') AS month_name,
    date_trunc('month', day::timestamp)::date AS month_start,
    extract(week FROM day)::integer AS week,
    date_trunc('week', day::timestamp)::date AS week_start,
    extract(isoyear FROM day)::integer AS iso_year,
    extract(isodow FROM day)::integer AS weekday,
    to_char(day, 'FMDay') AS weekday_name,
    extract(isodow FROM day) >= 6 AS is_weekend,
    day = (date_trunc('month', day::timestamp) + interval '1 month - 1 day')::date AS is_month_end,
    (date_trunc('month', day::timestamp) + interval '1 month - 1 day')::date - day AS days_to_month_end,
    retail_year,
    width_bucket(retail_week, '{1,5,10,14,18,23,27,31,36,40,44,49}'::integer[]) AS retail_month,
    retail_week
FROM retail;

COMMENT ON VIEW bi.calendar IS 'One row a day: ISO weeks, months, and the 4-5-4 calendar of retail.';
