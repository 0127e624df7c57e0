"""What follows in flows when steps are over: told to their children and worked off, a bounded part in each write transaction.

A step has *told* its children what it last was, and what they know of their parents follows from that alone. Triggers mark whatever
changes; here the marks are worked off in whatever order, with the same result as in one breath.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from forebay.engine import Finished, Ready
from forebay.model.flow import (
    Condition,
    End,
    FlowState,
    Move,
    Role,
    hook_stands,
    kept_as,
    seen,
    stands,
    state_of,
    turned,
)
from forebay.model.message import EntryId
from forebay.model.query import FLOW_RUNS, NOT_FOUND, Steered
from forebay.model.state import State
from forebay.model.verdict import Reason
from forebay.stores.flows import ROWS, over
from forebay.stores.sqlite import arrivals, flow_events, lines, unique
from forebay.stores.sqlite.forgetting import forget, go
from forebay.stores.sqlite.session import batch as encoded, numbers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from forebay.stores.sqlite.session import Row, Session

_NUMBERS: Final = msgspec.json.Decoder(dict[str, int])
_BACK: Final = frozenset({Move.WAIT, Move.RUN})
DROPPED: Final = {Move.FAIL: Reason.PARENT_FAILED, Move.SKIP: Reason.SKIPPED}
"""Why a flow cancels a step."""
_STATES: Final = frozenset(state.value for state in State)
_COLUMNS: Final = {End.OPEN: 1, End.FAILED: 2, End.SKIPPED: 3}
"""Where the number of parents of each end stands in a row of `flow_tell`; the succeeded are not counted."""


@dataclass(slots=True)
class _Round:
    """What one look at the marks has led to. ``over``: steps that have told all, with what; ``flows``: theirs."""

    room: int
    deltas: dict[int, list[int]] = field(default_factory=dict)
    over: list[tuple[int, int]] = field(default_factory=list)
    quiet: list[int] = field(default_factory=list)
    flows: set[int] = field(default_factory=set)


@dataclass(slots=True)
class _Moves:
    """Steps by what becomes of them; ``back``: those that were over and are not any more."""

    by_move: dict[Move, list[int]] = field(default_factory=dict)
    back: list[int] = field(default_factory=list)

    def add(self, entry: int, kind: State | Reason, move: Move, *, released: bool) -> None:
        """A step may be turned by ``move``."""
        if turned(kind, move, released=released):
            self.by_move.setdefault(move, []).append(entry)
            if kind is not State.BLOCKED and move in _BACK:
                self.back.append(entry)

    def carry_out(self, session: Session) -> None:
        """Change them."""
        if self.back:
            _block(session, self.back)
        if run := self.by_move.get(Move.RUN):
            _release(session, run)
        for move, reason in DROPPED.items():
            if seqs := self.by_move.get(move):
                drop(session, seqs, reason)


def work(session: Session) -> bool:
    """Work off a part of what is marked, then of what is being forgotten; whether there may be more."""
    room, told = ROWS, False
    while room > 0:
        # Half of the room is for their children: most have one.
        limit = max(room // 2, 1)
        if not told and (marks := session.rows("flow_marks", {"after": session.walked, "limit": limit})):
            began, session.stirred = session.walked, False
            room, more = _tell(session, marks, room)
            # Nothing is marked any more where these were all that was, and have marked nothing: then nobody looks again.
            told = not (more or session.stirred or began or len(marks) == limit)
            session.walked = 0 if told else session.walked
        elif session.walked:
            session.walked = 0
        elif opened := session.rows("flow_opened", {"limit": room}):
            # Only now is known what stands of all that was redriven with them.
            room, told = room - len(opened), False
            seqs = [entry for (entry,) in opened]
            session.change("flow_block_steps", {"entries": numbers(seqs)})
            _turn(session, seqs)
        else:
            break
    while room > 0 and (going := session.rows("flow_gone")):
        room = _forget_part(session, going[0][0], room)
    return room <= 0 and bool(session.row("flow_left")[0])


def _tell(session: Session, marks: Sequence[Row], room: int) -> tuple[int, bool]:
    """Tell children how their parents stand, then move those that this turns; returns the room that leaves, and whether
    any of them has more to tell.
    """
    session.walked = marks[-1][0]
    now = _Round(room - len(marks))
    telling = [mark for mark in marks if mark[2] != mark[5]]
    whole = _walk(session, telling, now) if telling else 0
    partly = {mark[0] for mark in telling[whole:]}
    for entry, flow, target, is_, *_ in marks:
        if entry in partly:
            continue
        now.over.append((entry, target))
        if target == is_:
            now.quiet.append(entry)
            now.flows.add(flow)
        else:
            session.change("flow_mark_at", {"entry": entry, "target": None, "cursor": 0})
    if now.deltas:
        session.change("flow_tell", {"batch": encoded(list(now.deltas.values()))})
    if now.over:
        session.change("flow_told", {"batch": encoded(now.over)})
        session.change("flow_unmark", {"entries": numbers(now.quiet)})
    if now.deltas:
        _turn(session, list(now.deltas))
    if now.flows:
        _look(session, now.flows)
    return now.room, len(now.quiet) < len(marks)


def _walk(session: Session, telling: Sequence[Row], now: _Round) -> int:
    """Tell the next children; how many of ``telling``, from the first on, have told all of theirs."""
    limit = max(now.room, 1)
    batch = encoded([(mark[0], mark[4]) for mark in telling])
    rows = session.rows("flow_children", {"batch": batch, "limit": limit})
    for n, child in rows:
        delta = now.deltas.setdefault(child, [child, 0, 0, 0])
        _, _, target, _, _, told = telling[n]
        for end, step in ((told, -1), (target, 1)):
            if end in _COLUMNS:
                delta[_COLUMNS[end]] += step
    now.room -= len(rows)
    if len(rows) < limit:
        return len(telling)
    last, child = rows[-1]
    session.change("flow_mark_at", {"entry": telling[last][0], "target": telling[last][2], "cursor": child})
    return int(last)


def _turn(session: Session, entries: Sequence[int]) -> None:
    """Move the steps that their parents let run or cancel by now."""
    moves = _Moves()
    for entry, cond, open_, failed, skipped, released, text in session.rows(
        "flow_standing", {"entries": numbers(entries)}
    ):
        move = stands(Condition(cond), open_=open_, failed=failed, skipped=skipped)
        moves.add(entry, kind(text), move, released=bool(released))
    moves.carry_out(session)


def kind(text: str) -> State | Reason:
    """As what a step is counted, from how it is written."""
    return State(text) if text in _STATES else Reason(text)


def drop(session: Session, seqs: Sequence[int], reason: Reason) -> None:
    """Their flow cancels steps, or says why it did anew."""
    session.change("flow_drop", {"entries": numbers(seqs), "reason": reason, "now": session.now})
    session.news.add(Finished())
    session.stirred = True


def _block(session: Session, seqs: Sequence[int]) -> None:
    """What was over waits again, if nobody has its unique key."""
    entries = {"entries": numbers(seqs)}
    unique.redrive(session, seqs, "flow_block")
    session.stirred = True
    session.change("flow_block_steps", entries)
    waiting: dict[int, str] = dict(session.rows("flow_blocked", entries))
    if taken := [seq for seq in seqs if seq not in waiting]:
        drop(session, taken, Reason.DUPLICATE)
    session.tallies.grow(waiting.values())


def _release(session: Session, seqs: Sequence[int]) -> None:
    """Let steps go that wait; those are left out that could not wait again."""
    entries = {"entries": numbers(seqs)}
    session.change("flow_release", entries | {"now": session.now})
    session.change("flow_released", entries)
    lines.enter(session, entries["entries"])
    session.news.update(Ready(queue) for (queue,) in session.rows("queues_of", entries))
    flow_events.come(session, seqs)


# -- flows


def reopen(session: Session, seqs: Sequence[int]) -> None:
    """Flows run of which some steps were redriven, though not all may have been told for long: nobody takes their end for a new one."""
    for row in session.rows("flow_reopened", {"entries": numbers(seqs)}):
        _stand(session, row, FlowState.RUNNING)


def _look(session: Session, flows: Iterable[int]) -> None:
    """See which flows are over."""
    for row in session.rows("flow_quiet", {"flows": numbers(flows)}):
        _look_at(session, row)


def _look_at(session: Session, row: Row) -> None:
    flow, _, _, _, _, on_done, on_failed, numbers_ = row
    kinds = {kind(text): n for text, n in _NUMBERS.decode(numbers_).items() if n}
    if on_done is not None or on_failed is not None:
        hooks = session.rows("flow_hooks", {"entries": encoded([one for one in (on_done, on_failed) if one])})
        if _look_at_hooks(session, kinds, hooks):
            _stand(session, row, FlowState.RUNNING)
            _look(session, [flow])
            return
    _stand(session, row, state_of(kinds))


def _stand(session: Session, row: Row, now: FlowState) -> None:
    """Say where a flow stands, if that is not where it stood."""
    flow, key, state, steps, finished, *_ = row
    if now == state:
        return
    if finished is not None:
        session.change("flow_kept_add", {"state": kept_as(FlowState(state)), "n": -steps})
    if now is FlowState.RUNNING:
        finished = None
    else:
        if finished is None:
            finished = session.now
            arrivals.meet(session, [over(key)])
        session.change("flow_kept_add", {"state": kept_as(now), "n": steps})
        session.news.add(Finished(frozenset({EntryId(key)})))
    session.change("flow_close", {"flow": flow, "state": now, "finished": finished})


def _look_at_hooks(session: Session, kinds: Mapping[State | Reason, int], hooks: Sequence[Row]) -> bool:
    """Move what waits for the whole flow; whether there was any to move."""
    rest = dict(kinds)
    for *_, text in hooks:
        rest[kind(text)] -= 1
    open_, failed = (sum(n for one, n in rest.items() if seen(one) is end) for end in (End.OPEN, End.FAILED))
    moves = _Moves()
    for entry, role, released, text in hooks:
        moves.add(
            entry, kind(text), hook_stands(Role(role), open_=open_, failed=failed), released=bool(released)
        )
    moves.carry_out(session)
    return bool(moves.by_move)


def delete(session: Session, name: str) -> Steered:
    """Begin to forget a flow, if it is over."""
    rows = session.rows("flow_status", {"id": name})
    if not rows or rows[0][4]:
        return Steered(skipped={NOT_FOUND: 1})
    flow, state, steps, finished, _ = rows[0]
    if finished is None:
        return Steered(skipped={FLOW_RUNS: steps})
    go(session, flow, kept_as(FlowState(state)), steps)
    return Steered(changed=steps)


def _forget_part(session: Session, flow: int, room: int) -> int:
    """Forget some steps of a flow, and with the last the flow; returns the room that leaves."""
    seqs = [seq for (seq,) in session.rows("flow_entries_of", {"flow": flow, "limit": room})]
    if not seqs:
        session.change("flow_forget_counts", {"flow": flow})
        session.change("flow_forget", {"flow": flow})
        return room - 1
    entries: dict[str, Any] = {"entries": numbers(seqs)}
    edges = session.change("flow_forget_edges", entries | {"limit": room})
    if edges < room:
        session.change("flow_forget_kept", entries)
        session.change("flow_forget_none")
        session.change("flow_forget_steps", entries)
        forget(session, seqs)
    return room - max(edges, len(seqs))
