"""Unique tasks, debounce and throttle as senders see them: what is asked for, what runs, what their handles say."""

from __future__ import annotations

import re
from typing import Any

import pytest

from forebay import App, Context, Debounce, Task, Unique
from forebay.errors import DuplicateTask, InvalidArguments, InvalidOption, Unsupported
from forebay.testing.hostile import HostileBus
from tests.runtime.kit import story


class Desk:
    """An App with a task, and what it did."""

    def __init__(self) -> None:
        self.ran: list[tuple[int, str]] = []
        self.app = App("memory://")

        @self.app.task()
        async def job(number: int, text: str = "") -> str:
            self.ran.append((number, text))
            return text

        self.job: Task[..., str, Any, Any] = job


@story
async def test_arguments_are_the_key_of_what_is_unique_by_them() -> None:
    desk = Desk()
    async with desk.app.testing() as t:
        once = desk.job.options(unique=True)
        first = await once.send(1, "a")
        again = await once.send(number=1, text="a")
        await once.send(2, "a")

        assert (again.id, again.duplicate, first.duplicate) == (first.id, True, False)
        await t.run_all()
        assert desk.ran == [(1, "a"), (2, "a")]
        assert not (await once.send(1, "a")).duplicate, "it has ended"


@story
async def test_some_arguments_may_be_the_key() -> None:
    desk = Desk()
    async with desk.app.testing() as t:
        numbered = desk.job.options(unique=Unique(args=["number"]))
        first = await numbered.send(1, "a")

        assert (await numbered.send(1, "b")).id == first.id
        assert (
            await desk.app.named("job").options(unique=Unique(args=["number"])).send(number=1)
        ).id == first.id
        with pytest.raises(InvalidArguments, match="name its arguments"):
            await desk.app.named("elsewhere").options(unique=Unique(args=["number"])).send(1)
        await t.run_all()
        assert desk.ran == [(1, "a")]


def test_an_argument_that_is_none_cannot_be_the_key() -> None:
    with pytest.raises(
        InvalidOption, match=re.escape("job has no parameter 'nmber': did you mean 'number'?")
    ):
        Desk().job.options(unique=Unique(args=["nmber"]))


@pytest.mark.parametrize("args", [7, {"number"}, "number", [1], [""]])
def test_what_names_no_arguments_is_refused(args: Any) -> None:
    with pytest.raises(InvalidOption, match=r"Unique\(args=.*\) names arguments"):
        Unique(args=args)


@story
async def test_until_it_starts_and_for_a_time() -> None:
    desk = Desk()
    async with desk.app.testing() as t:
        hourly = desk.job.options(unique=Unique("k", until="1h"))
        await hourly.send(1, "a")
        await t.run_all()
        assert (await hourly.send(2, "b")).duplicate
        await t.advance("1h")
        assert not (await hourly.send(3, "c")).duplicate
        await t.run_all()
        assert desk.ran == [(1, "a"), (3, "c")]


@story
async def test_what_runs_does_not_stop_what_is_unique_until_it_starts() -> None:
    app, seen = App("memory://"), list[bool]()

    @app.task()
    async def look(ctx: Context, depth: int) -> None:
        if depth:
            handle = await look.options(unique=Unique("look", until="started")).send(depth - 1)
            seen.append(handle.duplicate)

    async with app.testing() as t:
        await look.options(unique=Unique("look", until="started")).send(2)
        await t.run_all()

    assert seen == [False, False]


@story
async def test_who_asks_for_it_is_rejected_and_told_whose_key_it_is() -> None:
    desk = Desk()
    async with desk.app.testing():
        first = await desk.job.options(unique="k").send(1)
        strict = desk.job.options(unique=Unique("k", on_conflict="reject"))

        with pytest.raises(
            DuplicateTask, match="has the unique key already, so that it was not stored"
        ) as raised:
            await strict.send(2)
        assert raised.value.task_id == first.id

        with pytest.raises(DuplicateTask, match="2 of 3 were not stored") as many:
            await desk.app.send_many([strict.bind(3), desk.job.bind(4), strict.bind(5)])
        assert [handle is None for handle in many.value.handles] == [True, False, True]


@story
async def test_one_that_waits_may_be_replaced_or_moved() -> None:
    desk = Desk()
    async with desk.app.testing() as t:
        first = await desk.job.options(unique="k", delay="1h").send(1, "old")
        newer = await desk.job.options(unique=Unique("k", on_conflict="replace"), delay="30m").send(2, "new")
        assert (newer.id, newer.duplicate) == (first.id, True)
        await desk.job.options(unique=Unique("k", on_conflict="reschedule"), delay="2h").send(3, "newest")

        await t.advance("1h")
        assert await t.run_all() == []
        await t.advance("1h")
        await t.run_all()

        assert desk.ran == [(2, "new")]
        assert await first.result() == "new"


@story
async def test_what_is_debounced_runs_once_it_is_quiet_with_the_last_arguments() -> None:
    desk = Desk()
    async with desk.app.testing() as t:
        calm = desk.job.options(debounce="10s", key="k")
        handles = [await calm.send(1, "a")]
        for text in ("b", "c"):
            await t.advance("9s")
            handles.append(await calm.send(1, text))
        await desk.job.options(debounce="10s", key="other").send(2, "x")
        await t.advance("9s")
        assert await t.run_all() == []

        await t.advance("1s")
        await t.run_all()

        assert desk.ran == [(1, "c"), (2, "x")]
        assert {handle.id for handle in handles} == {handles[0].id}
        assert [handle.duplicate for handle in handles] == [False, True, True]
        assert [await handle.result() for handle in handles] == ["c", "c", "c"]
        assert not (await calm.send(1, "d")).duplicate
        t.assert_sent(desk.job, 1, "d", debounce="10s", key="k")
        t.assert_not_sent(desk.job, 1, "d", debounce="11s", key="k")


@story
async def test_what_is_debounced_runs_however_it_goes_on_if_there_is_a_longest_wait() -> None:
    desk = Desk()
    async with desk.app.testing() as t:
        calm = desk.job.options(debounce=Debounce("10s", longest="25s"))
        for number in range(5):
            await calm.send(number)
            await t.run_all()
            await t.advance("6s")
        await t.run_all()

    assert desk.ran == [(4, "")], "25 s after the first, with what was the last then"


@story
async def test_what_is_throttled_runs_at_once_and_not_again_for_a_time() -> None:
    desk = Desk()
    async with desk.app.testing() as t:
        sparing = desk.job.options(throttle="1m", key="k")
        for number in range(5):
            await sparing.send(number)
            await t.run_all()
            await t.advance("20s")

    assert desk.ran == [(0, ""), (3, "")]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"unique": "k", "debounce": "1s"}, "unique and debounce do not go together"),
        ({"debounce": "1s", "throttle": "1s"}, "debounce and throttle do not go together"),
        ({"debounce": "1s", "delay": "1s"}, "debounce says when it runs: leave out delay"),
        ({"debounce": None}, "debounce is not a duration"),
        ({"throttle": "x"}, "throttle is not a duration"),
        ({"unique": False}, "unique must be Unicode text of 1 to 200 characters"),
        ({"unique": 7}, "unique must be Unicode text of 1 to 200 characters, True for the arguments, or a Unique, not 7"),
        ({"unique": Unique("k" * 201)}, "must be Unicode text of 1 to 200 characters"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(options: Any, sentence: str) -> None:
    with pytest.raises(InvalidOption, match=re.escape(sentence)):
        Desk().job.options(**options)


def test_the_last_word_counts() -> None:
    job = Desk().job

    assert job.options(debounce="1s").options(unique="k").draft.rule is None
    assert job.options(unique="k").options(throttle="1s").draft.fixed == {}
    assert job.options(throttle="1s").options(priority=3).draft.rule is not None


@story
async def test_events_are_unique_by_a_key_alone() -> None:
    async with (app := App("memory://")):
        with pytest.raises(InvalidOption, match=re.escape("publish(unique=...) takes text")):
            await app.publish("a.b", 1, unique=Unique("k"))  # type: ignore[arg-type]  # that is the test
        with pytest.raises(InvalidOption, match="has no option 'debounce'"):
            await app.publish("a.b", 1, debounce="1s")  # type: ignore[call-arg]  # that is the test


@story
async def test_a_bare_bus_refuses() -> None:
    app = App(HostileBus())

    @app.task()
    async def job() -> None: ...

    async with app:
        for options in ({"unique": True}, {"throttle": "1m"}):
            with pytest.raises(Unsupported, match="memory, so no unique keys"):
                await job.options(**options).send()
