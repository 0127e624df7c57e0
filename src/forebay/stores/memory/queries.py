"""Looking: what a selector means, records, counts."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from msgspec.structs import replace

from forebay.model import query as q
from forebay.model.saved import waited_for
from forebay.model.state import State
from forebay.stores.counting import counted
from forebay.stores.memory.entry import Entry, flow_of
from forebay.stores.sums import minute_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from forebay.model.waits import Waits
    from forebay.model.when import Instant
    from forebay.stores.memory.ledger import Ledger


def selected(ledger: Ledger, which: q.Selector) -> Iterator[Entry]:
    """The entries a selector means, oldest first."""
    found: Iterable[Entry] = ledger.entries.values()
    if which.flow is not None:
        flow = ledger.flows.flows.get(which.flow)
        found = [] if flow is None else [ledger.entries[key] for key in flow.nodes]
    if which.ids:
        found = sorted(filter(None, map(ledger.entries.get, set(which.ids))), key=lambda e: e.seq)
    return (entry for entry in found if _is_meant(ledger, which, entry))


def _is_meant(ledger: Ledger, which: q.Selector, entry: Entry) -> bool:
    failure = entry.failure
    return (
        which.queue in (None, entry.queue)
        and which.name in (None, entry.message.name)
        and which.key in (None, entry.message.key)
        and which.flow in (None, flow_of(entry))
        and (not which.states or entry.state in which.states)
        and (which.worker is None or which.worker == _worker_of(ledger, entry))
        and (which.error is None or (failure is not None and failure.type == which.error))
        and (which.fingerprint is None or (failure is not None and failure.fingerprint == which.fingerprint))
        and _lies_in(entry.created, which.created_since, which.created_before)
        and _lies_in(entry.finished, which.finished_since, which.finished_before)
    )


def value(ledger: Ledger, entry: Entry, by: q.By) -> str | int | None:
    """What an entry is grouped by, if it has that."""
    match by:
        case q.By.QUEUE:
            return entry.queue
        case q.By.NAME:
            return entry.message.name
        case q.By.STATE:
            return entry.state.value
        case q.By.WORKER:
            return _worker_of(ledger, entry)
        case q.By.ERROR:
            return None if entry.failure is None else entry.failure.type
        case q.By.FINGERPRINT:
            return None if entry.failure is None else entry.failure.fingerprint
        case q.By.MINUTE:
            return None if entry.finished is None else minute_of(entry.finished)


def _worker_of(ledger: Ledger, entry: Entry) -> str | None:
    """Who has it now."""
    lease = None if entry.token is None else ledger.leases.get(entry.token)
    return None if lease is None else lease.worker


def record(ledger: Ledger, entry: Entry, now: Instant) -> q.TaskRecord:
    """An entry as a value."""
    return q.TaskRecord(
        id=entry.id, message=entry.message, queue=entry.queue, state=entry.state, created=entry.created, due=entry.due,
        expires=entry.expires, deadline=entry.deadline, started=entry.started, finished=entry.finished, attempts=entry.attempts,
        crashes=entry.crashes, releases=entry.releases, cancel_requested=entry.cancel_requested, reason=entry.reason,
        progress=entry.progress, result=entry.result, tries=tuple(entry.history), waits=_waits(ledger, entry, now),
    )  # fmt: skip


def _waits(ledger: Ledger, entry: Entry, now: Instant) -> Waits | None:
    if entry.state is State.SCHEDULED and entry.due is not None and entry.due > now:
        return waited_for(ledger.steps.saved(entry.id), now)
    if entry.state is State.READY or entry.line is not None:
        return ledger.lines.waits(entry, now)
    if entry.state is not State.BLOCKED:
        return None
    if (parents := ledger.flows.waits(entry.id)) is not None:
        return parents
    steps = ledger.steps.saved(entry.id)
    return waited_for((replace(step, due=entry.expires or step.due) for step in steps), now)


def count(ledger: Ledger, now: Instant) -> q.Counts:
    """All queues by state."""
    numbers = Counter((entry.queue, entry.state) for entry in ledger.entries.values())
    oldest: dict[str, Instant] = {}
    for entry in ledger.entries.values():
        if entry.state is State.READY and entry.ready_since is not None:
            oldest[entry.queue] = min(entry.ready_since, oldest.get(entry.queue, entry.ready_since))
    declared = [
        (s.queue, s.queue in ledger.paused, s.pattern, s.group, s.limit) for s in ledger.bindings.values()
    ]
    declared += [(queue, True, None, None, None) for queue in ledger.paused - ledger.bindings.keys()]
    found = [
        (queue, state, n, oldest.get(queue) if state is State.READY else None)
        for (queue, state), n in numbers.items()
    ]
    return counted(now, declared, found, ledger.counters, ledger.lines.rules)


def _lies_in(when: Instant | None, since: Instant | None, before: Instant | None) -> bool:
    """Whether it lies in a span; what has no moment lies in the boundless one only."""
    if when is None:
        return since is None and before is None
    return (since is None or since <= when) and (before is None or when < before)
