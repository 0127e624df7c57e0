"""One event loop's way into the engine: its broker, its batch of sends, its waiting results."""

from __future__ import annotations

import asyncio
import warnings
from functools import partial
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import msgspec

from forebay.client.batcher import Batcher, halved
from forebay.client.results import FlowEnds, Results, TaskEnds
from forebay.engine import Published, Store, Stored
from forebay.errors import NotOpen, OutcomeUnknown, Unsupported, told
from forebay.model.message import EntryId
from forebay.support.logs import Log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from forebay.client.backpressure import Backpressure
    from forebay.client.results import Ends
    from forebay.engine import Broker, Engine, Source, Traits
    from forebay.model.message import Message
    from forebay.model.query import TaskRecord
    from forebay.model.survey import FlowRecord
    from forebay.support.clock import Clock

log = Log("forebay.client")
T = TypeVar("T")
_STATUS: Final[Callable[[Published], Stored]] = attrgetter("status")

BATCH: Final = 500
REPEATS: Final = 3
"""Times a publish is repeated when its outcome is unknown. Ids make that safe."""


class LoopClient:
    """Opened and closed on one loop, used on that loop only."""

    def __init__(self, engine: Engine, name: str, clock: Clock) -> None:
        self._connect = partial(engine.connect, name, clock)
        self.broker: Broker = self._connect()
        self._remembers = engine.traits.remembers
        self._engine = engine.traits.engine
        self._opening = asyncio.Lock()
        self._clock = clock
        self._sends: Batcher[Message, Published] = Batcher(self._publish, limit=BATCH)
        self.results: Results[TaskRecord] | None = None
        self.flows: Results[FlowRecord] | None = None
        self._host: asyncio.Task[None] | None = None
        self.users = 0
        self.opened_at = ""
        self._closing = False

    @property
    def is_open(self) -> bool:
        """Whether it can be used."""
        return self._host is not None

    @property
    def store(self) -> Store:
        """The broker as a store. Raises `Unsupported` for a bare bus, which remembers nothing."""
        if not self._remembers:
            raise Unsupported(
                f"{self._engine} is a bus and remembers nothing: for status, results, cancel and counts add a store, "
                "as in App('sqlite:///forebay.db', bus=...)."
            )
        return cast("Store", self.broker)

    async def open(self, sources: Sequence[Source], check: Callable[[Traits], None] = lambda _: None) -> None:
        """Open the broker and start the services of this link, if that was not done; whoever comes meanwhile waits for it. ``check`` is
        asked whether what the server can do is enough.

        If it cannot be opened nothing stays behind, and the next one may try.
        """
        async with self._opening:
            if self._host is not None:
                return
            try:
                await self.broker.declare(sources)
                check(self.broker.traits)
            except BaseException:
                broker, self.broker = self.broker, self._connect()
                await broker.close()
                raise
            if self._remembers:
                self.results, self.flows = (
                    self._waits(TaskEnds(self.store)),
                    self._waits(FlowEnds(self.store)),
                )
            self._host = asyncio.get_running_loop().create_task(
                self._serve([waits for waits in (self.results, self.flows) if waits is not None]),
                name="forebay-link",
            )  # lives past any one caller

    @property
    def left_open(self) -> str:
        """What is to be said when its loop ends before it was closed."""
        return (
            f"The App that was opened at {self.opened_at or 'an unknown place'} was never closed: leave its "
            "'async with app:' block (or 'with app:' around ..._sync calls) before the loop ends."
        )

    def _waits(self, ends: Ends[T]) -> Results[T]:
        return Results(self.store, self._clock, ends)

    async def _serve(self, results: Sequence[Results[Any]]) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                sends = group.create_task(self._sends.run())
                waiting = [group.create_task(_survived(one)) for one in results]
                await sends
                for waits in waiting:
                    waits.cancel()
        except asyncio.CancelledError:
            if not self._closing:
                warnings.warn(self.left_open, ResourceWarning, stacklevel=1)
            raise

    async def publish(self, message: Message) -> Published:
        """Publish one message with the next batch. Cancelled, the message may still be sent."""
        self._check()
        return await self._sends.put(message)

    async def publish_many(
        self, messages: Iterable[Message], backpressure: Backpressure | None = None, *, whole: bool = False
    ) -> list[Published]:
        """Publish many, in batches, each of which is stored whole or not at all, but for what is FULL; that waits for ``room``, and
        the batches after it too. Raises at the first batch that fails. ``whole``: all of them are one batch.

        ``messages`` is drawn from while the batch before is being stored: making messages and storing them take turns on two cores.
        """
        self._check()
        answers: list[Published] = []
        source, size = iter(messages), None if whole else 2 * BATCH
        batch = list(islice(source, size))
        while batch:
            sent = batch
            storing = asyncio.get_running_loop().create_task(
                _repeated(self.broker.publish, sent)
            )  # awaited below
            try:
                await asyncio.sleep(0)  # noqa: TID251  # let it begin
                batch = list(islice(source, size))
                stored = await storing
            finally:
                storing.cancel()
            if backpressure is not None and Stored.FULL in statuses_of(stored):
                stored = await backpressure.wait(partial(_repeated, self.broker.publish), sent, stored)
            answers += stored
        return answers

    async def close(self) -> None:
        """Send what was given, then let go of the engine."""
        self._closing = True
        self._sends.close()
        try:
            if self._host is not None:
                await self._host
        finally:
            self._host = None
            await self.broker.close()

    def _check(self) -> None:
        if self._host is None or self._host.done():
            raise NotOpen("The App is not open: use 'async with app:' around what sends.")

    async def _publish(self, batch: Sequence[Message]) -> list[Published | Exception]:
        """A batch of callers who do not know each other: each is answered for itself."""
        answers = await halved(partial(_repeated, self.broker.publish, partly=True), batch)
        return [
            _in_doubt(1, 1) if type(answer) is Published and answer.status is Stored.UNKNOWN else answer
            for answer in answers
        ]


async def _survived(results: Results[Any]) -> None:
    """A mistake in waiting for results ends that, and not the sending beside it."""
    try:
        await results.run()
    except Exception:
        log.exception("results.fault")


async def _repeated(
    publish: Callable[[Sequence[Message]], Awaitable[Sequence[Published]]],
    batch: Sequence[Message],
    *,
    partly: bool = False,
) -> Sequence[Published]:
    """Publish a batch, and again what nobody can say of whether it is stored. What is there then under its own id, this very call has
    stored. Raises `OutcomeUnknown` if anything is in doubt still; ``partly``: if all is, and what is in doubt is UNKNOWN.
    """
    try:
        answers = await publish(batch)
    except OutcomeUnknown as error:
        log.warning("publish.unknown", extra={"count": len(batch), **told(error)})
        answers = [Published(Stored.UNKNOWN, EntryId(message.id)) for message in batch]
    if not (doubtful := _doubtful(answers)):
        return answers
    found = list(answers)
    for repeat in range(1, REPEATS + 1):
        try:
            answers = await publish([batch[n] for n in doubtful])
        except OutcomeUnknown as error:
            log.warning("publish.unknown", extra={"count": len(doubtful), **told(error)})
            if repeat == REPEATS and len(doubtful) == len(batch):
                raise
            continue
        for n, answer in zip(doubtful, answers, strict=True):
            found[n] = _own(batch[n], answer)
        if not (doubtful := [n for n in doubtful if found[n].status is Stored.UNKNOWN]):
            break
        log.warning("publish.unknown", extra={"count": len(doubtful)})
    if doubtful and not partly:
        raise _in_doubt(len(doubtful), len(batch))
    return found


def statuses_of(answers: Sequence[Published]) -> set[Stored]:
    """What became of any of them: one look at all, where almost always all are stored."""
    return set(map(_STATUS, answers))


def _doubtful(answers: Sequence[Published]) -> list[int]:
    """The places of those of whom nobody can say whether they are stored."""
    if Stored.UNKNOWN not in statuses_of(answers):
        return []
    return [n for n, answer in enumerate(answers) if answer.status is Stored.UNKNOWN]


def _in_doubt(unknown: int, of: int) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"The engine could not say of {unknown:,} of {of:,} whether they are stored: send them again, with the same ids."
    )


def _own(message: Message, answer: Published) -> Published:
    ours = answer.status is Stored.DUPLICATE and answer.id.partition("@")[0] == message.id
    return msgspec.structs.replace(answer, status=Stored.STORED) if ours else answer
