"""Many single sends become few batches, and nobody's misfortune is another's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from forebay.client.batcher import Batcher, halved
from forebay.errors import EngineUnavailable, NotOpen, OutcomeUnknown
from tests.runtime.kit import story

if TYPE_CHECKING:
    from collections.abc import Sequence


class Sink:
    """Takes batches when it is let, and answers each number with its double."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open, self.begun = asyncio.Event(), asyncio.Event()
        self.open.set()
        self.error: BaseException | None = None

    async def take(self, batch: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(batch))
        self.begun.set()
        await self.open.wait()
        if self.error is not None:
            raise self.error
        return [ValueError(n) if n < 0 else 2 * n for n in batch]


@story
async def test_what_comes_while_one_batch_is_under_way_is_the_next_batch() -> None:
    sink = Sink()
    sink.open.clear()
    batcher = Batcher[int, int](sink.take, limit=4)
    async with asyncio.TaskGroup() as group:
        group.create_task(batcher.run())
        first = batcher.submit(1)
        await sink.begun.wait()
        rest = [batcher.submit(n) for n in range(2, 8)]
        assert len(batcher) == 6
        sink.open.set()
        batcher.close()

    assert [first.result(), *(one.result() for one in rest)] == [2, 4, 6, 8, 10, 12, 14]
    assert sink.batches == [[1], [2, 3, 4, 5], [6, 7]]


@story
async def test_one_item_may_fail_without_the_others() -> None:
    batcher = Batcher[int, int](Sink().take, limit=4)
    answers = [batcher.submit(n) for n in (1, -1, 2)]
    batcher.close()
    await batcher.run()

    assert (answers[0].result(), answers[2].result()) == (2, 4)
    assert isinstance(answers[1].exception(), ValueError)


@story
async def test_one_callers_cancellation_harms_nobody() -> None:
    sink = Sink()
    sink.open.clear()
    batcher = Batcher[int, int](sink.take, limit=4)

    async def ask(n: int) -> int:
        return await asyncio.shield(batcher.submit(n))

    async with asyncio.TaskGroup() as group:
        group.create_task(batcher.run())
        callers = [group.create_task(ask(n)) for n in (1, 2, 3)]
        await sink.begun.wait()
        callers[1].cancel()
        sink.open.set()
        assert [await callers[0], await callers[2]] == [2, 6]
        batcher.close()

    assert [n for batch in sink.batches for n in batch] == [1, 2, 3], "and its item goes the way of its batch"


@story
async def test_a_whole_batch_that_fails_is_everybodys_error_and_the_next_does_better() -> None:
    sink = Sink()
    sink.error = EngineUnavailable("away")
    batcher = Batcher[int, int](sink.take, limit=2)
    async with asyncio.TaskGroup() as group:
        group.create_task(batcher.run())
        failed = [batcher.submit(n) for n in (1, 2)]
        await asyncio.wait(failed)
        sink.error = None
        assert await batcher.submit(3) == 6
        batcher.close()

    assert all(isinstance(one.exception(), EngineUnavailable) for one in failed)


@story
async def test_closed_it_drains_and_takes_no_more() -> None:
    batcher = Batcher[int, int](Sink().take, limit=1)
    waiting = [batcher.submit(n) for n in range(3)]
    batcher.close()

    with pytest.raises(NotOpen, match="closing"):
        await batcher.submit(9)
    await batcher.run()

    assert [one.result() for one in waiting] == [0, 2, 4]


@story
async def test_cut_off_it_tells_whoever_waits_what_is_known() -> None:
    sink = Sink()
    sink.open.clear()
    batcher = Batcher[int, int](sink.take, limit=1)
    running = asyncio.get_running_loop().create_task(batcher.run())
    sent, waiting = batcher.submit(1), batcher.submit(2)
    await sink.begun.wait()
    running.cancel()
    await asyncio.wait([running])

    assert isinstance(sent.exception(), OutcomeUnknown)
    assert isinstance(waiting.exception(), NotOpen)


class Picky:
    """Refuses every batch with a bad number in it."""

    def __init__(self, *bad: int) -> None:
        self.bad, self.calls = set(bad), 0

    async def take(self, batch: Sequence[int]) -> list[int]:
        self.calls += 1
        if self.bad & set(batch):
            raise ValueError(sorted(self.bad & set(batch)))
        return list(batch)


@story
async def test_a_refused_batch_is_halved_until_the_bad_item_stands_alone() -> None:
    engine = Picky(5)

    answers = await halved(engine.take, range(16))

    assert [n for n, answer in enumerate(answers) if isinstance(answer, Exception)] == [5]
    assert [answer for answer in answers if not isinstance(answer, Exception)] == [
        n for n in range(16) if n != 5
    ]
    assert engine.calls <= 2 * 4 + 1


@pytest.mark.parametrize("bad", [(), (0,), (6,), (0, 6), (0, 1, 2, 3, 4, 5, 6)])
@story
async def test_answers_keep_their_order_whatever_is_refused(bad: tuple[int, ...]) -> None:
    answers = await halved(Picky(*bad).take, range(7))

    assert [None if isinstance(a, Exception) else a for a in answers] == [
        None if n in bad else n for n in range(7)
    ]


@pytest.mark.parametrize(
    "error", [EngineUnavailable("away"), OutcomeUnknown("cut")], ids=lambda e: type(e).__name__
)
@story
async def test_what_is_no_items_fault_is_not_halved(error: Exception) -> None:
    calls = []

    async def away(batch: Sequence[int]) -> list[int]:
        calls.append(batch)
        raise error

    with pytest.raises(type(error)):
        await halved(away, range(8))
    assert len(calls) == 1
