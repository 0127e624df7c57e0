"""Finding flows, showing them, and doing to them what a command says."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from forebay.cli.actor import actor
from forebay.cli.exits import Exit
from forebay.cli.flow_graph import diagram, levels_of, text
from forebay.cli.following import repeated
from forebay.cli.loading import opened
from forebay.cli.output import (
    Column,
    clean,
    counted,
    document,
    json_line,
    moment,
    note,
    say,
    span,
    table,
    timestamp,
)
from forebay.cli.touch import FARTHEST, PAGE, SHORTEST_PREFIX, Unsure, asked, bounded, why_skipped
from forebay.errors import FlowNotFound
from forebay.flow_handle import RETRIED, STEPS_AT_A_TIME
from forebay.model.flow import FlowState
from forebay.model.query import CancelNow, Change, Delete, Redrive, Selector, Steered, changeable
from forebay.model.state import State
from forebay.model.survey import LONGEST_SURVEY, FlowRecord, Flows, StepRecord, Steps
from forebay.support.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from forebay.app import App
    from forebay.cli.touch import Manner
    from forebay.model.when import Instant

COLUMNS: Final = (
    Column("id"), Column("state"), Column("steps", right=True), Column("done", right=True), Column("running", right=True),
    Column("failed", right=True), Column("age", right=True), Column("took", right=True),
)  # fmt: skip
_FAILED: Final = (State.DEAD, State.EXPIRED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """Something done to flows: to their steps in the states ``can``, or to them as a whole."""

    word: str
    past: str
    command: Change
    can: frozenset[State]
    whole: bool = False


VERBS: Final = {
    "retry": Verb(word="retry", past="retried", command=Redrive(), can=RETRIED),
    "cancel": Verb(word="cancel", past="cancelled", command=CancelNow(), can=changeable(CancelNow())),
    "delete": Verb(word="delete", past="deleted", command=Delete(), can=changeable(Delete()), whole=True),
}


# -- finding


def find_flow(app: App, key: str) -> FlowRecord:
    """The flow of this id, or the only one whose id begins so. Raises `FlowNotFound` or `Unsure`."""
    exact = app.sync(app.survey(Flows(ids=(key,), limit=1)))
    if exact:
        return exact[0]
    if len(key) < SHORTEST_PREFIX:
        raise FlowNotFound(
            f"No flow {clean(key)!r} is known here; the beginning of an id will do from {SHORTEST_PREFIX} characters on.",
            flow_id=key,
        )
    found = [one for one in newest(app, None, FARTHEST) if one.id.startswith(key)]
    if not found:
        raise FlowNotFound(
            f"No flow among the newest {FARTHEST:,} has an id that begins {clean(key)!r}: it was never sent, or was forgotten.",
            flow_id=key,
        )
    if len(found) > 1:
        some = ", ".join(clean(one.id) for one in found[:5])
        raise Unsure(
            f"{clean(key)} is the beginning of several ids, such as {some}. Give more of the one you mean."
        )
    return found[0]


def newest(app: App, state: FlowState | None, limit: int) -> Iterator[FlowRecord]:
    """Flows, the newest first. Those that began in the same microsecond as the last of a page are asked for once more, and told once."""
    before: Instant | None = None
    seen: set[str] = set()
    while limit > 0:
        page = app.sync(
            app.survey(Flows(state=state, before=before, limit=min(limit + len(seen), LONGEST_SURVEY)))
        )
        fresh = [one for one in page if one.id not in seen]
        yield from fresh[:limit]
        limit -= len(fresh)
        if not fresh:
            return
        before = page[-1].created + 1
        seen = {one.id for one in page if one.created == page[-1].created}


def steps_of(app: App, flow: str) -> list[StepRecord]:
    """All steps of a flow, in the order in which they were added."""
    found: list[StepRecord] = []
    about = Steps(flow=flow, limit=STEPS_AT_A_TIME)
    while page := app.sync(app.survey(about)):
        found += map(_lightly, page)
        about = msgspec.structs.replace(about, beyond=page[-1].id)
    return found


def _lightly(step: StepRecord) -> StepRecord:
    """Without its traceback, which its own story has: of a hundred thousand they would not be held."""
    error = step.error
    return (
        step
        if error is None
        else msgspec.structs.replace(step, error=msgspec.structs.replace(error, traceback=""))
    )


# -- showing


def show_list(url: str | None, state: str | None, limit: int, watch: str | None, *, as_json: bool) -> None:
    """Print flows, newest first."""
    with opened(url) as app:
        repeated(
            watch,
            partial(_look, app, None if state is None else FlowState(state), limit, watch, as_json=as_json),
        )


def _look(app: App, state: FlowState | None, limit: int, watch: str | None, *, as_json: bool) -> None:
    found = list(newest(app, state, limit))
    if as_json:
        (document if watch is None else json_line)([described(one) for one in found])
        return
    now = SystemClock().now()
    table(COLUMNS, [_row(one, now) for one in found])


def _row(one: FlowRecord, now: Instant) -> list[str]:
    steps = one.steps
    return [
        one.id, one.state.value, f"{sum(steps.values()):,}", f"{steps.get(State.SUCCEEDED, 0):,}", f"{steps.get(State.RUNNING, 0):,}",
        f"{sum(steps.get(state, 0) for state in _FAILED):,}", span(max(0, now - one.created)),
        "" if one.finished is None else span(one.finished - one.created),
    ]  # fmt: skip


def described(one: FlowRecord) -> dict[str, Any]:  # any JSON
    """A flow as a JSON document."""
    return {
        "id": one.id, "state": one.state.value, "created": timestamp(one.created), "finished": timestamp(one.finished),
        "states": {state.value: one.steps.get(state, 0) for state in State},
    }  # fmt: skip


def show_one(url: str | None, key: str, watch: str | None, *, form: str, every: bool) -> None:
    """Print one flow."""
    with opened(url) as app:
        found = find_flow(app, key).id
        repeated(watch, partial(_draw, app, found, watch, form=form, every=every))


def _draw(app: App, key: str, watch: str | None, *, form: str, every: bool) -> None:
    record, steps = find_flow(app, key), steps_of(app, key)
    levels = levels_of(steps)
    match form:
        case "json":
            whole = {**described(record), "steps": [_step(step, levels[step.id]) for step in steps]}
            (document if watch is None else json_line)(whole)
        case "mermaid":
            say(diagram(steps, levels))
        case _:
            _say_head(record)
            text(steps, levels, SystemClock().now(), every=every)


def _say_head(record: FlowRecord) -> None:
    say(f"{clean(record.id)}  {record.state.value}")
    say(f"  steps     {sum(record.steps.values()):,}: {told(record.steps)}")
    say(f"  created   {moment(record.created)}")
    if record.finished is not None:
        say(f"  finished  {moment(record.finished)}, took {span(record.finished - record.created)}")
    say()


def told(numbers: dict[State, int] | Counter[State]) -> str:
    """How many are in which state, in words."""
    return ", ".join(f"{state.value} {numbers[state]:,}" for state in State if numbers.get(state))


def _step(step: StepRecord, level: int) -> dict[str, Any]:  # any JSON
    return {
        "id": step.id, "name": step.name, "task": step.task, "queue": step.queue, "state": step.state.value, "reason": step.reason,
        "role": step.role.value, "when": step.when.value, "level": level, "after": step.after, "open": step.open, "failed": step.failed,
        "skipped": step.skipped, "attempts": step.attempts, "error": step.error, "started": timestamp(step.started),
        "finished": timestamp(step.finished),
    }  # fmt: skip


# -- touching


def touch(app: App, verb: Verb, ids: Sequence[str], manner: Manner) -> Exit:
    """Do ``verb`` to flows."""
    fit: list[FlowRecord] = []
    unchanged: list[dict[str, str]] = []
    for key in ids:
        try:
            record = find_flow(app, key)
        except FlowNotFound:
            unchanged.append({"id": key, "why": "no such flow is known here"})
            continue
        if (why := _why_not(verb, record)) is None:
            fit.append(record)
        else:
            unchanged.append({"id": record.id, "why": why})
    numbers = [_number(verb, record) for record in fit]
    bounded(verb.past, sum(numbers), manner, "step")
    if manner.dry_run:
        _show(verb, fit, numbers, manner, unchanged)
        return Exit.FAILED if unchanged else Exit.OK
    if verb.whole and fit:
        asked(
            verb.word,
            verb.past,
            counted(len(fit), "flow"),
            [_words(*one) for one in zip(fit, numbers, strict=True)],
            manner,
        )
    done = Steered()
    for record in fit:
        done += _carry_out(app, verb, record, manner, unchanged)
    if manner.as_json:
        extra = {"asked_to_stop": done.asked} if isinstance(verb.command, CancelNow) else {}
        document({verb.past: done.changed, **extra, "skipped": done.skipped, "unchanged": unchanged})
    for one in unchanged:
        note(f"forebay: {clean(one['id'])} was not {verb.past}: {one['why']}.")
    return Exit.FAILED if unchanged else Exit.OK


def _carry_out(
    app: App, verb: Verb, record: FlowRecord, manner: Manner, unchanged: list[dict[str, str]]
) -> Steered:
    which = Selector(flow=record.id) if verb.whole else Selector(flow=record.id, states=verb.can)
    done = app.sync(app.steer(which, verb.command, by=actor()))
    if not done.touched:
        why = next(iter(done.skipped), None)
        unchanged.append(
            {
                "id": record.id,
                "why": "there is nothing left to do" if why is None else f"it {why_skipped(why)}",
            }
        )
    elif not manner.as_json:
        stop = (
            f", asked {done.asked:,} that {'runs' if done.asked == 1 else 'run'} to stop"
            if done.asked
            else ""
        )
        say(f"{verb.past} {clean(record.id)}: {counted(done.changed, 'step')}{stop}")
    return done


def _why_not(verb: Verb, record: FlowRecord) -> str | None:
    if verb.whole:
        return "it runs: cancel it first" if record.state is FlowState.RUNNING else None
    if _number(verb, record):
        return None
    return (
        f"it is {record.state.value}"
        if record.state is not FlowState.RUNNING
        else f"no step of it can be {verb.past}"
    )


def _number(verb: Verb, record: FlowRecord) -> int:
    """How many steps it may touch: of those that are cancelled, some open with others."""
    return sum(number for state, number in record.steps.items() if verb.whole or state in verb.can)


def _show(
    verb: Verb, fit: list[FlowRecord], numbers: list[int], manner: Manner, unchanged: list[dict[str, str]]
) -> None:
    if manner.as_json:
        ids = [record.id for record in fit[:PAGE]]
        document(
            {
                "would": verb.word,
                "flows": len(fit),
                "steps": sum(numbers),
                "examples": ids,
                "unchanged": unchanged,
            }
        )
        return
    say(f"would {verb.word} {counted(len(fit), 'flow')}")
    for record, number in zip(fit, numbers, strict=True):
        say(f"  {_words(record, number)}")
    for one in unchanged:
        note(f"forebay: {clean(one['id'])} would not be {verb.past}: {one['why']}.")


def _words(record: FlowRecord, number: int) -> str:
    return f"{clean(record.id)}  {record.state.value}  {counted(number, 'step')}"
