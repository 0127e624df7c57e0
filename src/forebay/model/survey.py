"""What a store knows besides messages, and the questions for it: workers, rates."""

from __future__ import annotations

from typing import Final, Generic, TypeVar

import msgspec

from forebay.errors import InvalidOption
from forebay.model.flow import Condition, FlowState, Role
from forebay.model.message import EntryId
from forebay.model.query import LONGEST_PAGE, Actor, By, Deed, Selector, Steered
from forebay.model.state import State
from forebay.model.verdict import Failure, Reason
from forebay.model.when import SECOND, Instant, Micros

R = TypeVar("R")

LONGEST_SURVEY: Final = 10_000
"""No answer has more rows, whatever is asked for."""
MINUTE: Final = 60 * SECOND
MOST_AUDITED: Final = 10_000
"""Commands that are remembered."""
RATES_KEPT: Final = 24 * 60 * MINUTE
"""How long rates are kept."""


class Survey(msgspec.Struct, Generic[R], frozen=True, kw_only=True):
    """A question that is answered by rows of one type. ``limit``: the newest, or the first by name, and no more."""

    limit: int = 1_000

    @property
    def most(self) -> int:
        """How many rows the answer may have."""
        return max(1, min(self.limit, LONGEST_SURVEY))


class Presence(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker says of itself with each beat of its heart. ``slots``: deliveries it handles at a time; ``running``: those it has;
    ``version``: of Forebay. The store adds who it is, and when by its clock it first and last heard of it: ``started``, ``seen``.
    """

    host: str
    pid: int
    version: str
    queues: tuple[str, ...]
    slots: int
    running: int
    worker: str = ""
    started: Instant = 0
    seen: Instant = 0


class Workers(Survey[Presence], frozen=True, kw_only=True):
    """Who is there: workers that renewed their presence within a lease, by name."""


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """What one minute did to the messages of one name in one queue. ``minute``: when it began.

    ``arrived``: messages stored. Tries that ended: ``succeeded``; ``failed``, with another to follow; ``dead``. ``ran``: how long these
    took together, in microseconds, but for those whose worker died.
    """

    minute: Instant
    queue: str
    name: str
    arrived: int = 0
    succeeded: int = 0
    failed: int = 0
    dead: int = 0
    ran: Micros = 0


class Rates(Survey[Rate], frozen=True, kw_only=True):
    """Rates by minute, queue and name; the newest minutes first, those of one minute by queue and name. ``since``, ``until``: of minutes
    that began then or later, and before.
    """

    since: Instant = 0
    until: Instant | None = None
    queue: str | None = None
    name: str | None = None


class Group(msgspec.Struct, frozen=True):
    """How many messages have one value; of a minute that is the instant it began."""

    value: str | int
    number: int


class Groups(Survey[Group], frozen=True, kw_only=True):
    """How many messages there are ``by`` something, the largest groups first; as many groups as a page has records at most.

    >>> from forebay.model.state import State
    >>> Groups(by=By.FINGERPRINT, which=Selector(states=frozenset({State.DEAD}))).most
    1000

    Raises `InvalidOption` where too many would have to be looked at, and says what narrows it.
    """

    by: By
    which: Selector = Selector()

    @property
    def most(self) -> int:
        """How many groups the answer may have."""
        return max(1, min(self.limit, LONGEST_PAGE))


class Audited(msgspec.Struct, frozen=True, kw_only=True):
    """A command that had an effect: when it began to have one, ``by`` whom, what and to which messages (of many ids the first hundred), and
    what it has done so far. ``number``: in the order in which commands began.
    """

    number: int
    at: Instant
    by: Actor
    command: Deed
    which: Selector
    done: Steered


class Audit(Survey[Audited], frozen=True, kw_only=True):
    """Who told the store what, the newest first; of those ``before`` one. The last ten thousand are kept."""

    before: int | None = None


class FlowRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A flow: how many of its ``steps`` are in which state. ``finished``: when its last step was over, an instant."""

    id: str
    state: FlowState
    created: Instant
    finished: Instant | None = None
    steps: dict[State, int] = {}


class Flows(Survey[FlowRecord], frozen=True, kw_only=True):
    """Flows, the newest first: those with these ``ids``, if any are named, in this ``state``, if one is; ``before``: of those created
    before an instant.
    """

    ids: tuple[str, ...] = ()
    state: FlowState | None = None
    before: Instant | None = None


class StepRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A step of a flow: the ``task`` it runs, the ids of its first thousand parents, how many of all are ``open``, have ``failed``, were
    ``skipped``, as far as it has been told.
    """

    id: EntryId
    name: str
    task: str
    queue: str
    state: State
    when: Condition
    role: Role
    after: tuple[str, ...] = ()
    open: int = 0
    failed: int = 0
    skipped: int = 0
    attempts: int = 0
    reason: Reason | None = None
    error: Failure | None = None
    started: Instant | None = None
    finished: Instant | None = None


class Steps(Survey[StepRecord], frozen=True, kw_only=True):
    """The steps of one ``flow`` in the order in which they were added, from the one after ``beyond`` on."""

    flow: str
    beyond: EntryId | None = None


class Parent(msgspec.Struct, frozen=True, kw_only=True):
    """A parent of a step, and what it returned, as JSON; or why it has not succeeded, and with which error last, without its traceback."""

    id: EntryId
    name: str
    state: State
    result: bytes | None = None
    reason: Reason | None = None
    error: Failure | None = None


class Parents(Survey[Parent], frozen=True, kw_only=True):
    """The parents ``of`` a step, in the order in which it names them, from the one after ``beyond`` on."""

    of: EntryId
    beyond: EntryId | None = None


def unknown(about: object) -> InvalidOption:
    """For a question that no store knows."""
    return InvalidOption(
        f"A store is asked for Workers(), Rates(), Groups(), Audit() or Notes(), not for {about!r}."
    )
