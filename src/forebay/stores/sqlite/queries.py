"""Looking without a lock: pages of records, counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from forebay.model.query import TRIES_KEPT, By, Counts, Page, Query, Selector
from forebay.model.state import FINISHED, State
from forebay.model.when import SECOND
from forebay.stores.counting import counted
from forebay.stores.sqlite import flow_sight, lines, steps
from forebay.stores.sqlite.rows import STATE, record, stories
from forebay.stores.sqlite.rules import in_force
from forebay.stores.sqlite.session import batch as encoded, numbers

if TYPE_CHECKING:
    from collections.abc import Sequence, Set as AbstractSet

    from forebay.model.survey import Groups
    from forebay.model.waits import Waits
    from forebay.model.when import Instant
    from forebay.stores.sqlite.session import Row, Session, Value

WALK: Final = 50_000
"""Sequence numbers that one look passes by at most: some milliseconds. Whoever wants more looks again, from where it ended."""
FEW: Final = 5_000
"""What waits or runs is all looked at where each kind of it is less; else all entries are walked in order."""
SLACK: Final = 10 * SECOND
"""By how much the moments of creation may be out of the order of sequence numbers: clocks are set back, transactions wait."""
_HIGHEST: Final = "\U0010ffff"
"""After all names of queues."""
_ENDED: Final = frozenset({State.DEAD, State.CANCELLED, State.EXPIRED})
_COUNTED: Final = frozenset({By.QUEUE, By.STATE})
_LIVE: Final = frozenset(State) - FINISHED
_WHOLE: Final = frozenset({"pick_running", "pick_live", "pick_finished"})
"""Statements that look at all there is, and sort it."""
_RUNNING: Final = frozenset({State.RUNNING})


@dataclass(frozen=True, slots=True)
class Picked:
    """Sequence numbers in order; after which one to look on (None: that was all); how many entries were walked past to find them."""

    found: list[int]
    next: int | None = None
    walked: int = 0


def find(session: Session, query: Query, size: int, after: int | None) -> tuple[Page, bool]:
    """One page of ``size`` records at most, and whether it is whole: else it ends where the walk did."""
    which, oldest_first = query.which, query.oldest_first
    picked = pick(session, which, which.states, cursor=after, limit=size + 1, oldest_first=oldest_first)
    shown = picked.found[:size]
    last = shown[-1] if len(picked.found) > size else picked.next
    entries = numbers(shown)
    tries = {} if query.brief else stories(session.rows("tries", {"entries": entries, "keep": TRIES_KEPT}))
    rows = session.rows("records_brief" if query.brief else "records", {"entries": entries})
    waits = {} if query.brief else _waits(session, rows)
    records = tuple(record(row, tries.get(row[0], ()), waits.get(row[0])) for row in rows)
    return Page(records, None if last is None else str(last)), last is None or len(shown) == size


def _waits(session: Session, rows: Sequence[Row]) -> dict[int, Waits]:
    """What they wait for that are put off, where that is not their time alone."""
    waiting = [row[0] for row in rows if row[STATE] in (State.SCHEDULED, State.BLOCKED)]
    blocked = [row[0] for row in rows if row[STATE] == State.BLOCKED]
    found: dict[int, Waits] = {}
    if waiting:
        found.update(steps.waits(session, waiting))
    if blocked:
        found.update(flow_sight.waits(session, blocked))
    found.update(lines.waits(session, blocked, [row for row in rows if row[STATE] == State.READY]))
    return found


def pick(
    session: Session,
    which: Selector,
    states: AbstractSet[State],
    *,
    cursor: int | None,
    limit: int,
    oldest_first: bool,
) -> Picked:
    """What a selector means in ``states`` (none: any), from a cursor on; by one index in order, and never past more than `WALK` entries."""
    if which.ids:
        found = [seq for seq, state in named(session, which) if not states or state in states]
        found = [seq for seq in found if cursor is None or (seq > cursor if oldest_first else seq < cursor)]
        shown = (found if oldest_first else found[::-1])[:limit]
        return Picked(shown, shown[-1] if len(found) > limit else None)
    conditions, way = _conditions(which, states), "" if oldest_first else "_newest"
    source = _source(session, which, states, conditions)
    after, before = _span(session, which)
    if cursor is not None:
        after, before = (max(after, cursor), before) if oldest_first else (after, min(before, cursor))
    end = None
    if source not in _WHOLE and before - after > WALK:
        after, before, end = (
            (after, after + WALK, after + WALK - 1)
            if oldest_first
            else (before - WALK, before, before - WALK + 1)
        )
    bounds = {"after": after, "before": before, "limit": limit}
    found = [seq for (seq,) in session.rows(source + way, {**conditions, **bounds})]
    # Whether there is more behind the last that was asked for is seen by whoever asks for it.
    last = found[-1] if len(found) == limit else end
    return Picked(found, last, before - after if source == "pick" else len(found))


def _source(
    session: Session, which: Selector, states: AbstractSet[State], conditions: dict[str, Value]
) -> str:
    """The statement whose index is likely to pass by the fewest."""
    narrow = {
        "pick_fingerprint": which.fingerprint,
        "pick_error": which.error,
        "pick_key": which.key,
        "pick_flow": which.flow,
    }
    if which.worker is not None or states == _RUNNING:
        return "pick_running"
    if (source := next((name for name, asked in narrow.items() if asked is not None), None)) is not None:
        return source
    low, high = ("", _HIGHEST) if which.queue is None else (which.queue, which.queue)
    conditions |= {"low": low, "high": high, "few": FEW}
    if which.finished_since is not None and session.row("finished", conditions)[0] < FEW:
        return "pick_finished"
    if states and states <= _ENDED:
        return "pick_ended"
    if states and states <= _LIVE and session.row("live", conditions)[0] < FEW:
        return "pick_live"
    return "pick"


def _span(session: Session, which: Selector) -> tuple[int, int]:
    """The sequence numbers between which all lies that was created in the selector's span."""
    low, high = (
        session.row("range") if which.flow is None else session.row("flow_range", {"flow": which.flow})
    )
    since, before = which.created_since, which.created_before
    return (
        low - 1 if since is None else _first_created(session, since - SLACK, low, high + 1) - 1,
        high + 1 if before is None else _first_created(session, before + SLACK, low, high + 1),
    )


def _first_created(session: Session, when: Instant, low: int, high: int) -> int:
    """The first sequence number of those created at a moment or later, as far as they were created in order: by halving."""
    while low < high:
        middle = (low + high) // 2
        rows = session.rows("created", {"seq": middle})
        if not rows or rows[0][1] >= when:
            high = middle
        else:
            low = rows[0][0] + 1
    return low


def named(session: Session, which: Selector) -> list[tuple[int, State]]:
    """Sequence numbers and states of what a selector names by id, oldest first."""
    rows = session.rows("pick_ids", {**_conditions(which, which.states), "ids": encoded(which.ids)})
    return sorted((seq, State(state)) for seq, state in rows)


def _conditions(which: Selector, states: AbstractSet[State]) -> dict[str, Value]:
    return {
        "queue": which.queue,
        "name": which.name,
        "key": which.key,
        "flow": which.flow,
        "states": encoded(sorted(states)) if states else None,
        "worker": which.worker,
        "error": which.error,
        "fingerprint": which.fingerprint,
        "created_since": which.created_since,
        "created_before": which.created_before,
        "finished_since": which.finished_since,
        "finished_before": which.finished_before,
    }


def group(session: Session, about: Groups, after: int | None) -> tuple[Counter[str | int], Picked]:
    """How many there are of each value, in a part of what is selected."""
    which, by = about.which, about.by
    if by in _COUNTED and which == Selector(queue=which.queue, states=which.states, limit=which.limit):
        return _counted(session, about), Picked([])
    picked = pick(session, which, which.states, cursor=after, limit=WALK, oldest_first=True)
    return Counter(dict(session.rows("groups", {"by": by, "entries": numbers(picked.found)}))), picked


def _counted(session: Session, about: Groups) -> Counter[str | int]:
    """By queue and state the indexes know it."""
    which, found = about.which, Counter[str | int]()
    for queue, state, n, _ in session.rows("count"):
        if which.queue in (None, queue) and (not which.states or state in which.states):
            found[queue if about.by is By.QUEUE else state] += n
    return found


def count(session: Session) -> Counts:
    """All queues by state."""
    declared = ((queue, bool(paused), *rest) for queue, paused, *rest in session.rows("count_queues"))
    found = (
        (queue, state, n, since if state == State.READY else None)
        for queue, state, n, since in session.rows("count")
    )
    return counted(session.now, declared, found, dict(session.rows("counters")), in_force(session))
