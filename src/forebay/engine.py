"""The two ports every engine stands behind, and the values that cross them. Read this file first.

A *broker* moves messages; a *store* also remembers them. Deliveries end by `settle` and by nothing else. Whatever an engine cannot do it
says in its `Traits`, and refuses with a sentence. Nothing here knows a driver, a policy or user code.

Every call ends in one of three ways: it returns (it happened), it raises `EngineUnavailable` (it certainly did not), or it raises
`OutcomeUnknown` (it may have): then the same call with the same ids and token may be repeated and has no second effect.

An instance belongs to the event loop that opened it. Cancelling any call leaves the engine usable: the call has either happened whole or
not at all, and repeating it is safe.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, TypeVar, runtime_checkable

import msgspec
from msgspec.structs import force_setattr

from forebay.errors import InvalidOption, Unsupported
from forebay.model.amounts import check_count
from forebay.model.message import EntryId, Message
from forebay.model.names import subscription_queue
from forebay.model.query import UNKNOWN
from forebay.model.rule import FREE, Rules
from forebay.model.state import State
from forebay.model.verdict import Verdict
from forebay.model.when import SECOND, Instant, Micros, Span, span
from forebay.support.ids import Token

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from forebay.model.checkup import Finding
    from forebay.model.note import Revised, Revision
    from forebay.model.query import Actor, Command, Counts, Page, Progress, Query, Selector, Steered
    from forebay.model.rule import RateLimit
    from forebay.model.saved import SavedStep
    from forebay.model.survey import Presence, Survey
    from forebay.support.clock import Clock


SHORTEST_TIMING: Final = SECOND // 1_000
"""No lease is renewed faster than every millisecond: a smaller number was meant as seconds."""
R = TypeVar("R")

NOTHING: Final[Mapping[EntryId, Progress]] = MappingProxyType({})
"""No progress to tell of."""


class Ordering(StrEnum):
    """In which order a source hands out messages of equal priority."""

    NONE = "none"
    FIFO = "fifo"
    KEY = "key"


class Durability(StrEnum):
    """What an accepted message survives at least."""

    NOTHING = "nothing"
    PROCESS = "process"
    HOST = "host"


class LeaseKind(StrEnum):
    """What a lease hangs on, and so who can renew it.

    ``TOKEN``: all that a `receive` took, on its token; renewed from any broker. ``DELIVERY``: each on itself, renewed one by one from any
    broker. ``CONNECTION``: on the connection it came by; there is nothing to renew, and no time at which it ends: see `Tethered`.
    """

    TOKEN = "token"  # a kind of lease
    DELIVERY = "delivery"
    CONNECTION = "connection"


class Traits(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine can do. Class traits are checked when handlers are declared; none is asked on the hot path.

    ``max_body`` is in bytes. ``fences``: a settle under a lost lease changes nothing. ``dedupes``: the same id twice is stored once.
    ``remembers``: the broker is a `Store`. ``exact``: `receive` never takes more than is asked for. ``shared``: other processes can
    open the same engine. ``scopes``: a unique key may be held in ways of its own (`Message.hold`). ``limits``: a source may have a
    limit; `declare` refuses one elsewhere. ``lines``: the same of rules. ``settles_atomically``: what follows from a settlement is there
    if and only if the delivery has ended; where not, it leaves before: a crash in between leaves it there twice, and never not at all.
    ``flows``: messages may be steps of flows. ``native``: the class of what `Source.native` may be.
    """

    engine: str
    durability: Durability
    ordering: Ordering = Ordering.NONE
    lease: LeaseKind = LeaseKind.TOKEN
    settles_atomically: bool = False
    priorities: bool = False
    delay: bool = False
    expiry: bool = False
    unique: bool = False
    scopes: bool = False
    fan_out: bool = False
    fences: bool = False
    dedupes: bool = False
    remembers: bool = False
    joins_transaction: bool = False
    exact: bool = False
    virtual_clock: bool = False
    shared: bool = False
    limits: bool = False
    flows: bool = False
    lines: bool = False
    native: type | None = None
    max_body: int = 1 << 20


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Lease, heartbeat and sweep, checked against each other: text, a `timedelta` or whole microseconds, which they are read as.

    A heartbeat may fail twice before the lease is lost, hence ``lease >= 3 * heartbeat``. ``crashes``: lost leases after which a
    message is quarantined. Raises `InvalidOption`.

    >>> Timing(lease="1m", heartbeat="20s").lease
    60000000
    """

    lease: Micros = 30 * SECOND
    heartbeat: Micros = 10 * SECOND
    sweep: Micros = 5 * SECOND
    crashes: int = 3

    if TYPE_CHECKING:

        def __init__(
            self, *, lease: Span = ..., heartbeat: Span = ..., sweep: Span = ..., crashes: int = ...
        ) -> None:
            """As written; kept as microseconds."""

    def __post_init__(self) -> None:
        for name in ("lease", "heartbeat", "sweep"):
            force_setattr(self, name, span(getattr(self, name), name, SHORTEST_TIMING))
        check_count(self.crashes, "crashes", 1)
        if self.lease < 3 * self.heartbeat:
            raise InvalidOption("a lease must last at least three heartbeats.")


def timing_from(settings: Mapping[str, str]) -> Timing:
    """The `Timing` that settings say. Raises `InvalidOption`."""
    try:
        return Timing(lease=settings["lease"], heartbeat=settings["heartbeat"], sweep=settings["sweep"])
    except InvalidOption as error:
        said = ", ".join(f"{name} {settings[name][:60]}" for name in ("lease", "heartbeat", "sweep"))
        raise InvalidOption(f"The settings {said} do not fit: {error}") from error


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """How long and how much history is kept. Times are text, a `timedelta` or whole microseconds, which they are read as (None: for
    ever); caps are messages over all queues. Raises `InvalidOption`.

    >>> Retention(succeeded="1h", dead="30d", succeeded_cap=100_000).succeeded
    3600000000
    """

    succeeded: Micros | None = 86_400 * SECOND
    cancelled: Micros | None = 86_400 * SECOND
    dead: Micros | None = None
    succeeded_cap: int = 1_000_000
    dead_cap: int = 1_000_000

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            succeeded: Span | None = ...,
            cancelled: Span | None = ...,
            dead: Span | None = ...,
            succeeded_cap: int = ...,
            dead_cap: int = ...,
        ) -> None:
            """As written; kept as microseconds."""

    def __post_init__(self) -> None:
        for name in ("succeeded", "cancelled", "dead"):
            if (value := getattr(self, name)) is not None:
                force_setattr(self, name, span(value, f"Retention({name}=...)", SECOND if value else 0))
        for name in ("succeeded_cap", "dead_cap"):
            check_count(getattr(self, name), f"Retention({name}=...)", 0)

    def of(self, state: State) -> tuple[Micros | None, int]:
        """How long and how many are kept of what ended in ``state``."""
        match state:
            case State.SUCCEEDED:
                return self.succeeded, self.succeeded_cap
            case State.DEAD:
                return self.dead, self.dead_cap
            case _:
                return self.cancelled, self.succeeded_cap


class EngineOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the App tells an engine when it opens it."""

    timing: Timing = Timing()
    retention: Retention = Retention()


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where work comes from: a queue, bound to a topic pattern for one group if ``pattern`` is set.

    ``limit``: how many of its messages may wait before `Broker.publish` answers FULL. ``drops_expired``: what has expired is ended
    before it does. ``rules``: what holds for its messages that begin and run, over all processes. ``loose``: it is declared for its limit
    and its rules alone, and a pattern it is bound to stays. ``native``: what only this engine has, such as the arguments of a queue or the
    partitions of a topic: a value of the class that its traits name, which any other refuses.
    """

    queue: str
    pattern: str | None = None
    group: str | None = None
    limit: int | None = None
    drops_expired: bool = False
    rules: Rules = FREE
    loose: bool = False
    native: object | None = None

    @staticmethod
    def subscription(pattern: str, group: str, queue: str | None = None) -> Source:
        """The source of one group's copies of what matches ``pattern``."""
        return Source(queue=queue or subscription_queue(pattern, group), pattern=pattern, group=group)


def check_sources(sources: Sequence[Source], traits: Traits) -> None:
    """Raise `Unsupported` for rules, and for a native value, that an engine with these traits does not know."""
    for source in sources:
        if source.rules != FREE and not traits.lines:
            raise Unsupported(
                f"Queue {source.queue!r} has rules for what begins and runs, and {traits.engine} keeps none: "
                "declare it without, or use a store."
            )
        if source.native is not None and (
            traits.native is None or not isinstance(source.native, traits.native)
        ):
            takes = "none" if traits.native is None else f"a {traits.native.__name__}"
            raise Unsupported(
                f"Queue {source.queue!r}: native={type(source.native).__name__}(...) is for another engine; {traits.engine} takes {takes}."
            )


class Ask(msgspec.Struct, frozen=True):
    """What a `receive` asks of one source: up to ``limit`` new messages, under the lease ``token``. Each ask has a token of its own.

    With ``limit`` 0 it asks for nothing new, only for what the token holds already.

    ``names``: what the caller has handlers for. A store hands out to it, before it is due and in its place, what is called so and was put
    off because a worker did not know its name (`Snooze.unknown`), and keeps, whatever the limit, that somebody knows it: since when
    nobody has, it counts from then on. The look costs a search for each name, so a worker names them now and then and not in each ask. An
    engine that remembers nothing ignores them: there a message that is put off comes to whoever is there when it is due.
    """

    source: Source
    token: Token
    limit: int
    names: tuple[str, ...] = ()


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One message handed to one worker under a lease.

    ``received`` is the store's clock at the claim; the counters are as they stood then. ``token`` is the fence. On a bus ``native``
    holds whatever the driver needs to acknowledge.
    """

    id: EntryId
    message: Message
    source: Source
    token: Token
    received: Instant
    created: Instant
    expires: Instant | None = None
    deadline: Instant | None = None
    attempts: int = 0
    crashes: int = 0
    releases: int = 0
    unknown_since: Instant | None = None
    native: object = None


class Settlement(msgspec.Struct, frozen=True):
    """The one write that ends a delivery: its verdict, and the messages that exist if and only if the verdict is Done and took effect."""

    delivery: Delivery
    verdict: Verdict
    then: tuple[Message, ...] = ()


class Settled(StrEnum):
    """The answer to one settlement. Repeating one that took effect is answered OK again, until the entry is settled under another lease."""

    OK = "ok"
    STALE = "stale"


class Stored(StrEnum):
    """What became of one published message.

    ``TAKEN``: another has its unique key, and it asked to be rejected then. ``UNROUTED``: no queue takes it, and it was not stored.
    ``UNKNOWN``: it may be stored, and is to be published again, under its id.
    """

    STORED = "stored"
    DUPLICATE = "duplicate"
    TAKEN = "taken"
    FULL = "full"
    UNROUTED = "unrouted"
    UNKNOWN = "unknown"


class Full(msgspec.Struct, frozen=True):
    """Why a message was not stored: its queue, or one that its event goes to, is at its limit. ``retry_after``: in how many seconds
    there is likely room again, from how fast the queue has been emptied of late.
    """

    queue: str
    limit: int
    retry_after: float


class Published(msgspec.Struct, frozen=True):
    """The answer to one published message. ``id`` is the message that is stored: for a duplicate by unique key, the one that holds the
    key. ``groups`` is how many copies of an event were made (None where the engine cannot know); ``awaited``: whether it was kept for
    handlers or steps of flows that waited for it. ``full`` comes with FULL.
    """

    status: Stored
    id: EntryId
    groups: int | None = None
    full: Full | None = None
    awaited: bool = False

    @property
    def refused(self) -> Full | None:
        """Why it was not stored; None if it was, or had been before."""
        if self.status is not Stored.FULL:
            return None
        if self.full is None:
            raise AssertionError(self)
        return self.full


class Notice(StrEnum):
    """The answer to one lease renewal."""

    KEPT = "kept"
    LOST = "lost"
    CANCEL = "cancel"


class Swept(msgspec.Struct, frozen=True, kw_only=True):
    """What one sweep did. ``dead``: of the lost, those that were lost once too often. ``more``: the budget ran out first."""

    lost: int = 0
    dead: tuple[EntryId, ...] = ()
    expired: int = 0
    deleted: int = 0
    more: bool = False

    @property
    def quarantined(self) -> int:
        """How many of the lost were lost once too often."""
        return len(self.dead)


class Spent(msgspec.Struct, frozen=True):
    """The answer to who wants a token of a shared bucket. ``wait``: in how many microseconds the next one comes; ``taken``: it is his."""

    wait: Micros
    taken: bool


class Ready(msgspec.Struct, frozen=True):
    """Watch a queue for work."""

    queue: str


class Finished(msgspec.Struct, frozen=True):
    """Watch for messages that come to an end. Told with ``ids``, it is these that may have; without, it may be any."""

    ids: frozenset[EntryId] = frozenset()


class Cancels(msgspec.Struct, frozen=True):
    """Watch for running messages that are asked to stop. Nobody polls for these: renewals of leases hear of them as well."""


class Losses(msgspec.Struct, frozen=True):
    """Watch for leases that have ended with their connection. For brokers that are `Tethered`; others refuse it."""


class Noted(msgspec.Struct, frozen=True):
    """Watch for changes of notes of one kind. Nobody polls for these: whoever needs them looks now and then."""

    kind: str


Topic: TypeAlias = Ready | Finished | Cancels | Losses | Noted
"""What can be watched."""


class Broker(Protocol):
    """Moves messages. Every engine is one."""

    @property
    def traits(self) -> Traits:
        """What this engine can do."""
        ...

    async def declare(self, sources: Sequence[Source]) -> None:
        """Open the engine, check it, and make what ``sources`` need. The first call on a broker; idempotent.

        What is said last of a queue holds: one that is declared without a limit has none from then on.
        Raises `EngineRefused` for an engine we must not work on, `EngineUnavailable` if it cannot be reached, and `Unsupported` for a
        limit where traits have no ``limits``, and for a `Source.native` of another engine (`check_sources`).
        """
        ...

    async def publish(self, batch: Sequence[Message], *, tx: object | None = None) -> Sequence[Published]:
        """Store a batch; answers per item and in order.

        An engine that can stores all of it or none, and raises if it was none. One that cannot answers for each item, with UNKNOWN where
        its connection broke before the server said; repeated, only those are to be sent again.

        An id, or a unique key, that is already there is a duplicate: nothing is stored for that item. An item that would take a queue
        over its limit is FULL: it is not stored, for an event in no queue at all, and the others of the batch are. A duplicate is never
        FULL. What waits counts (`WAITING`), what runs does not; all that comes by any way but this one is let in.

        The steps of one flow are stored all or none, and so come in one batch: all are FULL if one is, and DUPLICATE if there is a flow of
        that id. A step whose unique key is taken is a duplicate too, and its flow goes on as if it were not needed. Raises
        `InvalidOption` for steps that could never run, such as those after an unknown one; then nothing of the batch is stored.
        """
        ...

    async def receive(
        self, asks: Sequence[Ask], *, wait: Micros, most: int | None = None
    ) -> Sequence[Delivery]:
        """Take messages for all ``asks`` in one round trip, and hand them out in the order of the asks.

        Each ask takes up to its own limit, and all together no more than ``most``: what the earlier ones take the later ones do not.
        If there is nothing for any of them, it waits for the first message of any source, up to ``wait`` microseconds.

        Repeated with the same tokens it hands out the same messages again, those that are still under them. They come first: whatever
        the limits they are handed out, and what they leave of ``most`` is for new ones. A token that holds something takes nothing new.
        """
        ...

    async def settle(self, batch: Sequence[Settlement]) -> Sequence[Settled]:
        """End deliveries, each with its verdict and its follow-ups; answers per item and in order.

        The deliveries of a batch end first; what follows from them finds the unique keys free that they held. Steps of the delivery's own
        flow are added to it; those of another one begin it, if it is not there. Where traits say ``settles_atomically``, all of an item
        is one transaction. Elsewhere its follow-ups, and the new copy that a retry is, are with the engine before the delivery is
        acknowledged.
        """
        ...

    async def extend(
        self,
        batch: Sequence[Delivery],
        *,
        under_way: Sequence[Token] = (),
        progress: Mapping[EntryId, Progress] = NOTHING,
    ) -> Sequence[Notice]:
        """Renew the leases of ``batch`` for another lease time from now; answers per delivery and in order.

        Who renews names all it has of a token in one call: what was taken under a token of the batch at least a lease time ago, and is
        not named, is nobody's any more. It goes back as lost, however long its siblings are at work.

        ``under_way``: tokens of a `receive` whose answer has not been seen yet. Whatever it has taken is renewed too: a caller whose loop
        is blocked between the claim and its answer must not lose what it does not know of. ``progress``: what some of the handlers say
        of theirs; a store keeps it for those of the batch whose lease holds, others ignore it.

        Where a lease hangs on its connection nothing is renewed: the broker that received says which of the batch it still has.
        """
        ...

    async def close(self) -> None:
        """Let go of everything. Idempotent. What was received and not settled stays under its lease, if that does not hang on this."""
        ...


class Tethered(Broker, Protocol):
    """A broker whose leases hang on its connection. What goes with the connection is handed to others at once, and a settlement of it is
    STALE; the broker itself connects again.
    """

    def watch(self, topic: Topic) -> AsyncIterator[None]:
        """Of `Losses`: yields at once, and whenever leases may have ended. `Broker.extend` says which."""
        ...


class Store(Broker, Protocol):
    """A broker that also remembers: state, history, results, control."""

    async def sweep(self, budget: int) -> Swept:
        """Bounded, idempotent upkeep that any worker may do: lost leases, expiry, retention. ``budget`` bounds the rows of each kind."""
        ...

    async def steer(self, which: Selector, command: Command, *, by: Actor = UNKNOWN) -> Steered:
        """Carry out a command on all that is selected, oldest first, and note who gave it in the same transaction if it had an effect.

        Selection and change are one transaction for each thousand messages at most: what is told is what happened, and what has left the
        selected states meanwhile is not touched. ``limit`` bounds what is touched.
        """
        ...

    async def save(self, delivery: Delivery, steps: Sequence[SavedStep]) -> Settled:
        """Keep steps of a handler that is at work, all of them or none.

        STALE if the delivery is not under its lease any more: nothing was kept, and nothing it does from here on counts. A step that is
        there by its name stays as it is, so that repeating the call has no second effect. They go with their message, not before: what
        is made ready again goes on where it was.
        """
        ...

    async def saved(self, key: EntryId) -> Sequence[SavedStep]:
        """The steps that were kept of a message, in the order in which they were; none of one that is not known."""
        ...

    async def spend(self, bucket: str, rate: RateLimit, *, patience: Micros) -> Spent:
        """Take the next token of a bucket that all processes share, if it comes within ``patience`` microseconds (an hour at most);
        whoever took it goes on when it is there. Else nothing is taken.
        """
        ...

    async def find(self, query: Query) -> Page:
        """One page of records. Raises `InvalidOption` for a cursor that is not ours."""
        ...

    async def count(self) -> Counts:
        """All queues by state."""
        ...

    async def survey(self, about: Survey[R]) -> tuple[R, ...]:
        """What it knows besides messages: `Workers`, `Rates`, `Groups`, `Audit`, `Notes`. Bounded by the question."""
        ...

    async def note(self, batch: Sequence[Revision], *, by: Actor = UNKNOWN) -> Sequence[Revised]:
        """Change small definitions that all processes share, in one transaction; answers per item and in order.

        A note is changed if what stands has still the version that was read; with the change its messages are stored, or neither is. What
        says already what it is to say is taken and changes nothing, so that a call may be repeated. Who did it is noted in the same
        transaction. `Notes` of `survey` reads them. Raises `InvalidOption` for more than a thousand at a time, and for too many of a kind.
        """
        ...

    async def attend(self, presence: Presence | None) -> None:
        """Say that the worker this broker is in the name of is there, for another lease time from now, or (None) that it is gone."""
        ...

    def watch(self, topic: Topic) -> AsyncIterator[frozenset[EntryId] | None]:
        """Hurry-up signals: something may have happened, first of all when the watch has begun. Polling stays the safety net of whoever
        watches. Of `Finished` it tells whose ends they may be; None: anybody's.
        """
        ...


class Engine(Protocol):
    """What a URL names. Opens one broker for each event loop that needs one; they all see the same messages."""

    @property
    def traits(self) -> Traits:
        """What brokers of this engine can do, known before anything is opened."""
        ...

    @property
    def url(self) -> str:
        """The URL without secrets, for people."""
        ...

    def connect(self, worker: str, clock: Clock) -> Broker:
        """A new broker for the running loop, in the name of ``worker``. No I/O happens before `Broker.declare`."""
        ...


@runtime_checkable
class Checkable(Protocol):
    """An engine that can be looked over from outside, whole or broken. Not every engine is one."""

    def checkup(self, now: Instant, *, deep: bool) -> tuple[Finding, ...]:
        """Look, and change nothing. Blocks; ``deep`` allows it to take as long as the data is large. Never raises for what it finds."""
        ...
