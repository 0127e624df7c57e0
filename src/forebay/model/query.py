"""What can be asked of a store and what it may be told: selectors, commands, records, pages, counts."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, TypeAlias

import msgspec

from forebay.errors import InvalidOption
from forebay.model.message import EntryId, Message
from forebay.model.rule import FREE, Rules
from forebay.model.state import Event, State, origins
from forebay.model.verdict import Failure, Reason
from forebay.model.waits import Waits
from forebay.model.when import Instant

LONGEST_PAGE = 1_000
"""No page holds more records, whatever is asked for."""
TRIES_KEPT = 100
"""Tries kept of each message; older ones are dropped first."""


class Selector(msgspec.Struct, frozen=True, kw_only=True):
    """Which messages: every condition given must hold; an empty selector means all. ``limit`` bounds what one command touches.

    ``worker``: who has it now, so only of what runs. ``error``, ``fingerprint``: of the last try that failed, since it was redriven last.
    ``key``: what it was sent with. ``flow``: it is a step of that. Spans of time begin at ``..._since`` and end before ``..._before``, both
    instants of the store's clock; what has not finished is in no span of ends.
    """

    ids: tuple[EntryId, ...] = ()
    queue: str | None = None
    name: str | None = None
    states: frozenset[State] = frozenset()
    worker: str | None = None
    error: str | None = None
    fingerprint: str | None = None
    key: str | None = None
    flow: str | None = None
    created_since: Instant | None = None
    created_before: Instant | None = None
    finished_since: Instant | None = None
    finished_before: Instant | None = None
    limit: int | None = None


class By(StrEnum):
    """What messages are grouped by. Minutes are those in which they ended; those that have no value are in no group."""

    QUEUE = "queue"
    NAME = "name"
    STATE = "state"
    WORKER = "worker"
    ERROR = "error"
    FINGERPRINT = "fingerprint"
    MINUTE = "minute"


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """One page of records: newest first unless ``oldest_first``. ``cursor`` is the ``next`` of the page before.

    ``brief``: how they stand and what they returned, without bodies, headers and stories.
    """

    which: Selector = Selector()
    cursor: str | None = None
    size: int = 50
    oldest_first: bool = False
    brief: bool = False


class Try(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a message's history. ``verdict`` is the event it led to; ``worker`` is who held the lease."""

    number: int
    worker: str
    started: Instant
    ended: Instant
    verdict: str
    error: Failure | None = None


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a running handler says it is. ``share``: from 0 to 1, None if it cannot know; ``at``: when the store heard of it.

    ``overdue``: its time is up and it goes on, as threads do that cannot be stopped.
    """

    share: float | None = None
    note: str = ""
    overdue: bool = False
    at: Instant = 0


class TaskRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a store knows of one entry. ``waits``: what for, where that is not its time or a worker."""

    id: EntryId
    message: Message
    queue: str
    state: State
    created: Instant
    due: Instant | None = None
    expires: Instant | None = None
    deadline: Instant | None = None
    started: Instant | None = None
    finished: Instant | None = None
    attempts: int = 0
    crashes: int = 0
    releases: int = 0
    cancel_requested: bool = False
    reason: Reason | None = None
    progress: Progress | None = None
    result: bytes | None = None
    tries: tuple[Try, ...] = ()
    waits: Waits | None = None


class Page(msgspec.Struct, frozen=True):
    """Some records, and the cursor of the next page (None: that was all)."""

    records: tuple[TaskRecord, ...]
    next: str | None = None


class QueueCounts(msgspec.Struct, frozen=True, kw_only=True):
    """One queue: entries by state, when the oldest ready one became ready (an instant), whether it is paused, what feeds it, how many may
    wait before outside senders are refused, and the rules in force.
    """

    queue: str
    states: dict[State, int]
    oldest_ready: Instant | None = None
    paused: bool = False
    pattern: str | None = None
    group: str | None = None
    limit: int | None = None
    rules: Rules = FREE


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """All queues, and events counted since the store was made (``stale``: settles that came too late; ``unrouted``: events without
    a subscriber; ``crashed``: leases lost). ``now`` is the store's clock.
    """

    now: Instant
    queues: tuple[QueueCounts, ...]
    counters: dict[str, int]


class Redrive(msgspec.Struct, frozen=True, tag=True):
    """Make what failed, was cancelled, has expired or waits for its time ready now, with a fresh count of attempts and crashes.

    A step of a flow runs once its parents let it, and with it opens what was cancelled because of it, which does not open by itself.
    """


class CancelNow(msgspec.Struct, frozen=True, tag=True):
    """Cancel what waits, and what runs under a lease that is over; ask what runs to stop. Of a flow it takes the newest steps first, so
    that none is released because those before it are cancelled.
    """


class Delete(msgspec.Struct, frozen=True, tag=True):
    """Remove what does not run, with its history. A flow that is over goes as a whole, by a selector that names it and nothing else."""


class Pause(msgspec.Struct, frozen=True, tag=True):
    """Hand out nothing of the selector's queue until `Resume`. What runs goes on."""


class Resume(msgspec.Struct, frozen=True, tag=True):
    """Take back a `Pause`."""


class HandBack(msgspec.Struct, frozen=True, tag=True):
    """A worker is known to be dead: its running messages are lost leases now, not when their time is up."""

    worker: str


class Edit(msgspec.Struct, frozen=True, tag=True):
    """A small definition was changed (`Store.note`): of which ``kind``, its ``name``, and ``what`` was done to it, in a word."""

    kind: str
    name: str
    what: str


Command: TypeAlias = Redrive | CancelNow | Delete | Pause | Resume | HandBack
Change: TypeAlias = Redrive | CancelNow | Delete
"""The commands that concern messages."""
Deed: TypeAlias = Command | Edit
"""What is kept with who did it."""


def changeable(command: Change) -> frozenset[State]:
    """The states in which a message can be changed by ``command``.

    >>> State.SUCCEEDED in changeable(Redrive())
    False
    """
    match command:
        case Redrive():
            return origins(Event.REDRIVE)
        case CancelNow():
            return origins(Event.CANCEL)
        case Delete():
            return frozenset(State) - {State.RUNNING}


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """Who gives a command: a ``name``, ``via`` what it came, and ``why``. Each at most 200 characters; raises `InvalidOption` for more."""

    name: str = "unknown"
    via: str = ""
    why: str = ""

    def __post_init__(self) -> None:
        for field, text in (("name", self.name), ("via", self.via), ("why", self.why)):
            if len(text) > LONGEST_WORD:
                raise InvalidOption(
                    f"Actor({field}=...) has {len(text)} characters: {LONGEST_WORD} are the most."
                )


LONGEST_WORD: Final = 200
UNKNOWN: Final = Actor()
"""Nobody has said who."""

NOT_FOUND: Final = "not-found"
"""Skipped: there is no such message, or it is not among those selected."""
KEY_TAKEN: Final = "unique-key-taken"
"""Skipped: another message has its unique key."""
ASKED_BEFORE: Final = "asked-before"
"""Skipped: it runs, and had been asked to stop."""
PART_OF_FLOW: Final = "part-of-flow"
"""Skipped: a step is deleted with its flow."""
FLOW_RUNS: Final = "flow-runs"
"""Skipped: the steps of a flow that is not over."""


class Steered(msgspec.Struct, frozen=True, kw_only=True):
    """What a command did: how many it ``changed`` (for pause and resume: queues), how many running ones it ``asked`` to stop, and how many
    it ``skipped``, by reason: `NOT_FOUND`, `KEY_TAKEN`, `ASKED_BEFORE`, `PART_OF_FLOW`, `FLOW_RUNS`, why its flow has cancelled a step, or
    the state in which one that was named by id cannot be changed.
    """

    changed: int = 0
    asked: int = 0
    skipped: dict[str, int] = {}

    @property
    def touched(self) -> int:
        """How many it had any effect on."""
        return self.changed + self.asked

    def __add__(self, other: Steered) -> Steered:
        """Both, as one answer."""
        skipped = dict(self.skipped)
        for why, number in other.skipped.items():
            skipped[why] = skipped.get(why, 0) + number
        return Steered(changed=self.changed + other.changed, asked=self.asked + other.asked, skipped=skipped)
