"""Who reads what: roles tried by connecting as them, and by everything that they could do to see more."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from etl.errors import ConfigError, DatabaseError
from etl.postgres import migrations
from etl.postgres.connection import Connection, connect
from etl.postgres.package_data import folder
from etl.postgres.roles import _MAKES_READERS, grant, unknown
from etl.testing.emulator import World, populated
from tests.support.logins import a_login, as_role
from tests.support.scene import Scene

ALL = "SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema IN ('bi', 'aims360', 'etl')"
WITH_ACCOUNTS = (
    "jobs",
    "job_documents",
    "job_links",
    "job_daily",
    "job_status_history",
    "job_attempts",
    "documents_expiring",
    "document_archive",
)
ACCOUNTS_BUT_LINKS = tuple(view for view in WITH_ACCOUNTS if view != "job_links")
OURS, THEIRS = "AZ031", "AZ022"


@pytest.fixture
def roles(db: Connection) -> Iterator[Callable[[str], str]]:
    """Makes login roles for this test, whose names want quotes; they are gone after it."""
    with ExitStack() as made:
        yield lambda kind: made.enter_context(a_login(db, f"a {kind}"))


@pytest.fixture
def mirror(db: Connection) -> Scene:
    """A mirror of two accounts and more, with reruns, purged jobs, open jobs and documents that expire."""
    world = populated(400, seed=1, now=datetime.now(UTC) - timedelta(days=2), rerun_share=0.3)
    scene = Scene(db, world)
    scene.sync()
    world.advance(timedelta(days=2))
    scene.sync()
    assert scene.one("SELECT count(*) FROM aims360.purged_jobs") > 5
    scene.keep_documents()
    return scene


def rows(session: Connection, view: str, what: str = "*") -> list[tuple[Any, ...]]:
    """The rows of a view."""
    return session.execute(sql.SQL("SELECT {} FROM bi.{}").format(sql.SQL(what), sql.Identifier(view))).fetchall()


def refused(session: Connection, place: tuple[str, str]) -> bool:
    """Whether a table can't be read."""
    try:
        session.execute(sql.SQL("SELECT * FROM {} LIMIT 1").format(sql.Identifier(*place)))
    except psycopg.errors.InsufficientPrivilege:
        return True
    return False


def test_no_view_is_without_its_guard(db: Connection) -> None:
    """Each is a barrier, and each but the calendar asks who looks, if only by what it reads; none is missed here."""
    found = db.execute("""
        SELECT c.relname, c.reloptions, pg_get_viewdef(c.oid), EXISTS (
            SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attname = 'account_code'
        )
        FROM pg_class AS c
        WHERE c.relnamespace = 'bi'::regnamespace AND c.relkind = 'v'
    """).fetchall()
    assert [view for view, options, _, _ in found if options != ["security_barrier=true"]] == []
    assert {view for view, _, text, _ in found if "accounts_seen" not in str(text)} == {"calendar", "category_health"}
    assert {view for view, _, _, has_account in found if has_account} == set(WITH_ACCOUNTS)


@pytest.mark.parametrize("links", [False, True])
def test_a_reader_reads_bi_and_nothing_else(
    mirror: Scene, url: str, db: Connection, roles: Callable[[str], str], links: bool
) -> None:
    """All of bi but the links, these only with a grant of their own; neither mirror nor ledger; it writes nothing."""
    name = roles("reader")
    said = grant(db, name, links)
    assert said == f"{name} reads schema bi, {'links too' if links else 'but no links'}"
    places = [(str(a), str(b)) for a, b in db.execute(ALL).fetchall()]
    with connect(as_role(url, name)) as session:
        readable = {place for place in places if not refused(session, place)}
        assert readable == {(s, t) for s, t in places if s == "bi" and (links or t != "job_links")}
        for view in ("jobs", "job_documents", "job_daily", "runs", "freshness", "calendar", "documents_expiring"):
            assert rows(session, view), view
        for statement in (
            "DELETE FROM bi.account_access",
            "CREATE TABLE bi.mine ()",
            "INSERT INTO bi.account_access VALUES ('x')",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(statement.encode())


def test_a_new_view_is_granted_with_the_migration(
    mirror: Scene, url: str, db: Connection, roles: Callable[[str], str]
) -> None:
    """What an upgrade adds is read by those who read bi, without anybody granting anything."""
    name = roles("reader")
    grant(db, name)
    db.execute("REVOKE SELECT ON ALL TABLES IN SCHEMA bi FROM aims360_bi")  # as if they had just been made
    db.execute("UPDATE etl.definitions SET digest = 'of another release'")
    migrations.migrate(url)
    with connect(as_role(url, name)) as session:
        assert rows(session, "jobs")
        assert refused(session, ("bi", "job_links"))


def test_a_tenant_sees_its_accounts_in_every_view(
    mirror: Scene, url: str, db: Connection, roles: Callable[[str], str]
) -> None:
    """Each row is one of its account's, all of them are there, and its numbers are its own."""
    name = roles("tenant")
    grant(db, name, links=True, accounts=[OURS])
    with connect(as_role(url, name)) as session:
        for view in WITH_ACCOUNTS:
            seen = rows(session, view, "account_code")
            assert set(seen) == {(OURS,)}, view
            assert len(seen) == sum(row == (OURS,) for row in rows(db, view, "account_code")), view
        ours = rows(db, "job_daily", "sum(jobs) FILTER (WHERE account_code = 'AZ031' AND day > current_date - 34)")
        assert rows(session, "category_health", "sum(jobs + jobs_before)") == ours
        assert rows(session, "freshness", "source") == [("aims360",)]
        assert rows(session, "account_access") == [(name, None, OURS)]


def test_what_runs_say_of_other_accounts_is_withheld(
    mirror: Scene, url: str, db: Connection, roles: Callable[[str], str]
) -> None:
    """Errors and notes name jobs and clients of any account: they are for those who see the whole source."""
    tenant, whole = roles("tenant"), roles("whole")
    grant(db, tenant, accounts=[OURS])
    grant(db, whole, source="aims360")
    db.execute("UPDATE etl.runs SET error = 'client 4711', notes = '{job 4712}'")
    db.execute("UPDATE etl.sources SET went_back = 'job 4713'")
    with connect(as_role(url, tenant)) as session:
        assert set(rows(session, "runs", "error, notes")) == {(None, None)}
        assert rows(session, "freshness", "went_back") == [("the source shows an older state than before",)]
    for name in (whole, None):
        with connect(as_role(url, name) if name else url) as session:
            assert set(rows(session, "runs", "error, notes")) == {("client 4711", "job 4712")}
            assert rows(session, "freshness", "went_back") == [("job 4713",)]


def test_a_tenant_of_another_source_sees_nothing_of_this_one(
    mirror: Scene, url: str, db: Connection, roles: Callable[[str], str]
) -> None:
    """Not its jobs, not how fresh it is, and not its runs; and a source as a whole shows all its accounts."""
    db.execute("""
        INSERT INTO etl.sources (name, base_url, flatten_version, purge_mode, time_zone)
        VALUES ('aims360 west', 'https://host', 1, 'delete', 'UTC')
    """)
    other, whole = roles("other"), roles("whole")
    grant(db, other, links=True, source="aims360 west", accounts=[OURS])
    grant(db, whole, links=True, source="aims360")
    with connect(as_role(url, other)) as session:
        assert all(rows(session, view) == [] for view in (*WITH_ACCOUNTS, "runs", "category_health"))
        assert rows(session, "freshness", "source") == [("aims360 west",)]
    with connect(as_role(url, whole)) as session:
        assert all(len(rows(session, view)) == len(rows(db, view)) for view in (*WITH_ACCOUNTS, "runs"))
        assert rows(session, "freshness", "source") == [("aims360",)]


def test_a_job_without_an_account_is_shown_to_those_who_see_all(
    url: str, db: Connection, roles: Callable[[str], str]
) -> None:
    """NULL and the empty text are no account that a tenant could have."""
    world = World(seed=1)
    for account in (None, "", OURS):
        world.add(accountCode=account)
    Scene(db, world).sync()
    name = roles("tenant")
    grant(db, name, accounts=[OURS])
    with connect(as_role(url, name)) as session:
        assert rows(session, "jobs", "account_code") == [(OURS,)]
        assert rows(session, "job_daily", "account_code") == [(OURS,)]
    with pytest.raises(ConfigError, match="--account: is empty"):
        grant(db, name, accounts=[""])
    assert len(rows(db, "jobs")) == 3


def test_changing_the_role_shows_a_tenant_no_more(
    mirror: Scene, url: str, db: Connection, roles: Callable[[str], str]
) -> None:
    """It is a member of aims360_bi, which sees all; who logged in counts, also where it doesn't inherit."""
    name = roles("tenant")
    db.execute(sql.SQL("ALTER ROLE {} NOINHERIT").format(sql.Identifier(name)))
    grant(db, name, accounts=[OURS])
    with connect(as_role(url, name)) as session:
        session.execute("SET ROLE aims360_bi")
        assert set(rows(session, "jobs", "account_code")) == {(OURS,)}
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.execute("SET SESSION AUTHORIZATION aims360_bi")


def test_a_login_that_takes_on_tenants_sees_each_ones_rows(
    mirror: Scene, url: str, db: Connection, roles: Callable[[str], str]
) -> None:
    """One login of a BI server, a role each customer: SET ROLE shows that one's; so it does to the mirror's owner."""
    login, ours, theirs = roles("login"), roles("ours"), roles("theirs")
    grant(db, ours, accounts=[OURS])
    grant(db, theirs, accounts=[THEIRS])
    for tenant in (ours, theirs):
        db.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(tenant), sql.Identifier(login)))
    with connect(as_role(url, login)) as session:
        for tenant, account in ((ours, OURS), (theirs, THEIRS)):
            session.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(tenant)))
            assert set(rows(session, "jobs", "account_code")) == {(account,)}
    everything = len(rows(db, "jobs"))
    db.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(ours)))
    assert set(rows(db, "jobs", "account_code")) == {(OURS,)}
    db.execute("RESET ROLE")
    assert len(rows(db, "jobs")) == everything


def test_a_function_of_ones_own_looks_at_no_withheld_row(
    mirror: Scene, url: str, db: Connection, roles: Callable[[str], str]
) -> None:
    """A cheap condition that tells what it is shown: Postgres asks the view's own condition first."""
    name = roles("tenant")
    grant(db, name, links=True, accounts=[OURS])
    with connect(as_role(url, name)) as session:
        told: list[str] = []
        session.add_notice_handler(lambda notice: told.append(str(notice.message_primary)))
        session.execute("""
            CREATE FUNCTION pg_temp.tell(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001
            AS $$ BEGIN RAISE NOTICE '%', $1; RETURN true; END $$
        """)
        for view in WITH_ACCOUNTS:
            told.clear()
            session.execute(sql.SQL("SELECT FROM bi.{} WHERE pg_temp.tell(account_code)").format(sql.Identifier(view)))
            assert set(told) == {OURS}, view


def test_no_function_of_others_gets_into_the_definitions(empty_database: str, roles: Callable[[str], str]) -> None:
    """Operators in schema public that fit better than Postgres' own would show a tenant all, and run as a sync."""
    name = roles("tenant")
    with connect(empty_database) as db:
        db.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")  # as it was before Postgres 15
        with connect(as_role(empty_database, name)) as session:
            session.execute("""
                CREATE FUNCTION public.yes(text[], text[]) RETURNS boolean LANGUAGE sql RETURN true;
                CREATE OPERATOR public.&& (LEFTARG = text[], RIGHTARG = text[], FUNCTION = public.yes);
                CREATE FUNCTION public.array_to_string(text[], text) RETURNS text LANGUAGE sql RETURN 'mine';
                CREATE FUNCTION public.fail(text[], text[]) RETURNS text[] LANGUAGE sql RETURN ARRAY[(1 / 0)::text];
                CREATE OPERATOR public.|| (LEFTARG = text[], RIGHTARG = text[], FUNCTION = public.fail);
            """)
        migrations.migrate(empty_database)
        Scene(db, populated(60, seed=1)).sync()
        grant(db, name, accounts=[OURS])
        with connect(as_role(empty_database, name)) as session:
            assert set(rows(session, "jobs", "account_code")) == {(OURS,)}
            assert rows(session, "runs", "checks") != [("mine",)]
        db.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))


def test_the_mirrors_owner_sees_all_whatever_it_was_granted(mirror: Scene, db: Connection) -> None:
    """Who reads the tables can't be held to accounts, and is told so."""
    owner = str(db.info.user)
    with pytest.raises(ConfigError, match="can't be held to accounts"):
        grant(db, owner, accounts=[OURS])
    db.execute("INSERT INTO bi.account_access VALUES (%s, NULL, 'nobody')", (owner,))
    assert len(rows(db, "jobs")) == mirror.one("SELECT count(*) FROM aims360.jobs")


def test_a_grant_says_what_the_role_reads_by_earlier_ones_too(
    mirror: Scene, db: Connection, roles: Callable[[str], str]
) -> None:
    """Every grant adds: a later one takes neither links nor limits away, and doesn't say that it did."""
    name = roles("reader")
    assert grant(db, name, links=True, accounts=[OURS]).endswith("bi, links too: account AZ031 alone")
    assert grant(db, name).endswith("bi, links too: account AZ031 alone")
    said = grant(db, name, source="aims360", accounts=[THEIRS])
    assert said.endswith("bi, links too: account AZ022 of source aims360, account AZ031 alone")


def test_what_is_wrong_with_a_grant_is_said(
    mirror: Scene, url: str, db: Connection, roles: Callable[[str], str]
) -> None:
    """No such role, no such source, no right to read the mirror; and who may not admit a role, or make the two."""
    with pytest.raises(ConfigError, match=r"no role 'nobody' on this server; make it first: CREATE ROLE"):
        grant(db, "nobody")
    name = roles("reader")
    with pytest.raises(ConfigError, match="nothing was synced of a source called 'nowhere'"):
        grant(db, name, source="nowhere")
    grant(db, name)
    with (
        connect(as_role(url, name)) as session,
        pytest.raises(psycopg.errors.InsufficientPrivilege, match="schema aims360"),
    ):
        grant(session, name)
    for statement in (
        "GRANT USAGE ON SCHEMA aims360, etl, bi TO {}",
        "GRANT SELECT ON aims360.jobs, etl.sources TO {}",
    ):
        db.execute(sql.SQL(statement).format(sql.Identifier(name)))
    with connect(as_role(url, name)) as session, pytest.raises(DatabaseError, match="let an administrator run"):
        grant(session, roles("another"))


def test_a_grant_says_what_the_role_reads_by_all_its_grants(
    mirror: Scene, url: str, db: Connection, roles: Callable[[str], str]
) -> None:
    """Not only by the last one: who had links has them, and who was held to an account is held to it."""
    name = roles("reader")
    grant(db, name, links=True, accounts=[OURS])
    said = grant(db, name, source="aims360", accounts=[THEIRS])
    assert said == f"{name} reads schema bi, links too: account {THEIRS} of source aims360, account {OURS} alone"


@pytest.mark.parametrize("name", ["aims360_bi", "aims360_links", "x" * 70, "a\0", "a\udc80"])
def test_a_name_that_is_no_readers_is_refused(
    mirror: Scene, db: Connection, roles: Callable[[str], str], name: str
) -> None:
    """A reading role itself; texts that Postgres can't hold; and a name longer than Postgres keeps: cut, it was found
    as a role, but its accounts were not found as that role's, and it saw all."""
    cut = sql.Identifier(name[:63])
    is_long = len(name) > 63
    if is_long:
        db.execute(sql.SQL("CREATE ROLE {}").format(cut))
    try:
        with pytest.raises(ConfigError):
            grant(db, name, accounts=[OURS])
    finally:
        if is_long:
            db.execute(sql.SQL("DROP ROLE {}").format(cut))
    assert rows(db, "account_access") == []


def test_grants_at_the_same_time_all_hold(mirror: Scene, url: str, db: Connection, roles: Callable[[str], str]) -> None:
    """Postgres refuses two changes of a table's rights at once: they wait for one another."""
    names = [roles(f"reader {number}") for number in range(4)]

    def grant_to(name: str) -> str:
        with connect(url) as session:
            return grant(session, name, accounts=[OURS])

    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(grant_to, names * 2))
    assert said == [f"{name} reads schema bi, but no links: account {OURS} alone" for name in names * 2]


def test_readers_read_where_functions_are_not_for_everyone(empty_database: str, roles: Callable[[str], str]) -> None:
    """A database may take EXECUTE from PUBLIC by default: what the views call is granted to their readers."""
    name = roles("reader")
    with connect(empty_database) as db:
        db.execute("ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")
        migrations.migrate(empty_database)
        Scene(db, populated(60, seed=1)).sync()
        grant(db, name)
        with connect(as_role(empty_database, name)) as session:
            for view in (*WITH_ACCOUNTS, "runs", "freshness", "category_health", "calendar"):
                assert view == "job_links" or not refused(session, ("bi", view)), view
            assert session.execute("SELECT bi.since(), bi.cause_of('x'), bi.failure_rate(1, 2)").fetchall()
        db.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))


def test_who_was_held_to_accounts_never_sees_all(
    mirror: Scene, url: str, db: Connection, roles: Callable[[str], str]
) -> None:
    """A role that was renamed, or whose rows are gone, or that another mirror of the server knows, sees nothing."""
    name = roles("tenant")
    grant(db, name, accounts=[OURS])
    rename = sql.SQL("ALTER ROLE {} RENAME TO {}")
    before, after = sql.Identifier(name), sql.Identifier(f"{name}_2")
    db.execute(rename.format(before, after))
    try:
        with connect(as_role(url, f"{name}_2")) as session:
            assert all(
                rows(session, view) == [] for view in (*ACCOUNTS_BUT_LINKS, "runs", "freshness", "category_health")
            )
            session.execute("SET ROLE aims360_bi")
            assert rows(session, "jobs") == []
    finally:
        db.execute(rename.format(after, before))


def test_an_account_that_nobody_has_is_told(mirror: Scene, db: Connection) -> None:
    """A slip of the pen shows a role nothing: whoever grants is told."""
    assert unknown(db, [OURS, "AZ31", THEIRS]) == ["AZ31"]


def test_an_administrator_is_asked_for_every_role_that_is_missing() -> None:
    """Who owns the mirror without CREATEROLE is told a statement: after it nothing is left to be made."""
    made = (folder("sql") / "roles.sql").read_text(encoding="utf-8")
    needed = re.findall(r"CREATE ROLE (\w+) NOLOGIN", made)
    assert sorted(re.findall(r"CREATE ROLE (\w+)", _MAKES_READERS)) == sorted(needed) != []
