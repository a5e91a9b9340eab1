"""What the pretend ERP does all day: kinds of jobs, accounts, people, and the course a job takes. All invented."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import NamedTuple, TypeVar

from etl.testing.emulator.sql_datetime import TICKS_A_SECOND

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Kind:
    """A sub-category of jobs and how its jobs usually go. Times in seconds, medians; shares from 0 to 1."""

    category: int
    category_name: str
    sub_category: int
    name: str
    description: str
    response_type: str
    scope: str
    queue: float
    run: float
    failing: float
    documents: tuple[int, ...]
    suffix: str
    can_rerun: str
    done: str
    weight: int
    identified_by: str = "DocumentID"


@dataclass(frozen=True, slots=True)
class Account:
    """One account of the client: `clientID`, `DatabaseName`, `accountCode`."""

    client: str
    database: str
    code: str


class Stage(NamedTuple):
    """A change in the life of a job: when (ticks after it was queued) and what it is then."""

    after: int
    status: str
    percent: int


# A world is one client's: a source that shows another one has been mistaken for it.
CLIENT = "44FDE9CF-230A-4516-A128-AE464776F1C5"

KINDS = (
    Kind(1002, "Reports", 1003, "Production Forecasting Report", "Create Production Forecasting Report", "Publishlink",
         "Private", 2, 55, 0.02, (1,), ".xlsx", "Yes", "Production forecast report completed.", 24),
    Kind(1002, "Reports", 1007, "Inventory Aging Report", "Create Inventory Aging Report", "File Attachment",
         "PeopleInOrganization", 4, 90, 0.03, (1, 1, 2), ".pdf", "Yes", "Inventory aging report completed.", 16),
    Kind(1002, "Reports", 1011, "Open Order Report", "Create Open Order Report", "Publishlink", "Public", 1, 20, 0.01,
         (1,), ".xlsx", "Yes", "Rapport terminé — 1 204 commandes prêtes ✓", 18, "DocumentGUID"),
    Kind(1004, "Exports", 1020, "Style Catalogue Export", "Export Style Catalogue", "File Attachment", "PUBLIC", 8, 240,
         0.05, (2, 3, 5), ".csv", "Yes", "Größentabelle exportiert:\t48 Größen\n12 Farben", 9),
    Kind(1004, "Exports", 1021, "EDI Invoice Export", "Export EDI 810 Invoices", "Publishlink", "Private", 3, 35, 0.08,
         (1, 2), ".edi", "No", "送り状をエクスポートしました", 12),
    Kind(1006, "Bulk Updates", 1030, "Price List Update", "Update Price List", "In-line JSON", "PeopleInOrganization",
         5, 130, 0.06, (0,), ".json", "No", "Prices updated.", 11),
    Kind(1006, "Bulk Updates", 1034, "Order Allocation", "Allocate Open Orders", "In-line JSON", "Private", 15, 400,
         0.07, (0,), ".json", "Yes", "Allocation finished 👕", 10),
)  # fmt: skip

# The first is twice as busy.
ACCOUNTS = (
    Account(CLIENT, "AZ0XXData1", "AZ022"),
    Account(CLIENT, "AZ0XXData1", "AZ022"),
    Account(CLIENT, "AZSTEData1", "AZ0012"),
    Account(CLIENT, "AZ0XXData1", "AZ031"),
)

PEOPLE = (
    "operator@example.com",
    "maría.núñez@example.com",
    "li.wei@example.com",
    "warehouse@example.com",
    "o'hara@example.com",
)

FAILURES = (
    "Timeout expired.\tThe server is not responding.",
    "Style 'AB-100' hat keine Größe ﹣ übersprungen",
    "Input file is empty.\r\nNothing was done.",
)

_WEIGHTS = tuple(accumulate(kind.weight for kind in KINDS))


def some_kind(rng: Random) -> Kind:
    """A kind of job, the busy ones more often."""
    return rng.choices(KINDS, cum_weights=_WEIGHTS)[0]


def one_of(things: Sequence[T], rng: Random) -> T:
    """`rng.choice`, three times as fast: a world is made of some ten choices a job."""
    return things[int(rng.random() * len(things))]


def some_guid(rng: Random) -> str:
    """A lower-case version 4 GUID."""
    digits = f"{rng.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def course(kind: Kind, rng: Random) -> tuple[Stage, ...]:
    """The stages a job of this kind is going to pass: started, some progress, and an end, good or bad."""
    queued = kind.queue * rng.lognormvariate(0, 1.0)
    running = kind.run * rng.lognormvariate(0, 0.7)
    steps = one_of(range(5), rng)
    failed = rng.random() < kind.failing
    last = one_of(range(96), rng) if failed else 100
    stages = [Stage(_ticks(queued), "Inprogress", 0)]
    for step in range(1, steps + 1):
        part = step / (steps + 1)
        stages.append(Stage(_ticks(queued + running * part), "Inprogress", int(last * part)))
    stages.append(Stage(_ticks(queued + running), "Failed" if failed else "Completed", last))
    return tuple(stages)


def _ticks(seconds: float) -> int:
    return max(1, round(seconds * TICKS_A_SECOND))
