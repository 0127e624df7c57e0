"""Changing schedules: what code declares, and what is said while it works. Each change is made of what stands, and made again if that
changed meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from msgspec.structs import replace

from forebay.errors import EngineUnavailable, InvalidOption, ScheduleBusy, ScheduleNotFound
from forebay.features.schedules.book import Entry, course_note, log, read, standing_note
from forebay.model.message import EntryId
from forebay.model.note import MOST_REVISED, Revision
from forebay.model.query import UNKNOWN, Query, Selector
from forebay.model.schedule import How, Overlap, Run, Schedule, Standing, ahead_of, message_of
from forebay.model.state import FINISHED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from forebay.engine import Store
    from forebay.model.message import MessageId
    from forebay.model.query import Actor
    from forebay.model.when import Instant

Change: TypeAlias = Callable[[Entry | None], Standing | None]
"""What is to stand (None: nothing) once what stands is read. It may raise, and be called again."""
TRIES: Final = 20
"""How often a change is made anew when others change the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What the code of one App declares: ``plans`` by name, each with the package it is from. ``homes``: all packages of the App's code;
    what it has declared from one of these and declares no longer is gone.
    """

    app: str = ""
    plans: Mapping[str, tuple[str, Schedule]] = field(default_factory=dict)
    homes: frozenset[str] = frozenset()


async def declare(store: Store, declared: Declaration, now: Instant) -> None:
    """Bring the store up to date with the code of an App: new schedules and changed ones, and those that are gone."""
    known = await read(store, ())
    mine = {
        name
        for name, entry in known.items()
        if entry.standing.code is not None
        and entry.standing.app == declared.app
        and entry.standing.home in declared.homes
    }
    changes: dict[str, Change] = {
        name: partial(_declared, app=declared.app, home=home, code=code, now=now)
        for name, (home, code) in declared.plans.items()
    }
    changes |= dict.fromkeys(mine - declared.plans.keys(), _gone)
    await change(store, changes)


def _declared(entry: Entry | None, *, app: str, home: str, code: Schedule, now: Instant) -> Standing:
    """What stands once the code says ``code``."""
    if entry is None:
        return Standing(plan=code, app=app, home=home, code=code, since=now)
    was = entry.standing
    if was.app != app:
        log.warning("schedule.taken_over", extra={"schedule": entry.name, "from_app": was.app, "by_app": app})
    then = replace(was, app=app, home=home, code=code, gone=False)
    if not was.overridden and was.code is not None:
        then = replace(then, plan=code)
    return _begun(then, was, now)


def _gone(entry: Entry | None) -> Standing | None:
    if entry is None:
        return None
    log.warning("schedule.gone", extra={"schedule": entry.name})
    return replace(entry.standing, gone=True)


def _begun(then: Standing, was: Standing, now: Instant) -> Standing:
    """A change of when it ticks, or its return, begins now: what was missed by the old plan is not owed by the new one."""
    if was.gone != then.gone or _times(was.plan) != _times(then.plan):
        return replace(then, since=now, skip=None)
    return then


def _times(plan: Schedule) -> tuple[object, ...]:
    return plan.cron, plan.every, plan.zone, plan.start, plan.until


async def put(  # what is put where, when and by whom
    store: Store,
    name: str,
    plan: Callable[[Schedule | None], Schedule],
    app: str,
    now: Instant,
    *,
    by: Actor = UNKNOWN,
) -> None:
    """Put a schedule from a program, or override one of the code. ``plan`` is made of the one that stands, if one does."""

    def changed(entry: Entry | None) -> Standing:
        if entry is None:
            return Standing(plan=plan(None), app=app, since=now)
        return _begun(replace(entry.standing, plan=plan(entry.standing.plan)), entry.standing, now)

    await change(store, {name: changed}, by=by, what="put")


async def pause(store: Store, name: str, until: Instant | None, *, by: Actor = UNKNOWN) -> None:
    """No tick comes, until a moment or until it is resumed."""
    await _edit(store, name, lambda entry: replace(entry.standing, paused=True, until=until), by, "pause")


async def resume(store: Store, name: str, now: Instant, *, by: Actor = UNKNOWN) -> None:
    """Ticks come again; those of the pause are not owed."""

    def changed(entry: Entry) -> Standing:
        was = entry.standing
        since = now if was.holds(now) else was.since
        return replace(was, paused=False, until=None, since=since) if was.paused else was

    await _edit(store, name, changed, by, "resume")


async def skip(store: Store, name: str, now: Instant, *, by: Actor = UNKNOWN) -> Instant:
    """Leave out the next tick; returns which that is."""
    left_out: list[Instant] = []

    def changed(entry: Entry) -> Standing:
        tick = entry.standing.plan.after(ahead_of(entry.standing, entry.course, now))
        if tick is None:
            raise InvalidOption(f"Schedule {name!r} has no other tick to skip.")
        left_out[:] = [tick]
        return replace(entry.standing, skip=tick)

    await _edit(store, name, changed, by, "skip")
    return left_out[0]


async def reset(store: Store, name: str, now: Instant, *, by: Actor = UNKNOWN) -> None:
    """What the code says holds again."""

    def changed(entry: Entry) -> Standing:
        if entry.standing.code is None:
            raise InvalidOption(
                f"Schedule {name!r} was put from a program and has no code to go back to: put it anew, or remove it."
            )
        return _begun(replace(entry.standing, plan=entry.standing.code), entry.standing, now)

    await _edit(store, name, changed, by, "reset")


async def remove(store: Store, name: str, *, by: Actor = UNKNOWN) -> None:
    """Forget a schedule and how far it has come. What it has sent stays."""
    for _ in range(TRIES):
        entry = (await read(store, [name])).get(name)
        if entry is None:
            raise unknown(name)
        if entry.standing.code is not None and not entry.standing.gone:
            raise InvalidOption(
                f"Schedule {name!r} is in the code of App {entry.standing.app!r}, and would come back with its next worker: take it out "
                "of the code, or pause it."
            )
        whole = [
            Revision(standing_note(name, None, entry.version), what="remove"),
            Revision(course_note(name, None, entry.course_version)),
        ]
        answer, course = await store.note(whole, by=by)
        if answer.taken:
            if not course.taken:  # it was fired between the two calls; now nobody can any more
                await store.note([Revision(course_note(name, None, course.note.version))])
            return
    raise _contended(name)


async def run(store: Store, name: str, mark: str, now: Instant, *, by: Actor = UNKNOWN) -> MessageId:
    """Send its message now, whatever its ticks; returns the message's id."""
    for _ in range(TRIES):
        entry = (await read(store, [name])).get(name)
        if entry is None:
            raise unknown(name)
        plan, course, one = entry.standing.plan, entry.course, Run(now, now, How.BY_HAND, mark)
        if any(run.mark == mark for run in course.runs):
            return one.id(name)
        if plan.overlap is Overlap.SKIP and (latest := course.latest) is not None:
            await _check_over(store, name, latest.id(name))
        note = course_note(name, course.went(one), entry.course_version)
        given = standing_note(name, entry.standing, entry.version)
        (answer,) = await store.note(
            [Revision(note, (message_of(name, one, plan),), given, what="run")], by=by
        )
        if answer.taken:
            return one.id(name)
    raise _contended(name)


async def _check_over(store: Store, name: str, key: MessageId) -> None:
    page = await store.find(Query(which=Selector(ids=(EntryId(key),)), brief=True))
    if page.records and page.records[0].state not in FINISHED:
        raise ScheduleBusy(
            f"Schedule {name!r} does not overlap, and its last message {key} is {page.records[0].state}: wait for its end, or cancel it."
        )


async def _edit(store: Store, name: str, edit: Callable[[Entry], Standing], by: Actor, what: str) -> None:
    """Change one that must be there."""

    def changed(entry: Entry | None) -> Standing:
        if entry is None:
            raise unknown(name)
        return edit(entry)

    await change(store, {name: changed}, by=by, what=what)


async def change(
    store: Store,
    changes: Mapping[str, Change],
    *,
    by: Actor = UNKNOWN,
    what: str = "",
) -> None:
    """Change many, each made of what stands; again for those that somebody else has changed meanwhile."""
    left = dict(changes)
    for _ in range(TRIES):
        refused: dict[str, Change] = {}
        names = list(left)
        for start in range(0, len(names), MOST_REVISED):
            part = names[start : start + MOST_REVISED]
            known = await read(store, part)
            batch = [_revision(name, known.get(name), left[name], what) for name in part]
            for name, answer in zip(part, await store.note(batch, by=by), strict=True):
                if not answer.taken:
                    refused[name] = left[name]
        if not (left := refused):
            return
    raise _contended(next(iter(left)))


def _revision(name: str, entry: Entry | None, changed: Change, what: str) -> Revision:
    return Revision(standing_note(name, changed(entry), entry.version if entry else 0), what=what)


def unknown(name: str) -> ScheduleNotFound:
    """For a schedule that is not there."""
    return ScheduleNotFound(f"There is no schedule {name!r}: `forebay schedule list` shows those there are.")


def _contended(name: str) -> EngineUnavailable:
    return EngineUnavailable(f"Schedule {name!r} is being changed by others all the time: try again.")
