-- Question: of which days and of which account is a report asked?
-- Returns:  the settings bi.since, bi.until and bi.account of the session (`aims360-etl report` sets them; in psql:
--           SET bi.since = '2026-10-01'). Without them: so long ago at midnight UTC, for ever, NULL for all accounts.
CREATE OR REPLACE FUNCTION bi.since(default_span interval DEFAULT '30 days')
RETURNS timestamp
LANGUAGE sql STABLE PARALLEL SAFE
RETURN coalesce(
    nullif(current_setting('bi.since', true), '')::timestamp,
    date_trunc('day', now() AT TIME ZONE 'UTC') - default_span
);

CREATE OR REPLACE FUNCTION bi.until()
RETURNS timestamp
LANGUAGE sql STABLE PARALLEL SAFE
RETURN coalesce(nullif(current_setting('bi.until', true), '')::timestamp, 'infinity');

CREATE OR REPLACE FUNCTION bi.account()
RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN nullif(current_setting('bi.account', true), '');

COMMENT ON FUNCTION bi.since(interval) IS
'The first moment (UTC) that a report is asked about: the setting bi.since, else midnight so long ago.';
COMMENT ON FUNCTION bi.until() IS 'The moment (UTC) before which a report is asked about: the setting bi.until, else infinity.';
COMMENT ON FUNCTION bi.account() IS 'The account that a report is asked about: the setting bi.account; NULL for all.';
