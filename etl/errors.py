"""What can go wrong, as one tree. Each error carries the exit code of the command that meets it.

    EtlError                 1   the run failed; nothing is lost, the next run goes on
    |- ConfigError           2   wrong usage or configuration: names the setting and the fix
    |  `- SchemaError        2   the database isn't migrated, or is newer than this program
    |- Locked                3   another run holds this source
    |- SourceError           1   the AIMS360 service can't be used
    |  |- Unreachable        1   no good answer after every retry
    |  |  `- OutOfTime       1   none in the time that a run of a fleet may take
    |  |- SignInFailed       1   credentials or token refused
    |  |  `- CredentialsRefused  1   by the token endpoint: not tried again for a while, or accounts get locked
    |  |- Refused            1   the service understood the request and said no (4xx)
    |  |  `- PagingRefused   1   what the paging of a scan needs: the scan then begins anew in another way
    |  |- AskForLess         1   it can't serve so much in one answer: asked again for less, where that can be
    |  |- BadAnswer          1   an answer that isn't a page of jobs; retried first
    |  |  `- UnreadableJob   1   one job, shown in a way that can't be read: perhaps spoilt on its way
    |  `- BrokenPromise      1   a page that contradicts what was asked of it
    |     `- OptionIgnored   1   an option of the query has no effect: it counts as refused
    |- DatabaseError         1   Postgres can't be reached, or refuses us
    |- ArchiveError          1   where outputs are kept can't be written
    `- EmbeddedError         1   the embedded Postgres can't be made or started

A message says what happened, to what, and what to do next. It never holds a token, a password or a document link.
What happens inside of a run carries its number as a note, whatever kind of error it is.
"""

import re

_RESULT = "_etl_result"


class EtlError(Exception):
    """Anything the command line reports in a line, without a traceback."""

    exit_code = 1


class ConfigError(EtlError):
    """A setting or an argument is missing or wrong."""

    exit_code = 2


class SchemaError(ConfigError):
    """The database's schema isn't the one this program works with."""


class Locked(EtlError):
    """Another run holds this source."""

    exit_code = 3


class SourceError(EtlError):
    """The service can't be used. `request_id`: what AIMS360's support looks the request up by. `said`: its words."""

    request_id: str | None = None
    said = ""

    @property
    def words(self) -> str:
        """The service's words; ours where it gave none."""
        return self.said or str(self)


class Unreachable(SourceError):
    """No good answer from the service after every retry. `was_answered`: an answer came, and was no good one.

    `is_doubtful`: it may be a refusal of what was asked, or a busy service.
    """

    was_answered = is_doubtful = False


class OutOfTime(Unreachable):
    """No good answer from the service in the time that the run may take."""


class SignInFailed(SourceError):
    """The service refused the credentials or the token."""


class CredentialsRefused(SignInFailed):
    """The token endpoint refused the credentials: signing in again with the same may lock the account."""


class Refused(SourceError):
    """The service refused a request: `status` is its HTTP status.

    `is_query`: it answers other requests, so that it is this query which it doesn't support; `option` names what of it,
    where the service does. `said`: the service's words.
    """

    def __init__(
        self, message: str, status: int, *, is_query: bool = False, option: str | None = None, said: str = ""
    ) -> None:
        super().__init__(message)
        self.status, self.is_query, self.option, self.said = status, is_query, option, said


class AskForLess(SourceError):
    """The service can't serve so much in one answer.

    `is_too_large`: for its size or time, else for a bad record. `is_too_long`: it may be the length of the query.
    """

    def __init__(self, message: str, *, is_too_large: bool, is_too_long: bool = False) -> None:
        super().__init__(message)
        self.is_too_large, self.is_too_long = is_too_large, is_too_long


class PagingRefused(Refused):
    """The service refuses what the paging of a scan needs: a filter, an order, `$skip` or `$select`.

    `is_joined`: the query had conditions that are joined by `and`.
    """

    is_joined = False

    @classmethod
    def by(cls, error: Refused, *, is_joined: bool = False) -> "PagingRefused":
        """Return the refusal of a scan's query as that."""
        refused = cls(str(error), error.status, is_query=error.is_query, option=error.option, said=error.said)
        refused.is_joined = is_joined
        return refused


class BadAnswer(SourceError):
    """The body isn't what the service documents: not JSON, no list of jobs, an error inside a 200."""


class UnreadableJob(BadAnswer):
    """The service shows a job in a way that can't be read."""


class BrokenPromise(SourceError):
    """A page contradicts what was asked: a filter or an order was ignored, or nothing new came."""


class OptionIgnored(BrokenPromise):
    """The service answers a query as if an option of it weren't there: `capability` names what it doesn't support."""

    def __init__(self, message: str, capability: str) -> None:
        super().__init__(message)
        self.capability = capability


class DatabaseError(EtlError):
    """Postgres can't be reached, or refuses us."""


class ArchiveError(EtlError):
    """Where outputs are kept can't be written, or holds something in their place."""


class EmbeddedError(EtlError):
    """The embedded Postgres can't be made, started or stopped."""


def in_run(error: BaseException, run_id: int, result: object) -> None:
    """Notes the run in which it happened, and what that had come to."""
    error.add_note(f"run {run_id}")
    error.__dict__[_RESULT] = result


def result_of(error: BaseException) -> object:
    """What the run in which it happened had come to, an `etl.models.Run`; None where there was none."""
    return error.__dict__.get(_RESULT)


def carry_over(error: BaseException, told: BaseException) -> None:
    """What was noted of a run goes from an error to the one that is raised for it."""
    for note in getattr(error, "__notes__", []):
        told.add_note(note)
    told.__dict__[_RESULT] = result_of(error)


def run_of(error: BaseException) -> str | None:
    """`run 12`: the run in which it happened, None where there was none. Other notes are others' words."""
    notes: list[str] = getattr(error, "__notes__", [])
    return next((note for note in notes if re.fullmatch(r"run \d+", note)), None)
