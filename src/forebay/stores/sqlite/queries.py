"""Looking without a lock: pages of records, counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from forebay.model.query import LONGEST_PAGE, Counts, Page, Query, QueueCounts, Selector
from forebay.model.state import State
from forebay.stores.sqlite.rows import record, stories
from forebay.stores.sqlite.session import batch as encoded, numbers
from forebay.stores.sqlite.settle import KEPT

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from forebay.model.when import Instant
    from forebay.stores.sqlite.session import Session, Value

LAST: Final = (1 << 63) - 1
"""After all sequence numbers."""
_ENDED: Final = frozenset({State.DEAD, State.CANCELLED, State.EXPIRED})


def find(session: Session, query: Query, after: int | None) -> Page:
    """One page of records."""
    size = max(1, min(query.size, LONGEST_PAGE))
    cursor = after if after is not None else 0 if query.oldest_first else LAST
    seqs = pick(
        session,
        query.which,
        query.which.states,
        cursor=cursor,
        limit=size + 1,
        oldest_first=query.oldest_first,
    )
    shown = seqs[:size]
    tries = stories(session.rows("tries", {"entries": numbers(shown), "keep": KEPT}))
    records = tuple(
        record(row, tries.get(row[0], ())) for row in session.rows("records", {"entries": numbers(shown)})
    )
    return Page(records, str(shown[-1]) if len(seqs) > size else None)


def pick(
    session: Session,
    which: Selector,
    states: AbstractSet[State],
    *,
    cursor: int,
    limit: int,
    oldest_first: bool,
) -> list[int]:
    """Sequence numbers of what a selector means in ``states`` (none: any), in order, from a cursor on."""
    if which.ids:
        found = sorted(
            (seq for seq, state in named(session, which) if not states or state in states),
            reverse=not oldest_first,
        )
        return [seq for seq in found if (seq > cursor if oldest_first else seq < cursor)][:limit]
    conditions = _conditions(which, states) | {"cursor": cursor, "limit": limit}
    source = "pick_ended" if states and states <= _ENDED else "pick"
    return [seq for (seq,) in session.rows(source if oldest_first else f"{source}_newest", conditions)]


def named(session: Session, which: Selector) -> list[tuple[int, State]]:
    """Sequence numbers and states of what a selector names by id, oldest first."""
    rows = session.rows("pick_ids", {**_conditions(which, which.states), "ids": encoded(which.ids)})
    return sorted((seq, State(state)) for seq, state in rows)


def _conditions(which: Selector, states: AbstractSet[State]) -> dict[str, Value]:
    return {
        "queue": which.queue,
        "name": which.name,
        "states": encoded(sorted(states)) if states else None,
        "before": which.finished_before,
    }


def count(session: Session) -> Counts:
    """All queues by state."""
    known = {
        queue: (bool(paused), pattern, group, limit)
        for queue, paused, pattern, group, limit in session.rows("count_queues")
    }
    states: dict[str, dict[State, int]] = {queue: {} for queue in known}
    oldest: dict[str, Instant] = {}
    for queue, state, n, since in session.rows("count"):
        states.setdefault(queue, {})[State(state)] = n
        if state == State.READY and since is not None:
            oldest[queue] = since
    queues: list[QueueCounts] = []
    for queue in sorted(states):
        paused, pattern, group, limit = known.get(queue, (False, None, None, None))
        queues.append(
            QueueCounts(
                queue=queue,
                states=states[queue],
                oldest_ready=oldest.get(queue),
                paused=paused,
                pattern=pattern,
                group=group,
                limit=limit,
            )
        )
    return Counts(now=session.now, queues=tuple(queues), counters=dict(session.rows("counters")))
