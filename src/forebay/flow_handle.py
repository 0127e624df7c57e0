"""A flow that was sent, from the sender's side: its id, how it stands, its result, and the means to steer it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import msgspec

from forebay.codec import json
from forebay.errors import FlowCancelled, FlowFailed, FlowNotFound, ResultTimeout, TaskError
from forebay.features.flows.gathering import pages
from forebay.handle import Handle
from forebay.model.flow import BY_FLOW, FlowState, Role
from forebay.model.message import EntryId
from forebay.model.query import LONGEST_PAGE, CancelNow, Query, Redrive, Selector
from forebay.model.state import State
from forebay.model.survey import Flows, Steps
from forebay.model.when import SECOND, Duration, micros

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from forebay.client.client import Client
    from forebay.engine import Store
    from forebay.model.survey import FlowRecord, StepRecord

R = TypeVar("R")
RETRIED: Final = frozenset({State.DEAD, State.EXPIRED, State.CANCELLED})
"""What is tried again with its flow."""
STEPS_AT_A_TIME: Final = 1_000
"""Steps of one page: each that failed may bring a long traceback."""
MOST_TOLD: Final = 100
"""Failed steps that an error tells of."""
PARENTS_SHOWN: Final = 1_000
"""Parents that a step is shown with: one that has as many may have more."""


class FlowHandle(Generic[R]):
    """A flow that was sent. Cheap; hold it, or make it again from its id with ``app.flow_handle(id)``.

    ``duplicate``: it was there already, and this is that one.
    """

    __slots__ = ("_client", "_returns", "_wide", "duplicate", "id")

    def __init__(
        self,
        flow: str,
        client: Client,
        returns: Mapping[EntryId, Any] | None = None,
        *,
        wide: bool = False,
        duplicate: bool = False,
    ) -> None:
        self.id, self.duplicate = flow, duplicate
        self._client, self._returns, self._wide = client, returns or {}, wide

    async def status(self) -> FlowRecord:
        """How it stands, and how many of its steps are in which state. Raises `FlowNotFound` if it is not there, `Unsupported` on a bare
        bus.
        """
        found = await (await self._client.link()).store.survey(Flows(ids=(self.id,), limit=1))
        if not found:
            raise gone(
                self.id, f"No flow {self.id} is stored here: it was never sent, or its history was pruned."
            )
        return found[0]

    async def is_over(self) -> bool:
        """Whether all its steps have ended. Raises as `status`."""
        return (await self.status()).state is not FlowState.RUNNING

    async def steps(self) -> list[StepRecord]:
        """All its steps, in the order in which they were added, those that steps have added included."""
        return [step async for step in steps_of((await self._client.link()).store, self.id)]

    def step(self, name: str) -> Handle[Any]:
        """The handle of one of its steps, by name."""
        key = EntryId(f"{self.id}:{name}")
        return Handle(key, self._returns.get(key, Any), self._client)

    async def result(self, timeout: Duration | None = None) -> R:
        """Wait for the end, at most ``timeout``, and return the result of its last step: the one that no other has waited for. If there are
        several, it is a list of theirs in the order in which they were added; steps that were not needed are not among them. That of a
        `group` is a list always, for who has sent it.

        Raises `FlowFailed`, with the steps that have failed; `FlowCancelled`, `ResultTimeout`, `FlowNotFound`. Cancelling the wait does not
        touch the flow.
        """
        limit = None if timeout is None else micros(timeout, "timeout") / SECOND
        link = await self._client.link()
        record = await self.status()
        if link.flows is None:
            raise AssertionError(link)
        try:
            async with asyncio.timeout(limit):
                if record.state is FlowState.RUNNING:
                    record = await link.flows.wait(self.id)
        except ResultTimeout:
            raise
        except TimeoutError as error:
            record = await self.status()
            if record.state is FlowState.RUNNING:
                raise ResultTimeout(
                    f"Flow {self.id} has not ended within {timeout}: {stands(record)}.", task_id=self.id
                ) from error
        if record.state is not FlowState.SUCCEEDED:
            raise await _ended(link.store, record)
        return await self._outcome(link.store)

    def result_sync(self, timeout: Duration | None = None) -> R:
        """`result`, for callers without an event loop."""
        return self._client.sync(self.result(timeout))

    async def cancel(self) -> bool:
        """Cancel the steps that have not started, and ask those that run to stop. Whether that changed anything."""
        store = (await self._client.link()).store
        return (await store.steer(Selector(flow=self.id), CancelNow(), by=self._client.actor)).touched > 0

    async def retry(self) -> int:
        """Go on from the steps that have failed, expired or were cancelled: they are ready again, with a fresh count of attempts, and what
        was cancelled because of them waits again. What has succeeded is kept. Returns how many steps were changed.
        """
        store = (await self._client.link()).store
        which = Selector(flow=self.id, states=RETRIED)
        return (await store.steer(which, Redrive(), by=self._client.actor)).changed

    async def _outcome(self, store: Store) -> R:
        """The result of the last step, or of all that nobody waits for. As many as there are: their sender asked for them."""
        ends: dict[EntryId, None] = {}
        inner: set[str] = set()
        async for step in steps_of(store, self.id):
            if step.state is not State.SUCCEEDED or step.role not in (Role.WORK, Role.EVENT):
                continue  # skipped: as if it were not there
            ends[step.id] = None
            inner.update(step.after)
            if len(step.after) == PARENTS_SHOWN:
                async for page in pages(store, step.id):
                    inner.update(parent.id for parent in page)
        last = [key for key in ends if key not in inner]
        results: dict[EntryId, bytes | None] = {}
        for start in range(0, len(last), LONGEST_PAGE):
            which = Selector(ids=tuple(last[start : start + LONGEST_PAGE]))
            found = await store.find(Query(which=which, size=LONGEST_PAGE, brief=True))
            results |= {record.id: record.result for record in found.records}
        read = [self._read(key, results.get(key)) for key in last]
        value: Any = read if self._wide or len(read) != 1 else read[0]
        return value  # type: ignore[no-any-return]  # what the last step is annotated to return

    def _read(self, key: EntryId, result: bytes | None) -> Any:
        kind = self._returns.get(key, Any)
        try:
            return None if result is None else json.decode(result, kind)
        except Exception as error:
            raise TaskError(
                f"Flow {self.id} succeeded, and the result of its step {key} cannot be read as {kind}: {error}. "
                f"app.flow_handle({self.id!r}) reads it as plain JSON.",
                task_id=key,
            ) from error

    def __repr__(self) -> str:
        """The id."""
        return f"<flow handle {self.id}>"


async def steps_of(store: Store, flow: str) -> AsyncIterator[StepRecord]:
    """All steps of a flow, page by page."""
    about = Steps(flow=flow, limit=STEPS_AT_A_TIME)
    while page := await store.survey(about):
        for step in page:
            yield step
        if len(page) < STEPS_AT_A_TIME:
            return
        about = msgspec.structs.replace(about, beyond=page[-1].id)


def stands(record: FlowRecord) -> str:
    """How many steps are in which state, in words."""
    return ", ".join(f"{number:,} {state.value}" for state, number in record.steps.items() if number)


def gone(flow: str, sentence: str) -> FlowNotFound:
    """For a flow that is not there."""
    return FlowNotFound(sentence, flow_id=flow)


async def _ended(store: Store, record: FlowRecord) -> FlowFailed | FlowCancelled:
    """Why there is no result: the steps that failed for their own sake, the first of them first."""
    failed: list[StepRecord] = []
    async for step in steps_of(store, record.id):
        if step.state in RETRIED and step.reason not in BY_FLOW:
            failed.append(step)
        if len(failed) > 2 * MOST_TOLD:
            failed = _first(failed)
    failed = _first(failed)
    lines = "\n".join(f"  {_line(step)}" for step in failed)
    kind = FlowFailed if record.state is FlowState.FAILED else FlowCancelled
    return kind(
        f"Flow {record.id} has {'failed' if kind is FlowFailed else 'been cancelled'}: {stands(record)}.\n{lines}",
        flow_id=record.id,
        steps=tuple(failed),
        error=next((step.error for step in failed if step.error is not None), None),
    )


def _first(failed: list[StepRecord]) -> list[StepRecord]:
    """Those that ended first."""
    return sorted(failed, key=lambda step: step.finished or 0)[:MOST_TOLD]


def _line(step: StepRecord) -> str:
    why = f" ({step.reason.value})" if step.reason else ""
    error = f": {step.error.type}: {step.error.message}" if step.error else ""
    return f"step {step.name} is {step.state.value}{why}, attempts {step.attempts}{error}"
