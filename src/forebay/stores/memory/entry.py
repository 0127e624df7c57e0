"""What a memory store keeps of a message in a queue, of what a worker has taken, and of a queue with a limit."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from forebay.stores.limits import SAMPLE

if TYPE_CHECKING:
    from forebay.model import query as q, verdict as v
    from forebay.model.message import EntryId, Message
    from forebay.model.state import State
    from forebay.model.when import Instant
    from forebay.stores.memory.lines import Line
    from forebay.support.ids import Token


@dataclass(slots=True)
class Entry:
    """One message in one queue. Its state is changed by the moves of the `Ledger` alone."""

    id: EntryId
    seq: int
    message: Message
    queue: str
    state: State
    created: Instant
    due: Instant | None
    expires: Instant | None
    deadline: Instant | None
    ready_since: Instant | None = None
    token: Token | None = None
    started: Instant | None = None
    finished: Instant | None = None
    attempts: int = 0
    crashes: int = 0
    releases: int = 0
    tries: int = 0
    unknown_since: Instant | None = None
    cancel_requested: bool = False
    reason: v.Reason | None = None
    result: bytes | None = None
    settled_by: Token | None = None
    progress: q.Progress | None = None
    failure: v.Failure | None = None
    line: Line | None = None
    rank: int | None = None
    history: list[q.Try] = field(default_factory=list)


@dataclass(slots=True)
class Lease:
    """What one `receive` took: whose it is and how long it holds."""

    worker: str
    until: Instant
    entries: set[EntryId]


@dataclass(slots=True)
class Level:
    """How full a queue with a limit is, and when the latest of its messages were finished."""

    limit: int
    drops_expired: bool
    waiting: int
    finished: deque[Instant] = field(default_factory=lambda: deque(maxlen=SAMPLE))


def flow_of(entry: Entry | None) -> str | None:
    """The flow it is a step of, if it is there and is one."""
    step = None if entry is None else entry.message.step
    return None if step is None else step.flow
