"""Tasks whose messages gather: when a call begins, who is in it, and what becomes of those it fails for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from forebay import App, Context, Dead, Retry, State, WorkerOptions
from forebay.errors import InvalidOption, Unsupported
from forebay.model.query import Query, Selector
from forebay.model.when import SECOND
from forebay.testing.clock import VirtualClock, eventually
from forebay.testing.hostile import HostileBus
from tests.runtime.kit import reaches, story, working

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from forebay import Handle, Task


class Desk:
    """An App whose task gathers, on a clock turned by hand, and the calls that there were."""

    def __init__(
        self,
        url: str = "memory://",
        *,
        gather: str = "60s",
        gather_wait: str = "10s",
        gather_max: int = 5,
    ) -> None:
        self.calls: list[list[int]] = []
        self.clock = VirtualClock()
        self.app = App(url, clock=self.clock)

        @self.app.task(gather=gather, gather_wait=gather_wait, gather_max=gather_max)
        async def take(numbers: list[int]) -> list[int]:
            self.calls.append(numbers)
            return [number * 2 for number in numbers]

        self.take: Task[..., Any, Any, Any] = take


async def tried(handles: Iterable[Handle[Any]], attempts: int) -> bool:
    return all([(await handle.status()).attempts >= attempts for handle in handles])


@story
async def test_messages_are_handled_in_one_call_once_it_is_quiet() -> None:
    desk = Desk()
    async with working(desk.app):
        handles = [await desk.take.send(n) for n in range(3)]
        await reaches(handles[0], State.SCHEDULED)
        await desk.clock.advance(10 * SECOND)
        results = [await handle.result() for handle in handles]

    assert desk.calls == [[0, 1, 2]]
    assert results == [0, 2, 4], "each has its own"


@story
async def test_a_full_group_is_handled_at_once_and_takes_one_slot() -> None:
    desk = Desk()
    async with working(desk.app, WorkerOptions(concurrency=1)):
        handles = [await desk.take.send(n) for n in range(5)]
        for handle in handles:
            await handle.result()

    assert desk.calls == [[0, 1, 2, 3, 4]]


@story
async def test_a_call_has_the_messages_of_one_key() -> None:
    desk = Desk()
    async with working(desk.app):
        handles = [await desk.take.options(key=f"k{n % 2}").send(n) for n in range(6)]
        await desk.clock.advance(10 * SECOND)
        for handle in handles:
            await handle.result()

    assert sorted(desk.calls) == [[0, 2, 4], [1, 3, 5]]


@story
async def test_what_comes_all_the_time_is_handled_when_the_first_has_waited() -> None:
    desk = Desk(gather="25s")
    async with working(desk.app):
        handles = []
        for n in range(4):
            handles.append(await desk.take.send(n))
            await desk.clock.advance(8 * SECOND)
        await handles[0].result()

    assert desk.calls == [[0, 1, 2, 3]]


@story
async def test_groups_survive_their_senders_and_go_on_over_several(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'gather.db'}"
    for start in (0, 2):
        desk = Desk(url, gather="1d", gather_wait="1d", gather_max=4)
        async with desk.app:
            await desk.take.send(start)
            await desk.take.send(start + 1)
    desk = Desk(url)

    async with working(desk.app):
        page = await desk.app.find(Query(which=Selector(name="take")))
        for record in page.records:
            await desk.app.handle(record.id).result()

    assert desk.calls == [[0, 1, 2, 3]]


@story
async def test_each_message_has_its_own_verdict_and_what_fails_comes_again_together() -> None:
    app, calls = App("memory://", clock=(clock := VirtualClock())), list[list[tuple[int, int]]]()

    @app.task(gather="10s", max_attempts=5, backoff="1s")
    async def take(each: list[Context], numbers: list[int]) -> list[Any]:
        calls.append([(number, ctx.attempt) for ctx, number in zip(each, numbers, strict=True)])
        if len(calls) == 1:
            return [None, Dead("never"), Retry(), ValueError("later")]
        return [None] * len(numbers)

    async with working(app):
        handles = [await take.send(n) for n in range(4)]
        await clock.advance(10 * SECOND)
        await reaches(handles[3], State.RETRYING)
        assert (await handles[0].status()).state is State.SUCCEEDED
        assert (await handles[1].status()).state is State.DEAD
        await clock.advance(1 * SECOND)
        for n in (2, 3):
            await handles[n].result()

    assert calls == [[(0, 1), (1, 1), (2, 1), (3, 1)], [(2, 2), (3, 2)]]


@story
async def test_a_call_that_fails_is_tried_again_as_one_and_then_each_alone() -> None:
    app, calls = App("memory://", clock=(clock := VirtualClock())), list[list[int]]()

    @app.task(gather="10s", max_attempts=3, backoff="1s", backoff_cap="1s")
    async def take(numbers: list[int]) -> None:
        calls.append(numbers)
        raise ValueError("the database is away")

    async with working(app):
        handles = [await take.send(n) for n in range(3)]
        await clock.advance(10 * SECOND)
        for attempts in (1, 2, 3):
            await eventually(lambda: tried(handles, attempts), what=f"{attempts} attempts of each")  # noqa: B023  # awaited here
            await clock.advance(1 * SECOND)
        assert {(await handle.status()).state for handle in handles} == {State.DEAD}

    assert calls[:2] == [[0, 1, 2], [0, 1, 2]]
    assert sorted(calls[2:]) == [[0], [1], [2]]


@story
async def test_a_worker_that_stops_hands_a_group_back_whole() -> None:
    app, calls, began = App("memory://", clock=(clock := VirtualClock())), list[list[int]](), asyncio.Event()

    @app.task(gather="10s")
    async def take(numbers: list[int]) -> None:
        calls.append(numbers)
        if len(calls) == 1:
            began.set()
            await asyncio.Event().wait()

    async with working(app, WorkerOptions(stop_within=0)) as worker:
        handles = [await take.send(n) for n in range(3)]
        await clock.advance(10 * SECOND)
        await began.wait()
        worker.stop()
    async with working(app):
        for handle in handles:
            await handle.result()

    assert calls == [[0, 1, 2]] * 2


@story
async def test_sent_by_its_name_alone_a_message_does_not_wait() -> None:
    desk = Desk()
    other = App(desk.app.engine, clock=desk.clock)
    async with other, working(desk.app):
        handle = await other.send("take", 7)
        assert await handle.result() == 14

    assert desk.calls == [[7]]


@story
async def test_on_a_stage_a_group_is_one_step() -> None:
    desk = Desk()
    async with desk.app.testing() as t:
        handles = [await desk.take.send(n) for n in range(3)]
        assert await t.run_all() == []
        await t.advance("10s")
        assert len(await t.run_all()) == 1
        assert [await handle.result() for handle in handles] == [0, 2, 4]

    assert desk.calls == [[0, 1, 2]]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"gather_max": 5}, "gather_max says how messages gather: it goes with gather="),
        ({"gather_wait": 5}, "gather_wait says how messages gather"),
        ({"gather": 5, "batch": 5}, "gather= and batch= do not go together"),
        ({"gather": 5, "within": 5}, "gather= and batch= do not go together"),
        ({"gather": 5, "pool": "process"}, "gather= and pool='process' do not go together"),
        ({"gather": 0}, "gather must be longer than 0"),
        ({"gather": "soon"}, "gather is not a duration: 'soon'"),
        ({"gather": 5, "gather_wait": 6}, "gather_wait must be longer than 0 and no longer than gather, 5: it was 6"),
        ({"gather": 5, "gather_wait": 0}, "gather_wait must be longer than 0"),
        ({"gather": 5, "gather_max": 1}, "gather_max must be a whole number from 2 to 1000"),
        ({"gather": 5, "gather_max": 1_001}, "gather_max must be a whole number from 2 to 1000"),
    ],
)  # fmt: skip
def test_what_cannot_gather_is_refused(options: Any, sentence: str) -> None:
    with pytest.raises(InvalidOption, match=sentence):
        App("memory://").task(**options)


@pytest.mark.parametrize("option", [{"delay": 1}, {"unique": "k"}, {"debounce": 1}, {"throttle": 1}])
def test_what_gathers_says_itself_when_it_runs(option: Any) -> None:
    with pytest.raises(InvalidOption, match=f"its messages gather, .*: leave out {next(iter(option))}"):
        Desk().take.options(**option)


def test_a_bare_bus_refuses_what_gathers() -> None:
    app = App(HostileBus())
    with pytest.raises(Unsupported, match="the hostile engine has no memory for what gathers"):

        @app.task(gather="1m")
        async def take(numbers: list[int]) -> None: ...
