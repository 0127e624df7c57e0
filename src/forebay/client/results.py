"""Waiting for tasks and flows to end: one look at the store for all who wait, whenever it says that something ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from forebay.engine import Finished
from forebay.errors import EngineError, FlowNotFound, NotOpen, TaskNotFound, told as words
from forebay.model.flow import FlowState
from forebay.model.message import EntryId
from forebay.model.query import LONGEST_PAGE, Query, Selector, TaskRecord
from forebay.model.state import FINISHED, State
from forebay.model.survey import FlowRecord, Flows
from forebay.model.when import SECOND
from forebay.support.logs import Log

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence, Set as AbstractSet

    from forebay.engine import Store
    from forebay.support.clock import Clock

log = Log("forebay.results")

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
_ALL: Final[frozenset[State]] = frozenset()
POLL: Final = SECOND
"""The safety net under the store's signals."""


class Ends(Protocol[T_co]):
    """How a store is asked for what has ended."""

    async def of(self, keys: Sequence[str], *, all_states: bool) -> Mapping[str, T_co | Exception]:
        """Of a page of ids, what has ended; ``all_states``: of those too that are not there any more, why that is so."""
        ...


class Results(Generic[T]):
    """Futures of ends to come."""

    def __init__(self, store: Store, clock: Clock, ends: Ends[T]) -> None:
        self._store, self._clock, self._ends = store, clock, ends
        self._waiting: dict[str, set[asyncio.Future[T]]] = {}
        self._some = asyncio.Event()
        self._changed = asyncio.Event()
        # Whom to look for at the next change; None: everybody.
        self._told: set[str] | None = None
        self._closed = False

    async def wait(self, key: str) -> T:
        """The record of ``key`` once it has ended. Cancelling it changes nothing. Raises `NotOpen` if the App is closed meanwhile."""
        if self._closed:
            raise _closed()
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, set()).add(future)
        self._some.set()
        self._hear({key})
        try:
            return await future
        finally:
            waiters = self._waiting.get(key, set())
            waiters.discard(future)
            if not waiters:
                self._waiting.pop(key, None)

    async def run(self) -> None:
        """Look when the store signals, and now and then without; only while somebody waits. Runs until cancelled."""
        try:
            while True:
                await self._some.wait()
                self._some.clear()
                await self._watch()
        finally:
            self._closed = True
            for future in [future for waiters in self._waiting.values() for future in waiters]:
                if not future.done():
                    future.set_exception(_closed())

    async def _watch(self) -> None:
        async with asyncio.TaskGroup() as group:
            listener = group.create_task(self._listen())
            hurried = True
            while self._waiting:
                self._changed.clear()
                told, self._told = self._told, set()
                try:
                    await self._look(
                        self._waiting.keys() if told is None or not hurried else told,
                        all_states=not hurried,
                    )
                except EngineError as error:
                    log.warning("results.wait", extra=words(error))
                    self._told = None
                    await self._clock.sleep(POLL // 4)
                if self._waiting:
                    hurried = await self._clock.wait(self._changed, POLL)
            listener.cancel()

    async def _listen(self) -> None:
        try:
            async for ended in self._store.watch(Finished()):
                self._hear(ended)
        except EngineError as error:
            log.warning("results.unwatched", extra=words(error))  # looked at without signals, then

    def _hear(self, ended: AbstractSet[str] | None) -> None:
        """Some may have ended (None: any): look for those of them who are waited for."""
        if ended is None:
            self._told = None
        elif waited_for := self._waiting.keys() & ended:
            self._told = None if self._told is None else self._told | waited_for
        else:
            return
        self._changed.set()

    async def _look(self, keys: AbstractSet[str], *, all_states: bool) -> None:
        """Answer those of ``keys`` that have ended; looking at all states, those too that are no longer there."""
        wanted = list(keys & self._waiting.keys())
        for start in range(0, len(wanted), LONGEST_PAGE):
            found = await self._ends.of(wanted[start : start + LONGEST_PAGE], all_states=all_states)
            for key, ended in found.items():
                for future in [f for f in self._waiting.get(key, ()) if not f.done()]:
                    if isinstance(ended, Exception):
                        future.set_exception(ended)
                    else:
                        future.set_result(ended)
            await asyncio.sleep(0)  # noqa: TID251  # let those who were answered leave before the next look


class TaskEnds:
    """The ends of tasks."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def of(self, keys: Sequence[str], *, all_states: bool) -> Mapping[str, TaskRecord | Exception]:
        """The records of those that have ended."""
        ids, states = tuple(map(EntryId, keys)), _ALL if all_states else FINISHED
        found = {record.id: record for record in await self._records(ids, states, brief=True)}
        # Only those that failed have a story to tell.
        failed = tuple(r.id for r in found.values() if r.state in FINISHED and r.state is not State.SUCCEEDED)
        if failed:
            found |= {record.id: record for record in await self._records(failed, states)}
        ended: dict[str, TaskRecord | Exception] = {
            key: record for key, record in found.items() if record.state in FINISHED
        }
        return ended | {key: _gone(key) for key in ids if all_states and key not in found}

    async def _records(
        self, ids: tuple[EntryId, ...], states: frozenset[State], *, brief: bool = False
    ) -> tuple[TaskRecord, ...]:
        page = await self._store.find(
            Query(which=Selector(ids=ids, states=states), size=LONGEST_PAGE, brief=brief)
        )
        return page.records


class FlowEnds:
    """The ends of flows."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def of(self, keys: Sequence[str], *, all_states: bool) -> Mapping[str, FlowRecord | Exception]:
        """The records of those that have ended."""
        found = {one.id: one for one in await self._store.survey(Flows(ids=tuple(keys), limit=len(keys)))}
        ended: dict[str, FlowRecord | Exception] = {
            key: one for key, one in found.items() if one.state is not FlowState.RUNNING
        }
        return ended | {
            key: FlowNotFound(f"Flow {key} was deleted while its result was waited for.", flow_id=key)
            for key in keys
            if key not in found
        }


def _gone(key: EntryId) -> TaskNotFound:
    return TaskNotFound(f"Task {key} was deleted while its result was waited for.", task_id=key)


def _closed() -> NotOpen:
    return NotOpen("The App was closed while its result was waited for. The task goes its way.")
