"""A batch that a bus answers item by item: what is unknown is sent again and nothing else, and what has no queue is said."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from forebay import App
from forebay.engine import Stored
from forebay.errors import OutcomeUnknown, Unrouted
from forebay.testing.hostile import Fault, Faults, HostileBus
from tests.runtime.kit import Spied, story


def _app(*faults: Fault | None) -> tuple[App, HostileBus, list[list[str]]]:
    bus = HostileBus(Faults(publish=faults))
    engine, sent = Spied(bus), list[list[str]]()

    async def note(kind: str, given: Any) -> None:
        if kind == "publish":
            sent.append([message.body.decode() for message in given])
            await asyncio.to_thread(list)  # others gather meanwhile

    engine.before = note
    app = App(engine)

    @app.task
    async def job(number: int) -> None: ...

    return app, bus, sent


async def _send(app: App, count: int) -> list[Any]:
    return await app.send_many([app.named("job").bind(number) for number in range(count)])


@story
async def test_only_what_is_unknown_is_sent_again() -> None:
    app, bus, sent = _app(Fault.HALVE, Fault.LOSE_REPLY, None)
    async with app:
        handles = await _send(app, 4)

    assert sent == [_sent(0, 1, 2, 3), _sent(1, 2, 3), _sent(1, 2, 3)]
    queued = [message.id for message in bus.queued("default")]
    assert set(queued) == {handle.id for handle in handles}
    assert queued.count(handles[0].id) == 1, "its answer was there"


@story
async def test_callers_who_share_a_batch_are_answered_each_for_itself() -> None:
    app, bus, _ = _app(None, *[Fault.HALVE] * 10)
    async with app:
        answers = await asyncio.gather(*[app.send("job", n) for n in range(5)], return_exceptions=True)
        with pytest.raises(OutcomeUnknown, match="3 of 4"):
            await _send(app, 4)

    assert [isinstance(answer, OutcomeUnknown) for answer in answers] == [False, False, True, True, True]
    assert len({message.id for message in bus.queued("default")}) >= 3


@story
async def test_a_task_that_no_queue_takes_is_an_error_and_an_event_is_not() -> None:
    app, bus, _ = _app(Fault.UNROUTE, None, Fault.UNROUTE)
    async with app:
        with pytest.raises(Unrouted, match="no queue 'default'"):
            await app.send("job", 1)
        answer = await app.publish("nobody.listens", {})
        with pytest.raises(Unrouted, match="2 of what was sent"):
            await _send(app, 4)

    assert answer.status is Stored.UNROUTED
    assert len(bus.queued("default")) == 2


def _sent(*numbers: int) -> list[str]:
    return [f'{{"number":{number}}}' for number in numbers]
