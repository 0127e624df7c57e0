"""Schedules as users write them: options, and what is done with schedules while they work."""

from __future__ import annotations

import difflib
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict, TypeVar, Unpack

import msgspec
from msgspec.structs import replace

from forebay.compose import check_options
from forebay.errors import InvalidArguments, InvalidOption, ScheduleNotFound, quoted
from forebay.features.schedules import keeping
from forebay.features.schedules.book import Entry, read
from forebay.features.schedules.keeping import Declaration
from forebay.handle import Handle
from forebay.model.amounts import check_count
from forebay.model.cron import cron as expression, zone_of
from forebay.model.message import EntryId, Message, MessageId
from forebay.model.names import check_new_name
from forebay.model.query import Actor, Query, Selector
from forebay.model.schedule import (
    CatchUp,
    Course,
    Overlap,
    Schedule,
    ScheduleRecord,
    ScheduleRun,
    Standing,
)
from forebay.model.when import SECOND, Duration, Instant, as_datetime, instant, micros, moment, resolve
from forebay.tasks import BoundTask, Partial, Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebay.client.client import Client
    from forebay.compose import Composer
    from forebay.engine import Store

E = TypeVar("E", bound=StrEnum)
LONGEST_PLAN: Final = 30_000
"""Bytes of one schedule: two, that in force and that of the code, have room in a note."""
MOST_NEXT: Final = 1_000
"""Ticks that are told of a schedule at most."""
_TIMES: Final = ("zone", "start", "until", "jitter", "catch_up", "overlap")


class ScheduleTimes(TypedDict, total=False):
    """What may be said of when a schedule ticks. Durations are seconds, text (``"20s"``) or timedeltas; moments are aware datetimes, or
    text of ISO 8601 with an offset (``"2030-01-01T00:00Z"``).

    ``zone``: by whose clocks a cron expression is meant, an IANA name; default UTC. ``start``, ``until``: the first and the last moment
    that may be a tick. ``jitter``: a tick comes up to so much later, the same for all workers. ``catch_up``: what becomes of ticks that no
    worker was there for: ``"one"`` (the default): the last of them is made up for; ``"skip"``: none, unless it is less than a minute late;
    ``"all"``: all, the last thousand at most. ``overlap``: what becomes of a tick while the message of the one before is not over:
    ``"allow"`` (the default): it is sent all the same; ``"skip"``: it is left out; ``"queue"``: it waits, and a hundred at most.
    """

    zone: str
    start: datetime | str | None
    until: datetime | str | None
    jitter: Duration
    catch_up: Literal["skip", "one", "all"]
    overlap: Literal["allow", "skip", "queue"]


class ScheduleOptions(ScheduleTimes, total=False):
    """What may be said of a schedule in code: of its times all the same, and its ``name``, if not that of its task."""

    name: str


class Schedules:
    """What ``app.schedules`` is: the schedules of the App's store, looked at and changed while they work.

    >>> await app.schedules.put("tenant-7-report", cron="0 6 * * mon", task=report.bind(tenant=7))  # doctest: +SKIP
    >>> await app.schedules.pause("tenant-7-report", until="2d")                                   # doctest: +SKIP

    All raise `Unsupported` on a bare bus, `ScheduleNotFound` for one that is not there, and what the engine raises. Cancelled, a
    change has either been made or not. ``by``: who is noted in the audit.
    """

    def __init__(self, client: Client, app: str, declaration: Callable[[], Declaration]) -> None:
        self._client, self._app, self._declaration = client, app, declaration

    async def list(self) -> tuple[ScheduleRecord, ...]:
        """All schedules by name, those of this App's code included that no worker has declared yet."""
        store = await self._store()
        known = await read(store, ())
        found = {name: self._record(entry) for name, entry in known.items()}
        for name in self._declaration().plans.keys() - known.keys():
            found[name] = self._new(name)
        return tuple(found[name] for name in sorted(found))

    async def get(self, name: str) -> ScheduleRecord:
        """One schedule."""
        entry = (await read(await self._store(), [name])).get(name)
        if entry is not None:
            return self._record(entry)
        if name in self._declaration().plans:
            return self._new(name)
        raise keeping.unknown(name)

    async def put(
        self,
        name: str,
        *,
        task: BoundTask[Any] | Task[..., Any, ..., Any] | None = None,
        cron: str | None = None,
        every: Duration | None = None,
        by: Actor | None = None,
        **times: Unpack[ScheduleTimes],
    ) -> ScheduleRecord:
        """Put a schedule that is kept in the store, or change one; one of the code is then *overridden* until `reset`.

        Without ``task`` there must be one of that name, and what is not said stays as it is. Putting what is there already changes nothing.
        """
        check_options(times, _TIMES, "schedules.put()")
        check_new_name(name, "schedule")
        message = None if task is None else template(name, task, self._client.ground.composer)

        def plan(stands: Schedule | None) -> Schedule:
            if message is not None:
                return planned(name, message, cron, every, times)
            if stands is None:
                raise ScheduleNotFound(
                    f"There is no schedule {name!r} yet: say what it sends, with task=....bind(...), or --task on the command line."
                )
            return changed(name, stands, cron, every, times)

        store = await self._declared(name)
        await keeping.put(store, name, plan, self._app, self._now(), by=self._actor(by))
        return await self.get(name)

    async def pause(
        self, name: str, *, until: Duration | datetime | None = None, by: Actor | None = None
    ) -> None:
        """No tick comes until a moment, or for so long, or until `resume`. What was sent goes on, and nothing is made up for."""
        now = self._now()
        end = None if until is None else resolve(moment(until, "until"), now)
        if end is not None and end <= now:
            raise InvalidOption(
                f"Schedule {name!r}: until={quoted(until)} is no later than now: nothing would be paused."
            )
        await keeping.pause(await self._declared(name), name, end, by=self._actor(by))

    async def resume(self, name: str, *, by: Actor | None = None) -> None:
        """Ticks come again."""
        await keeping.resume(await self._declared(name), name, self._now(), by=self._actor(by))

    async def skip(self, name: str, *, by: Actor | None = None) -> datetime:
        """Leave out the next tick, and say which that is."""
        store = await self._declared(name)
        return as_datetime(await keeping.skip(store, name, self._now(), by=self._actor(by)))

    async def run(self, name: str, *, by: Actor | None = None) -> Handle[Any]:
        """Send its message now, beside its ticks, paused or not. Raises `ScheduleBusy` if it does not overlap and the last is not over."""
        store, mark = await self._declared(name), self._client.ground.composer.ids.message()
        key = await keeping.run(store, name, mark, self._now(), by=self._actor(by))
        return Handle(EntryId(key), Any, self._client)

    async def reset(self, name: str, *, by: Actor | None = None) -> None:
        """Let what the code says hold again."""
        await keeping.reset(await self._declared(name), name, self._now(), by=self._actor(by))

    async def remove(self, name: str, *, by: Actor | None = None) -> None:
        """Forget one that was put from a program, or is gone from its code. What it has sent stays."""
        await keeping.remove(await self._store(), name, by=self._actor(by))

    async def next(self, name: str, number: int = 5) -> tuple[datetime, ...]:
        """When its next ticks come, 1 to 1,000 of them. Raises `InvalidOption` for another number."""
        check_count(number, "number", 1, MOST_NEXT)
        return tuple(map(as_datetime, (await self.get(name)).next(number)))

    async def history(self, name: str) -> tuple[ScheduleRun, ...]:
        """Its last twenty runs, the newest first."""
        record = await self.get(name)
        ids = {run: run.id(name) for run in record.course.runs if run.sent}
        store = await self._store()
        which = Selector(ids=tuple(map(EntryId, ids.values())))
        page = await store.find(Query(which=which, size=max(len(ids), 1), brief=True)) if ids else None
        known = {str(found.id): found for found in (page.records if page else ())}
        return tuple(
            ScheduleRun(
                tick=run.tick,
                at=run.at,
                how=run.how,
                id=ids.get(run),
                record=known.get(ids.get(run, MessageId(""))),
            )
            for run in reversed(record.course.runs)
        )

    # -- what the above stands on

    async def _store(self) -> Store:
        return (await self._client.link()).store

    async def _declared(self, name: str) -> Store:
        """The store, in which a schedule of this App's code stands, whether or not a worker has declared it."""
        store, plans = await self._store(), self._declaration().plans
        if name in plans and name not in await read(store, [name]):
            one = Declaration(app=self._app, plans={name: plans[name]})
            await keeping.declare(store, one, self._now())
        return store

    def _record(self, entry: Entry) -> ScheduleRecord:
        return ScheduleRecord(name=entry.name, standing=entry.standing, course=entry.course, now=self._now())

    def _new(self, name: str) -> ScheduleRecord:
        home, code = self._declaration().plans[name]
        standing = Standing(plan=code, app=self._app, home=home, code=code)
        return ScheduleRecord(name=name, standing=standing, course=Course(), now=self._now(), new=True)

    def _now(self) -> Instant:
        return self._client.ground.clock.now()

    def _actor(self, by: Actor | None) -> Actor:
        return by or Actor(name=self._app, via="app")


def home_of(call: object, otherwise: str) -> str:
    """The package that a scheduled task's code is in; of one that was only named, the other."""
    task = call.task if isinstance(call, BoundTask) else call
    module = task.function.__module__ if isinstance(task, Task) else ""
    root = module.partition(".")[0]
    return otherwise if root in ("", __name__.partition(".")[0]) else root


def template(name: str, call: BoundTask[Any] | Task[..., Any, ..., Any], composer: Composer) -> Message:
    """The message that a schedule sends, without an id. Raises `InvalidOption` for what cannot be one."""
    given: object = call
    try:
        bound = given.bind() if isinstance(given, Task) else given
        if isinstance(bound, Partial):
            raise InvalidArguments(f"{bound.lacks!r} is missing")
    except InvalidArguments as error:
        raise InvalidOption(
            f"Schedule {name!r}: its task needs arguments ({error}): give task.bind(...) with all of them."
        ) from error
    if not isinstance(bound, BoundTask):
        raise InvalidOption(
            f"Schedule {name!r} sends a task, or a task with its arguments (task.bind(...)), not {quoted(call)}: "
            "@app.schedule(...) stands above @app.task()."
        )
    if bound.draft.id is not None:
        raise InvalidOption(
            f"Schedule {name!r}: its messages have ids of their own, so leave out id={bound.draft.id!r}."
        )
    return replace(bound.message(composer), id=MessageId(""))


def planned(
    name: str, task: Message, cron: str | None, every: Duration | None, times: ScheduleTimes
) -> Schedule:
    """A schedule from what was said of it. Raises `InvalidOption`."""
    return changed(name, Schedule(task=task), cron, every, times)


def changed(
    name: str, plan: Schedule, cron: str | None, every: Duration | None, times: ScheduleTimes
) -> Schedule:
    """A schedule with what was said of it; the rest stays. Raises `InvalidOption`."""
    if cron is not None and every is not None:
        raise InvalidOption(f"Schedule {name!r} goes by cron= or by every=, not by both.")
    if cron is not None:
        expression(cron)
        plan = replace(plan, cron=cron, every=None)
    if every is not None:
        interval = micros(every, "every")
        if interval < SECOND:
            raise InvalidOption(
                f"Schedule {name!r}: every={quoted(every)} is too often: a second is the least."
            )
        plan = replace(plan, cron=None, every=interval, zone="UTC")
    if plan.cron is None and plan.every is None:
        raise InvalidOption(f"Schedule {name!r}: say when, with cron='*/5 * * * *' or every='90s'.")
    plan = replace(plan, **{option: _READ[option](value, option) for option, value in times.items()})
    if plan.every is not None and "zone" in times:
        raise InvalidOption(
            f"Schedule {name!r}: zone= goes with cron=; every= counts time, wherever that is."
        )
    if plan.start is not None and plan.until is not None and plan.until < plan.start:
        raise InvalidOption(f"Schedule {name!r}: until= lies before start=.")
    if plan.overlap is Overlap.SKIP and plan.task.unique is not None:
        raise InvalidOption(
            f"Schedule {name!r}: overlap='skip' gives its messages a unique key of their own: leave out unique=, or the overlap."
        )
    if (size := len(msgspec.json.encode(plan))) > LONGEST_PLAN:
        raise InvalidOption(
            f"Schedule {name!r}: with its arguments and headers it takes {size:,} bytes, and {LONGEST_PLAN:,} are the most: "
            "send a reference to what is large."
        )
    return plan


def _zone(value: Any, option: str) -> str:
    if not isinstance(value, str):
        raise InvalidOption(f"{option} is the name of a zone, such as 'Europe/Berlin', not {quoted(value)}.")
    zone_of(value)
    return value


def _moment(value: Any, option: str) -> Instant | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise InvalidOption(
                f"{option} is not a moment: {quoted(value)}. Write a datetime with a time zone, or text such as '2030-01-01T00:00Z'."
            ) from None
    return None if value is None else instant(value, option)


def _one_of(kind: type[E]) -> Callable[[Any, str], E]:
    def read_it(value: Any, option: str) -> E:
        if value in list(kind):
            return kind(value)
        near = difflib.get_close_matches(str(value), list(kind), n=1, cutoff=0.5)
        hint = f"did you mean {str(near[0])!r}?" if near else f"it is one of {', '.join(kind)}."
        raise InvalidOption(f"{option}={quoted(value)} is not possible: {hint}")

    return read_it


_READ: Final[dict[str, Callable[[Any, str], Any]]] = {
    "zone": _zone,
    "start": _moment,
    "until": _moment,
    "jitter": micros,
    "catch_up": _one_of(CatchUp),
    "overlap": _one_of(Overlap),
}
