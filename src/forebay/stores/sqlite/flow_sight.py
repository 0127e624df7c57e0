"""Looking at flows: records of them, of their steps, and of the parents of one. Without a lock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from forebay.model.flow import Condition, FlowState, Role, by_state
from forebay.model.message import EntryId
from forebay.model.state import State
from forebay.model.survey import FlowRecord, Flows, Parent, Parents, StepRecord, Steps
from forebay.model.verdict import Failure, Reason
from forebay.model.waits import ForParents
from forebay.stores.flows import LOOKED_AT, NAMED
from forebay.stores.sqlite.flows import kind
from forebay.stores.sqlite.session import batch as encoded, numbers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from forebay.stores.sqlite.session import Row, Session, Value

_ALWAYS: Final = (1 << 63) - 1
_NUMBERS: Final = msgspec.json.Decoder(dict[str, int])
_NAMES: Final = msgspec.json.Decoder(tuple[str, ...])
_FAILURE: Final = msgspec.json.Decoder(Failure)


def flows(session: Session, about: Flows) -> tuple[FlowRecord, ...]:
    """Flows, the newest first."""
    asked: dict[str, Value] = {
        "before": _ALWAYS if about.before is None else about.before,
        "limit": about.most,
    }
    if about.ids:
        rows = session.rows("flows_named", asked | {"ids": encoded(about.ids), "state": about.state})
    elif about.state is not None:
        rows = session.rows("flows_in", asked | {"state": about.state})
    else:
        rows = session.rows("flows", asked)
    return tuple(
        FlowRecord(
            id=key, state=FlowState(state), created=created, finished=finished,
            steps=by_state({kind(text): n for text, n in _NUMBERS.decode(kinds).items()}),
        )
        for key, state, created, finished, kinds in rows
    )  # fmt: skip


def steps(session: Session, about: Steps) -> tuple[StepRecord, ...]:
    """The steps of a flow, from one on."""
    asked: dict[str, Value] = {
        "flow": about.flow,
        "beyond": about.beyond,
        "limit": about.most,
        "parents": LOOKED_AT,
    }
    return tuple(map(_step, session.rows("flow_steps", asked)))


def _step(row: Row) -> StepRecord:
    (
        key, name, task, queue, state, cond, role, after, open_, failed, skipped, attempts, reason, error, started, finished,
    ) = row  # fmt: skip
    return StepRecord(
        id=EntryId(key), name=name, task=task, queue=queue, state=State(state), when=Condition(cond), role=Role(role),
        after=_NAMES.decode(after), open=open_, failed=failed, skipped=skipped, attempts=attempts,
        reason=None if reason is None else Reason(reason), error=None if error is None else _FAILURE.decode(error),
        started=started, finished=finished,
    )  # fmt: skip


def parents(session: Session, about: Parents) -> tuple[Parent, ...]:
    """The parents of a step, from one on."""
    rows = session.rows("flow_parents", {"of": about.of, "beyond": about.beyond, "limit": about.most})
    return tuple(
        Parent(
            id=EntryId(key), name=name, state=State(state), result=body, reason=None if reason is None else Reason(reason),
            error=None if error is None else _FAILURE.decode(error),
        )
        for key, name, state, body, reason, error in rows
    )  # fmt: skip


def waits(session: Session, entries: Iterable[int]) -> dict[int, ForParents]:
    """What the steps among some entries wait for, if that is others."""
    asked: dict[str, Any] = {"entries": numbers(entries), "parents": LOOKED_AT, "names": NAMED}
    rows = session.rows("flow_waits", asked)
    return {seq: ForParents(open=number, first=_NAMES.decode(names)) for seq, number, names in rows}
