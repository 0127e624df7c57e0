"""Commands from people. What is meant is picked and changed in one transaction, so that what is told is what happened."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, assert_never

import msgspec

from forebay.engine import Cancels, Finished, Ready
from forebay.model.effect import CANCELLED
from forebay.model.flow import kind_of
from forebay.model.query import (
    ASKED_BEFORE,
    KEY_TAKEN,
    NOT_FOUND,
    PART_OF_FLOW,
    CancelNow,
    Delete,
    Redrive,
    Steered,
    changeable,
)
from forebay.model.state import FINISHED, State
from forebay.model.verdict import Reason
from forebay.stores.flows import is_whole, newest_first
from forebay.stores.sqlite import lines, unique
from forebay.stores.sqlite.flows import delete, reopen
from forebay.stores.sqlite.forgetting import forget
from forebay.stores.sqlite.queries import Picked, named, pick
from forebay.stores.sqlite.session import numbers
from forebay.stores.sqlite.settle import Ended, take_effect, tell_tries
from forebay.support.ids import Token

if TYPE_CHECKING:
    from forebay.model.query import Change, Selector
    from forebay.stores.sqlite.audit import Trail
    from forebay.stores.sqlite.session import Session

CHUNK: Final = 1_000
"""Entries that one transaction of a command touches at most."""


@dataclass(frozen=True, slots=True)
class Step:
    """One transaction of a command: what it did, and after which entry the next one goes on (None: that was all)."""

    done: Steered
    after: int | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """What one transaction is to do: the next entries, ``room`` at most, that come after ``after``."""

    which: Selector
    command: Change
    after: int | None
    room: int

    def look(self, session: Session) -> Step | None:
        """The answer, if there is nothing to change: found without a lock; or from where on to look."""
        if self.which.ids or self._flow is not None or (picked := self._pick(session, 1)).found:
            return None
        return Step(Steered(), picked.next)

    def work(self, session: Session, trail: Trail, before: Steered) -> Step:
        """Pick and change, and write what is done by now. ``before``: what was done in the transactions that are over."""
        step = self._step(session)
        trail.write(session, before + step.done)
        return step

    def _step(self, session: Session) -> Step:
        if self.which.ids:
            return self._named(session)
        if self._flow is not None:
            return Step(delete(session, self._flow))
        picked = self._pick(session, self.room)
        return Step(_change(session, picked.found, self.command), picked.next)

    @property
    def _flow(self) -> str | None:
        """The flow that is to be deleted as a whole."""
        return is_whole(self.which) if isinstance(self.command, Delete) else None

    def _pick(self, session: Session, limit: int) -> Picked:
        can = changeable(self.command)
        states = can & self.which.states if self.which.states else can
        if not states:
            return Picked([])
        oldest_first = not newest_first(self.which, self.command)
        return pick(session, self.which, states, cursor=self.after, limit=limit, oldest_first=oldest_first)

    def _named(self, session: Session) -> Step:
        can, found = changeable(self.command), named(session, self.which)
        fit = [seq for seq, state in found if state in can]
        skipped = Counter(state.value for _, state in found if state not in can)
        skipped[NOT_FOUND] = len(set(self.which.ids)) - len(found)
        done = Steered(skipped=dict(+skipped))
        while fit and done.touched < self.room:
            room = self.room - done.touched
            done += _change(session, fit[:room], self.command)
            fit = fit[room:]
        return Step(done)


def orders(which: Selector, command: Change) -> list[Order]:
    """The transactions of a command to begin with: one, or one for each thousand of many ids."""
    parts = [which.ids[n : n + CHUNK] for n in range(0, max(len(which.ids), 1), CHUNK)]
    return [Order(msgspec.structs.replace(which, ids=part), command, None, CHUNK) for part in parts]


def _change(session: Session, seqs: list[int], command: Change) -> Steered:
    """Change entries that are in one of the states for it."""
    entries = numbers(seqs)
    queues = [queue for (queue,) in session.rows("queues_of", {"entries": entries})]
    session.news.update(map(Ready, queues))
    session.news.add(Finished())
    match command:
        case Redrive():
            return _redrive(session, seqs, queues)
        case CancelNow():
            return _cancel(session, seqs)
        case Delete():
            steps = {seq for seq, *_ in session.rows("flow_among", {"entries": entries})}
            plain = [seq for seq in seqs if seq not in steps] if steps else seqs
            session.change("hold_let_go", {"entries": numbers(plain)})
            forget(session, plain)
            return Steered(changed=len(plain), skipped=_some(PART_OF_FLOW, len(steps)))
        case _:
            assert_never(command)


def _redrive(session: Session, seqs: list[int], queues: list[str]) -> Steered:
    skipped, steps, others = Counter[str](), list[int](), set[int]()
    for seq, state, reason, going in session.rows("flow_among", {"entries": numbers(seqs)}):
        kind = kind_of(State(state), None if reason is None else Reason(reason))
        if going or isinstance(kind, Reason):
            skipped[NOT_FOUND if going else kind.value] += 1
            others.add(seq)
        elif kind in FINISHED:
            steps.append(seq)
    others.update(steps)
    plain = [seq for seq in seqs if seq not in others] if others else seqs
    changed = unique.redrive(session, plain)
    lines.enter(session, numbers(plain))
    if steps:
        changed += unique.redrive(session, steps, "redrive_steps")
        session.change("redrive_places", {"entries": numbers(steps)})
        reopen(session, steps)
    session.tallies.grow(queues, changed)
    entries = {"entries": numbers([*plain, *steps])}
    session.change("redrive_results", entries)
    session.change("redrive_failures", entries)
    skipped[KEY_TAKEN] = len(plain) + len(steps) - changed
    return Steered(changed=changed, skipped=dict(+skipped))


def _cancel(session: Session, seqs: list[int]) -> Steered:
    session.news.add(Cancels())
    entries = numbers(seqs)
    over = [
        Ended(seq, queue, Token(token), CANCELLED)
        for seq, queue, token in session.rows("cancel_overdue", {"entries": entries, "now": session.now})
    ]
    if over:
        tell_tries(session, over)
        take_effect(session, over, settles=False)
    ended = session.change("cancel", {"entries": entries, "now": session.now})
    asked = session.change("cancel_ask", {"entries": entries})
    before = len(seqs) - len(over) - ended - asked
    return Steered(changed=len(over) + ended, asked=asked, skipped=_some(ASKED_BEFORE, before))


def _some(why: str, number: int) -> dict[str, int]:
    return {why: number} if number else {}


def switch(session: Session, queue: str, *, paused: bool) -> int:
    """Pause or resume a queue; 1 if that changed anything."""
    session.news.add(Ready(queue))
    return session.change("pause" if paused else "resume", {"queue": queue})
