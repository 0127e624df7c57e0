"""Finding the messages a person means, showing what a command would touch, asking, and doing it."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

import click
import msgspec

from forebay.cli.actor import actor
from forebay.cli.exits import Exit
from forebay.cli.output import clean, counted, document, note, say
from forebay.errors import ConfigError, ForebayError, TaskNotFound
from forebay.model.message import EntryId
from forebay.model.query import (
    ASKED_BEFORE,
    FLOW_RUNS,
    KEY_TAKEN,
    NOT_FOUND,
    PART_OF_FLOW,
    CancelNow,
    Delete,
    Query,
    Redrive,
    Selector,
    Steered,
    changeable,
)
from forebay.model.state import WAITING, State
from forebay.model.verdict import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from forebay.app import App
    from forebay.model.query import Change, TaskRecord

SHORTEST_PREFIX: Final = 8
FARTHEST: Final = 10_000
"""The newest messages among which the beginning of an id is looked for, and the most that are counted one by one."""
PAGE: Final = 200
PORTION: Final = 1_000
"""Messages that one step of a command on many touches."""
SHOWN: Final = 5
WHOLE_ID: Final = 36


class Unsure(ConfigError):
    """What was asked for is not said clearly enough to be done."""


class TooMany(ForebayError):
    """More messages are concerned than the command was allowed to touch."""


class Declined(ForebayError):
    """The person who was asked said no."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """Something done to messages. ``can``: the states it changes. ``asks``: even where a message is named by its id."""

    word: str
    past: str
    command: Change
    can: frozenset[State]
    asks: bool = False


RETRY: Final = Verb(word="retry", past="retried", command=Redrive(), can=changeable(Redrive()))
CANCEL: Final = Verb(word="cancel", past="cancelled", command=CancelNow(), can=changeable(CancelNow()))
DELETE: Final = Verb(word="delete", past="deleted", command=Delete(), can=changeable(Delete()), asks=True)
DISCARD: Final = Verb(
    word="discard", past="discarded", command=Delete(), can=frozenset({State.DEAD}), asks=True
)
REVIVE: Final = Verb(word="retry", past="retried", command=Redrive(), can=frozenset({State.DEAD}))
PURGE: Final = Verb(word="delete", past="deleted", command=Delete(), can=WAITING, asks=True)
OF: Final = {
    "task retry": RETRY,
    "task cancel": CANCEL,
    "task delete": DELETE,
    "dead retry": REVIVE,
    "dead discard": DISCARD,
}
"""What the commands do that change messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a command is carried out: without asking, only in appearance, not on more than ``most``, with a document for an answer."""

    yes: bool = False
    dry_run: bool = False
    most: int | None = None
    as_json: bool = False


@dataclass(frozen=True, slots=True)
class Sight:
    """What a command would touch: in words, how many, and the first of them."""

    total: str
    number: int
    some: Iterable[TaskRecord]


# -- finding


def find_one(app: App, key: str) -> TaskRecord:
    """The message with this id, or with the only id that begins so.

    An event has a copy for each group, with ids of their own: its own id is good enough where there is one copy.
    Raises `TaskNotFound` or `Unsure`.
    """
    exact = app.sync(app.find(Query(which=Selector(ids=(EntryId(key),)), size=1))).records
    if exact:
        return exact[0]
    if len(key) < SHORTEST_PREFIX:
        raise TaskNotFound(
            f"No task {clean(key)!r} is known here; the beginning of an id will do from {SHORTEST_PREFIX} characters on.",
            task_id=key,
        )
    found = _copies(app, key) if len(key) >= WHOLE_ID else _beginning_with(app, key)
    if not found:
        raise TaskNotFound(_absent(key), task_id=key)
    if len(found) > 1:
        some = ", ".join(clean(record.id) for record in found[:SHOWN])
        more = f" and {counted(len(found) - SHOWN, 'other')}" if len(found) > SHOWN else ""
        raise Unsure(
            f"{clean(key)} is the beginning of several ids: {some}{more}. Give more of the one you mean."
        )
    return found[0]


def _copies(app: App, key: str) -> list[TaskRecord]:
    """An event's copies: one in each queue that is bound to a topic."""
    queues = [known.queue for known in app.sync(app.count()).queues if known.pattern is not None]
    ids = tuple(EntryId(f"{key}@{queue}") for queue in queues)
    return list(app.sync(app.find(Query(which=Selector(ids=ids), size=PAGE))).records) if ids else []


def _beginning_with(app: App, key: str) -> list[TaskRecord]:
    return [record for record in newest(app, Selector(), FARTHEST) if record.id.startswith(key)]


def _absent(key: str) -> str:
    if len(key) >= WHOLE_ID:
        return f"No task {clean(key)} is known here: it was never sent, or its history was pruned."
    return f"No task among the newest {FARTHEST:,} has an id that begins {clean(key)!r}: give the whole id to look farther."


def newest(
    app: App, which: Selector, limit: int, cursor: str | None = None, *, oldest_first: bool = False
) -> Iterator[TaskRecord]:
    """Up to ``limit`` records, page by page."""
    while limit > 0:
        page = app.sync(
            app.find(Query(which=which, cursor=cursor, size=min(limit, PAGE), oldest_first=oldest_first))
        )
        yield from page.records
        limit -= len(page.records)
        cursor = page.next
        if cursor is None:
            return


# -- touching


def touch(app: App, verb: Verb, ids: Sequence[str], which: Selector, manner: Manner) -> Exit:
    """Do ``verb`` to the messages named by id or, with no ids, to all that ``which`` selects."""
    if ids:
        return _touch_named(app, verb, ids, manner)
    return _touch_selected(app, verb, which, manner)


def _touch_named(app: App, verb: Verb, ids: Sequence[str], manner: Manner) -> Exit:
    fit: list[TaskRecord] = []
    unchanged: list[dict[str, str]] = []
    for key in ids:
        try:
            record = find_one(app, key)
        except TaskNotFound:
            unchanged.append({"id": key, "why": "no such task is known here"})
            continue
        if record.state in verb.can:
            fit.append(record)
        else:
            unchanged.append({"id": record.id, "why": f"it is {record.state.value}"})
    bounded(verb.past, len(fit), manner)
    if manner.dry_run:
        _show(verb, Sight(counted(len(fit), "task"), len(fit), fit), manner, unchanged)
        return Exit.FAILED if unchanged else Exit.OK
    if verb.asks and fit:
        _ask(verb, Sight(counted(len(fit), "task"), len(fit), fit), manner)
    total, by = Steered(), actor()
    for record in fit:
        done = app.sync(app.steer(Selector(ids=(record.id,)), verb.command, by=by))
        total += done
        unchanged += [{"id": record.id, "why": f"it {why_skipped(why)}"} for why in done.skipped]
        if done.touched and not manner.as_json:
            say(f"asked {clean(record.id)} to stop" if done.asked else f"{verb.past} {clean(record.id)}")
    if manner.as_json:
        document({**_numbers_of(verb, total), "unchanged": unchanged})
    for one in unchanged:
        note(f"forebay: {clean(one['id'])} was not {verb.past}: {one['why']}.")
    return Exit.FAILED if unchanged else Exit.OK


def _touch_selected(app: App, verb: Verb, which: Selector, manner: Manner) -> Exit:
    wanted = _narrowed(verb, which)
    states, more = _numbers(app, wanted)
    number = sum(states.values())
    if number == 0:
        note(f"forebay: There is nothing to {verb.word}{_described(which)}.")
        if manner.as_json:
            document({**_numbers_of(verb, Steered()), "skipped": {}})
        return Exit.FAILED
    if wanted.limit is not None:
        number, more = min(number, wanted.limit), more and number < wanted.limit
    if not more:
        # What is sent while we ask, or while we work, was not meant; and a busy sender must not keep us at it for ever.
        wanted = msgspec.structs.replace(wanted, limit=number)
    sight = Sight(
        _total(number, states, more=more), number, newest(app, wanted, min(SHOWN, number), oldest_first=True)
    )
    bounded(verb.past, number, manner)
    if manner.dry_run:
        _show(verb, sight, manner, [])
        return Exit.OK
    _ask(verb, sight, manner)
    done = _carry_out(app, verb, wanted, None if more else number)
    if manner.as_json:
        document({**_numbers_of(verb, done), "skipped": done.skipped})
        return Exit.OK
    asked = (
        f", asked {done.asked:,} that {'runs' if done.asked == 1 else 'run'} to stop" if done.asked else ""
    )
    say(f"{verb.past} {counted(done.changed, 'task')}{asked}")
    for why, skipped in done.skipped.items():
        note(
            f"forebay: {counted(skipped, 'task')} skipped: {'it' if skipped == 1 else 'each'} {why_skipped(why)}."
        )
    return Exit.OK


def _numbers_of(verb: Verb, done: Steered) -> dict[str, int]:
    """What was done, in a document."""
    asked = {"asked_to_stop": done.asked} if isinstance(verb.command, CancelNow) else {}
    return {verb.past: done.changed, **asked}


def why_skipped(reason: str) -> str:
    """Why a message was skipped, after "it"."""
    known = {
        NOT_FOUND: "is gone",
        KEY_TAKEN: "has a unique key that another task holds now",
        ASKED_BEFORE: "runs, and had been asked to stop before",
        PART_OF_FLOW: "is a step of a flow, which is deleted as a whole: forebay flow delete",
        FLOW_RUNS: "runs: cancel it first",
        Reason.PARENT_FAILED: "was cancelled as a step before it had failed, and opens with that one",
        Reason.SKIPPED: "is not needed in its flow",
    }
    return known.get(reason, f"is {reason} now")


def _carry_out(app: App, verb: Verb, wanted: Selector, number: int | None) -> Steered:
    """In portions, with a bar at a terminal: whoever interrupts it is told how far it came, and may say it again for the rest."""
    done = Steered()
    with ExitStack() as stack:
        bar = None
        if sys.stderr.isatty() and (number is None or number > PORTION):
            bar = stack.enter_context(
                click.progressbar(length=number or FARTHEST, file=sys.stderr, label=verb.past)
            )
        by = actor()
        try:
            while number is None or done.touched < number:
                room = PORTION if number is None else min(PORTION, number - done.touched)
                part = msgspec.structs.replace(wanted, limit=room)
                step = app.sync(app.steer(part, verb.command, by=by))
                # A step begins at the oldest: what the one before has skipped it meets again.
                done = msgspec.structs.replace(done, skipped={}) + step
                if not step.touched:
                    break
                if bar is not None:
                    bar.update(step.touched)
        except KeyboardInterrupt:
            of = "" if number is None else f" of {number:,}"
            note(
                f"\nforebay: {verb.past} {done.touched:,}{of} when it was interrupted; the same command does the rest."
            )
            raise
    return done


def bounded(past: str, number: int, manner: Manner, noun: str = "task") -> None:
    """Raise `TooMany` for more than was allowed."""
    if manner.most is not None and number > manner.most:
        raise TooMany(
            f"Nothing was {past}: that would be {counted(number, noun)}, and --max allows {manner.most:,}."
        )


def _show(verb: Verb, sight: Sight, manner: Manner, unchanged: Sequence[dict[str, str]]) -> None:
    """What would be touched, as the answer."""
    some = list(islice(sight.some, SHOWN))
    if manner.as_json:
        ids = [record.id for record in some]
        document({"would": verb.word, "tasks": sight.number, "examples": ids, "unchanged": unchanged})
        return
    say(f"would {verb.word} {sight.total}")
    for record in some:
        say(f"  {_line(record)}")
    if sight.number > SHOWN:
        say(f"  ... and {sight.number - SHOWN:,} more")
    for one in unchanged:
        note(f"forebay: {clean(one['id'])} would not be {verb.past}: {one['why']}.")


def _narrowed(verb: Verb, which: Selector) -> Selector:
    """The selection, kept to states the verb can change. Raises `Unsure` for states it cannot."""
    for state in sorted(which.states - verb.can):
        raise Unsure(
            f"What is {state.value} cannot be {verb.past}; choose among {', '.join(sorted(verb.can))}."
        )
    return which if which.states else msgspec.structs.replace(which, states=verb.can)


def _numbers(app: App, which: Selector) -> tuple[dict[State, int], bool]:
    """How many there are by state, and whether there are more than were counted."""
    numbers: dict[State, int] = {}
    if which == Selector(queue=which.queue, states=which.states, limit=which.limit):
        for known in app.sync(app.count()).queues:
            if which.queue in (None, known.queue):
                for state, n in known.states.items():
                    if n and state in which.states:
                        numbers[state] = numbers.get(state, 0) + n
        return numbers, False
    for record in newest(app, which, FARTHEST):
        numbers[record.state] = numbers.get(record.state, 0) + 1
    return numbers, sum(numbers.values()) >= FARTHEST


def _total(number: int, states: dict[State, int], *, more: bool) -> str:
    total = f"{'at least ' if more else ''}{counted(number, 'task')}"
    if len(states) == 1:
        return f"{total} ({next(iter(states)).value})"
    if number < sum(states.values()):
        return total
    return f"{total} ({', '.join(f'{state.value} {n:,}' for state, n in sorted(states.items()))})"


def _described(which: Selector) -> str:
    """What was looked for, as the person said it."""
    parts = [""]
    parts += [f"in queue {which.queue}"] if which.queue is not None else []
    parts += [f"named {which.name}"] if which.name is not None else []
    parts += [f"of flow {which.flow}"] if which.flow is not None else []
    parts += [f"that is {' or '.join(sorted(which.states))}"] if which.states else []
    return " ".join(parts)


def _ask(verb: Verb, sight: Sight, manner: Manner) -> None:
    lines = [] if manner.yes else [_line(record) for record in islice(sight.some, SHOWN)]
    asked(verb.word, verb.past, sight.total, lines, manner, sight.number)


def asked(  # what is asked, and how
    word: str, past: str, total: str, lines: Sequence[str], manner: Manner, number: int | None = None
) -> None:
    """Show what would be touched, the first of ``number``; return only if that is wanted. Raises `Declined`, and `Unsure` where nobody
    can be asked.
    """
    if manner.yes:
        return
    note(f"This would {word} {total}:")
    for line in lines[:SHOWN]:
        note(f"  {line}")
    if (more := (len(lines) if number is None else number) - SHOWN) > 0:
        note(f"  ... and {more:,} more")
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Unsure(
            f"Nothing was {past}: there is nobody to ask here. Say --yes to {word} without being asked."
        )
    if not click.confirm("Go on?", default=False, err=True):
        raise Declined(f"Nothing was {past}.")


def _line(record: TaskRecord) -> str:
    return f"{clean(record.id)}  {clean(record.message.name)}  {clean(record.queue)}  {record.state.value}"
