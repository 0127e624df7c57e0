"""Storing flows: all steps of one, or none."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from msgspec.structs import replace

from forebay.engine import Published, Settlement, Stored
from forebay.model import verdict as v
from forebay.model.entry import blocked
from forebay.model.flow import HOOKS, Move, Role
from forebay.model.message import EntryId, Message
from forebay.model.saved import wait_of
from forebay.stores.flows import by_flow, check_fits, check_free, check_steps, step_of
from forebay.stores.memory import admission, flow_moves, unique
from forebay.stores.memory.entry import Entry, flow_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from forebay.model.when import Instant
    from forebay.stores.memory.ledger import Ledger


def admit(ledger: Ledger, flows: Mapping[str, Sequence[Message]], now: Instant) -> dict[str, list[Published]]:
    """Begin flows that senders from outside publish: the answers to the steps of each. Raises `InvalidOption` before any is stored."""
    _check_new(ledger, flows.values())
    for flow, steps in flows.items():
        if flow not in ledger.flows.flows:
            check_fits(steps, _limits(ledger))
    return {flow: _begin(ledger, flow, steps, now) for flow, steps in flows.items()}


def _check_new(ledger: Ledger, flows: Iterable[Sequence[Message]]) -> None:
    """Raise `InvalidOption` for flows that are not there and could never run."""
    begun = [steps for steps in flows if step_of(steps[0]).flow not in ledger.flows.flows]
    named = Counter(message.id for steps in begun for message in steps)
    for steps in begun:
        check_steps(steps)
        for message in steps:
            check_free(message, taken=named[message.id] > 1 or EntryId(message.id) in ledger.entries)


def _limits(ledger: Ledger) -> dict[str, int]:
    return {queue: level.limit for queue, level in ledger.levels.items()}


def _begin(ledger: Ledger, flow: str, steps: Sequence[Message], now: Instant) -> list[Published]:
    """Begin a flow; of one that is there, or that is too large for one of its queues, nothing is stored."""
    if flow in ledger.flows.flows:
        return [Published(Stored.DUPLICATE, EntryId(message.id)) for message in steps]
    wanted = check_fits(steps, _limits(ledger))
    if full := next(
        filter(None, (admission.full(ledger, queue, now, n) for queue, n in wanted.items())), None
    ):
        return [Published(Stored.FULL, EntryId(message.id), full=full) for message in steps]
    return [_store(ledger, message, now) for message in steps]


def follow(ledger: Ledger, own: str | None, batch: Sequence[Message], now: Instant) -> None:
    """Store what follows in flows from a delivery, which is a step of its ``own`` flow or of none."""
    _, flows = by_flow(batch)
    for flow, places in flows.items():
        if flow == own or flow not in ledger.flows.flows:
            for message in (batch[n] for n in places):
                if EntryId(message.id) not in ledger.flows.nodes:
                    _store(ledger, message, now)


def check_following(ledger: Ledger, settlement: Settlement) -> None:
    """Raise `InvalidOption` for steps that could never run, as all that they could wait for is known."""
    _, flows = by_flow(settlement.then)
    steps = {flow: [settlement.then[n] for n in places] for flow, places in flows.items()}
    own = flow_of(ledger.entries.get(settlement.delivery.id))
    if own in steps:
        nodes = ledger.flows.nodes
        new = [message for message in steps.pop(own) if EntryId(message.id) not in nodes]
        named = {EntryId(key) for message in new for key in step_of(message).after}
        known: dict[str, Role] = {
            key: node.step.role for key in named if (node := nodes.get(key)) and node.flow.id == own
        }
        if new:
            check_steps(new, known)
            for message in new:
                check_free(message, taken=EntryId(message.id) in ledger.entries)
    _check_new(ledger, steps.values())


def _store(ledger: Ledger, message: Message, now: Instant) -> Published:
    """Store one step of a flow, after those that it waits for."""
    ledger.seq += 1
    step, node, queue = step_of(message), ledger.flows.add(message, now), message.queue or ""
    kept = replace(message, step=replace(step, after=()))
    born = blocked(message, step, now)
    entry = Entry(node.id, ledger.seq, kept, queue, born.state, now, born.due, born.expires, born.deadline)
    ledger.entries[node.id] = entry
    if (level := ledger.levels.get(queue)) is not None:
        level.waiting += 1
    ledger.sight.sums(now).arrive({(queue, message.name): 1})
    if step.role is Role.EVENT:
        ledger.steps.save(node.id, 0, [wait_of(message)], now)
    move = Move.WAIT if step.role in HOOKS else node.move
    if move in (Move.FAIL, Move.SKIP):
        flow_moves.turn(ledger, node, move, now)
    elif (holder := unique.holder(ledger, entry, now, stored=True)) != node.id:
        flow_moves.drop(ledger, entry, v.Reason.DUPLICATE, now)
        return Published(Stored.DUPLICATE, holder)
    elif move is Move.RUN:
        flow_moves.turn(ledger, node, move, now)
    answer = Published(Stored.STORED, node.id)
    if ledger.heard is not None:
        ledger.heard(message, answer, now)
    return answer
