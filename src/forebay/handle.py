"""A sent task, from the sender's side: its id, its state, its result."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from forebay.codec import json
from forebay.errors import ResultTimeout, TaskCancelled, TaskDead, TaskError, TaskExpired, TaskNotFound
from forebay.model.query import CancelNow, Query, Selector, TaskRecord
from forebay.model.state import FINISHED, State
from forebay.model.story import attempts, numbered, word
from forebay.model.when import SECOND, Duration, as_datetime, micros

if TYPE_CHECKING:
    from forebay.client.client import Client
    from forebay.model.message import EntryId

R = TypeVar("R")


class Handle(Generic[R]):
    """A task that was sent. Cheap; hold it, or make it again from its id with ``app.handle(id)``.

    ``duplicate``: it was there already (the same id, or a unique key in use), and this is that one.
    """

    __slots__ = ("_client", "_returns", "duplicate", "id")

    def __init__(
        self, key: EntryId, returns: Any, client: Client, *, duplicate: bool = False
    ) -> None:  # a type form
        self.id, self.duplicate = key, duplicate
        self._returns, self._client = returns, client

    async def status(self) -> TaskRecord:
        """Everything the store knows of it. Raises `TaskNotFound` if that is nothing, `Unsupported` on a bare bus."""
        page = await (await self._client.link()).store.find(Query(which=Selector(ids=(self.id,)), size=1))
        if not page.records:
            raise TaskNotFound(
                f"No task {self.id} is stored here: it was never sent, or its history was pruned.",
                task_id=self.id,
            )
        return page.records[0]

    async def result(self, timeout: Duration | None = None) -> R:
        """Wait for the end, at most ``timeout``, and return what the handler returned.

        Raises `TaskDead`, `TaskCancelled` or `TaskExpired` with the story of its tries, `ResultTimeout`, `TaskNotFound`.
        Cancelling the wait does not touch the task.
        """
        limit = None if timeout is None else micros(timeout, "timeout") / SECOND
        link = await self._client.link()
        record = await self.status()
        if link.results is None:
            raise AssertionError(link)
        try:
            async with asyncio.timeout(limit):
                if record.state not in FINISHED:
                    record = await link.results.wait(self.id)
        except ResultTimeout:
            raise
        except TimeoutError as error:
            record = await self.status()
            if record.state not in FINISHED:
                raise ResultTimeout(
                    f"Task {self.id} has not ended within {timeout}: it is {record.state}.", task_id=self.id
                ) from error
        return self._outcome(record)

    def result_sync(self, timeout: Duration | None = None) -> R:
        """`result`, for callers without an event loop."""
        return self._client.sync(self.result(timeout))

    async def cancel(self) -> bool:
        """Cancel it if it has not started; ask it to stop if it runs. Whether that changed anything."""
        steered = await (await self._client.link()).store.steer(
            Selector(ids=(self.id,)), CancelNow(), by=self._client.actor
        )
        return steered.touched > 0

    def _outcome(self, record: TaskRecord) -> R:
        match record.state:
            case State.SUCCEEDED:
                return self._read(record.result or b"null")
            case State.DEAD:
                raise _ended(TaskDead, record)
            case State.CANCELLED:
                raise _ended(TaskCancelled, record)
            case State.EXPIRED:
                raise _ended(TaskExpired, record)
            case _:
                raise AssertionError(record.state)

    def _read(self, result: bytes) -> R:
        try:
            read: R = json.decode(result, self._returns)
        except Exception as error:
            raise TaskError(
                f"Task {self.id} succeeded, and its result cannot be read as {self._returns}: {error}. "
                f"app.handle({self.id!r}) reads it as plain JSON.",
                task_id=self.id,
            ) from error
        return read

    def __repr__(self) -> str:
        """The id."""
        return f"<handle {self.id}>"


def story(record: TaskRecord) -> str:
    """What happened to a task, a line for each try."""
    lines = []
    for number, one in numbered(record):
        what = word(one) if number is None else f"attempt {number} {word(one)}"
        line = f"  {as_datetime(one.started):%Y-%m-%d %H:%M:%S}Z on {one.worker}: {what}"
        lines.append(f"{line}, {one.error.type}: {one.error.message}" if one.error else line)
    return "\n".join(lines)


def _ended(kind: type[TaskError], record: TaskRecord) -> TaskError:
    last = next((one.error for one in reversed(record.tries) if one.error), None)
    why = f" ({record.reason})" if record.reason else ""
    error = f": {last.type}: {last.message}" if last else ""
    return kind(
        f"Task {record.message.name} {record.id} is {record.state}{why}, attempts {attempts(record)}{error}",
        task_id=record.id,
        story=story(record),
    )
