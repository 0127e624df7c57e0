"""One loop's face of a SQLite file: every call becomes a job of the store's database thread, or of the one that reads."""

from __future__ import annotations

import asyncio
import os
from collections import Counter, deque
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final, cast

from forebay.engine import NOTHING, R, check_sources
from forebay.errors import NotOpen
from forebay.model.note import Notes, check_revisions
from forebay.model.query import UNKNOWN, Page, Steered
from forebay.model.rule import AHEAD
from forebay.model.survey import Flows, Groups, Parents, Steps
from forebay.model.when import SECOND
from forebay.stores.asked import check_walk, groups, page_size, read_cursor
from forebay.stores.face import Claimed, Face, Told, refuse_transaction, unless_cancelled
from forebay.stores.sqlite import (
    admission,
    extend,
    flow_sight,
    lines,
    notes,
    publish,
    queries,
    settle,
    steer,
    steps as durable,
    survey,
    upkeep,
)
from forebay.stores.sqlite.audit import Trail
from forebay.stores.sqlite.claim import Claim, put_back
from forebay.stores.sqlite.connection import connect, connect_to_look
from forebay.stores.sqlite.listener import Listener, WakeDirectory
from forebay.stores.sqlite.lock import FileLock, patience
from forebay.stores.sqlite.place import check_place, check_there
from forebay.stores.sqlite.reader import Reader
from forebay.stores.sqlite.rules import rules_text
from forebay.stores.sqlite.session import Session, batch as encoded
from forebay.stores.sqlite.shared import TRAITS
from forebay.stores.sqlite.thread import DatabaseThread
from forebay.stores.sqlite.translate import translate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from forebay.engine import (
        Ask,
        Delivery,
        Notice,
        Published,
        Settled,
        Settlement,
        Source,
        Spent,
        Swept,
        Topic,
        Traits,
    )
    from forebay.model.message import EntryId, Message
    from forebay.model.note import Revised, Revision
    from forebay.model.query import Actor, Change, Counts, Progress, Query, Selector, TaskRecord
    from forebay.model.rule import RateLimit
    from forebay.model.saved import SavedStep
    from forebay.model.survey import Group, Presence, Survey
    from forebay.model.when import Micros
    from forebay.stores.signals import Wake
    from forebay.stores.sqlite.connection import Connection
    from forebay.stores.sqlite.shared import Shared
    from forebay.support.clock import Clock
    from forebay.support.ids import Token

FEW: Final = 100
"""So many messages, named by their ids, are looked up on the connection that works, as results are. It is done in microseconds there; to
wake a third thread for each made the way from a send to its handler a third longer.
"""
SMALL: Final = 16_384
"""Bytes of a body that may be written in the loop's own thread."""


@dataclass(frozen=True, slots=True)
class _Open:
    """What a store has while it is open."""

    thread: DatabaseThread
    reader: Reader
    lock: FileLock
    folder: WakeDirectory
    listener: Listener
    process: int


class SqliteStore(Face):
    """A `Store` in a SQLite file. Made by `SqliteEngine.connect`; opened by `declare`."""

    poll: ClassVar[Micros | None] = SECOND

    def __init__(self, shared: Shared, worker: str, clock: Clock) -> None:
        self._shared, self._worker, self._clock = shared, worker, clock
        self._signals = shared.signals
        self._open: _Open | None = None
        self._opening = asyncio.Lock()

    @property
    def traits(self) -> Traits:
        """What a SQLite store can do."""
        return TRAITS

    # -- life

    async def declare(self, sources: Sequence[Source]) -> None:
        """Open the file, and bind the queues of ``sources``."""
        check_sources(sources, self.traits)
        async with self._opening:
            if self._open is None:
                self._open = await self._start()
        last = {s.queue: s for s in sources}.values()
        rows = encoded(
            [
                (s.queue, s.pattern, s.group, s.limit, s.drops_expired, s.loose, rules_text(s.rules))
                for s in last
            ]
        )
        await self._thread().submit(
            look=lambda session: session.row("bound", {"batch": rows})[0] == len(last) or None,
            work=partial(admission.bind, batch=rows),
        )

    async def _start(self) -> _Open:
        shared, path = self._shared, os.fspath(self._shared.path)
        check_place(shared.path, create=shared.create, network=shared.network)
        patient = patience(shared.options.timing)
        with translate(path):
            lock = FileLock(f"{path}.lock", shared.gate, patient)

        def database(connect: Callable[[str, float], Connection]) -> DatabaseThread:
            def session() -> Session:
                return Session(connect(path, patient / 2), shared.sql, shared.options, shared.tallies)

            return DatabaseThread(path, lock, session, self._tell, self._clock.now, upkeep.go_on)

        def open_it(path: str, patience: float) -> Connection:
            # Under the lock, and so for the wait for it: what has gone since the first look is not begun anew.
            check_there(shared.path)
            try:
                conn = connect(path, patience, create=not lock.marked)
            except FileNotFoundError:
                check_there(shared.path)
                raise
            lock.mark()
            return conn

        def look(path: str, patience: float) -> Connection:
            thread.check_file()
            return connect_to_look(path, patience)

        thread = database(open_it)
        reader = Reader(partial(database, look))
        try:
            await thread.start()
            with translate(path):
                folder = WakeDirectory(shared.path.with_name(f"{shared.path.name}.wake"))
        except BaseException:
            await thread.close()
            lock.close()
            raise
        listener = Listener(folder, self._signals, shared.sockets)
        return _Open(thread, reader, lock, folder, listener, os.getpid())

    async def close(self) -> None:
        """Finish what is under way and let go of the file, the thread and the sockets. Idempotent."""
        async with self._opening:
            if (opened := self._open) is None or opened.process != os.getpid():
                return
            waited_for = opened.listener.topics()
            opened.listener.close()
            await opened.reader.close()
            await opened.thread.close()
            self._open = None
            opened.folder.close()
            opened.lock.close()
            # Whoever waits hears that it is over.
            self._signals.notify(waited_for)

    # -- work

    async def publish(self, batch: Sequence[Message], *, tx: object | None = None) -> Sequence[Published]:
        """Store a batch."""
        refuse_transaction(tx, "A SQLite store")
        work = partial(publish.admit, messages=batch)
        if len(batch) == 1 and len(batch[0].body) < SMALL:
            # One round of the loop, so that a crowd can gather into a batch, and a row of lone writes does not keep the loop for itself.
            await asyncio.sleep(0)  # noqa: TID251  # as said above
            if (done := self._thread().here(work)) is not None:
                return done
        return await self._thread().submit(work=work, rows=len(batch))

    async def _claim(self, asks: Sequence[Ask], most: int | None) -> Claimed:
        job = Claim(asks, most, self._worker)
        claim = self._thread().submit(look=job.look, work=job.work, rows=job.room(0))
        return await unless_cancelled(
            claim, lambda fresh: self._thread().submit(work=partial(put_back, asks=fresh))
        )

    async def settle(self, batch: Sequence[Settlement]) -> Sequence[Settled]:
        """End deliveries."""
        return await self._thread().submit(work=partial(settle.settle, settlements=batch), rows=len(batch))

    async def extend(
        self,
        batch: Sequence[Delivery],
        *,
        under_way: Sequence[Token] = (),
        progress: Mapping[EntryId, Progress] = NOTHING,
    ) -> Sequence[Notice]:
        """Renew leases."""
        work = partial(extend.extend, deliveries=batch, under_way=under_way, progress=progress)
        return await self._thread().submit(work=work, rows=len(batch))

    # -- memory

    async def sweep(self, budget: int) -> Swept:
        """Bounded upkeep."""
        return await self._thread().submit(
            look=upkeep.look, work=partial(upkeep.sweep, budget=budget), rows=budget
        )

    async def spend(self, bucket: str, rate: RateLimit, *, patience: Micros) -> Spent:
        """Take the next token of a shared bucket, if it comes in time."""
        patience = min(patience, AHEAD)
        return await self._thread().submit(
            work=partial(lines.spend, bucket=bucket, rate=rate, patience=patience)
        )

    async def _switch(self, queue: str, told: Told, *, paused: bool) -> int:
        work = partial(steer.switch, queue=queue, paused=paused)
        return await self._thread().submit(work=partial(Trail(told).whole, work=work))

    async def _hand_back(self, worker: str, told: Told) -> int:
        work = partial(upkeep.hand_back, worker=worker)
        return await self._thread().submit(work=partial(Trail(told).whole, work=work))

    async def _change(self, which: Selector, command: Change, told: Told) -> Steered:
        """Carry out a command that concerns messages, some in each transaction."""
        done, orders, trail = Steered(), deque(steer.orders(which, command)), Trail(told)
        while orders:
            order = orders.popleft()
            if which.limit is not None:
                if (room := which.limit - done.touched) <= 0:
                    break
                order = replace(order, room=min(order.room, room))
            work = partial(order.work, trail=trail, before=done)
            step = await self._thread().submit(look=order.look, work=work, rows=order.room)
            done += step.done
            if step.after is not None:
                orders.append(replace(order, after=step.after))
        return done

    async def save(self, delivery: Delivery, steps: Sequence[SavedStep]) -> Settled:
        """Keep steps of a running handler."""
        work = partial(durable.save, delivery=delivery, steps=steps)
        return await self._thread().submit(work=work, rows=len(steps))

    async def saved(self, key: EntryId) -> Sequence[SavedStep]:
        """The steps of a message. A try waits for them, so the thread that works looks them up."""
        return await self._thread().submit(look=partial(durable.saved, key=key))

    async def find(self, query: Query) -> Page:
        """One page of records."""
        size, after = page_size(query), read_cursor(query.cursor)
        records: tuple[TaskRecord, ...] = ()
        while True:
            rest = partial(queries.find, query=query, size=size - len(records), after=after)
            if 0 < len(query.which.ids) <= FEW:
                page, whole = await self._thread().submit(look=rest)
            else:
                page, whole = await self._opened().reader.read(rest)
            records += page.records
            if whole:
                return Page(records, page.next)
            after = read_cursor(page.next)

    async def count(self) -> Counts:
        """All queues by state."""
        return await self._opened().reader.read(queries.count)

    async def survey(self, about: Survey[R]) -> tuple[R, ...]:
        """What is known besides messages."""
        if isinstance(about, Notes):
            # They are few, and read so often that a third thread is not woken for them.
            return cast("tuple[R, ...]", await self._thread().submit(look=partial(notes.survey, about=about)))
        if isinstance(about, Parents):
            # A try waits for it.
            return cast(
                "tuple[R, ...]", await self._thread().submit(look=partial(flow_sight.parents, about=about))
            )
        if isinstance(about, Flows):
            return cast(
                "tuple[R, ...]", await self._opened().reader.read(partial(flow_sight.flows, about=about))
            )
        if isinstance(about, Steps):
            return cast(
                "tuple[R, ...]", await self._opened().reader.read(partial(flow_sight.steps, about=about))
            )
        # What this process has not written yet is written first.
        await self._thread().submit(look=lambda s: None if s.carried else True, work=survey.want)
        if isinstance(about, Groups):
            return cast("tuple[R, ...]", await self._groups(about))
        return await self._opened().reader.read(partial(survey.survey, about=about))

    async def _groups(self, about: Groups) -> tuple[Group, ...]:
        total, walked, after = Counter[str | int](), 0, None
        while True:
            found, picked = await self._opened().reader.read(partial(queries.group, about=about, after=after))
            total += found
            walked += picked.walked
            after = picked.next
            if after is None:
                return groups(about, total)
            check_walk(walked)

    async def note(self, batch: Sequence[Revision], *, by: Actor = UNKNOWN) -> Sequence[Revised]:
        """Change notes, and store what goes with them."""
        check_revisions(batch)
        rows = len(batch) + sum(len(revision.then) for revision in batch)
        return await self._thread().submit(
            look=partial(notes.look, batch=batch), work=partial(notes.revise, batch=batch, by=by), rows=rows
        )

    async def attend(self, presence: Presence | None) -> None:
        """Say that this worker is there, or gone."""
        await self._thread().submit(work=partial(survey.attend, worker=self._worker, presence=presence))

    # -- what the above stands on

    def _thread(self) -> DatabaseThread:
        opened = self._opened()
        return opened.thread

    def _opened(self) -> _Open:
        if self._open is None:
            raise NotOpen("The store is not open: call declare() first, or use 'async with app:'.")
        if self._open.process != os.getpid():
            raise NotOpen(
                "The store was opened before a fork: open it after the fork, or start processes by 'spawn'."
            )
        return self._open

    @contextmanager
    def _listening(self, *topics: Topic) -> Iterator[Wake]:
        """Signals of ``topics`` from this process and others."""
        with self._signals.listening(*topics) as event, self._opened().listener.open(topics):
            yield event

    def _tell(self, news: Iterable[Topic]) -> None:
        """Tell this process and others. In the database thread, after a commit."""
        told = list(news)
        self._signals.notify(told)
        if self._open is not None:
            self._open.folder.tell(told, self._shared.sockets)
