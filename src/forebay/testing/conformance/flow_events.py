"""Claims about steps of flows that are there for an event: when it counts, what it is to those that come after, when it is too late."""

# ruff: noqa: D103  # the name of a claim says it

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from forebay.model import query as q, verdict as v
from forebay.model.flow import FlowState, Gather, Role
from forebay.model.saved import LARGEST_STEP
from forebay.model.state import State
from forebay.model.survey import Parents
from forebay.model.waits import ForEvent, ForParents
from forebay.model.when import After
from forebay.testing.conformance.flows import FAILED, FLOW, flow_of, key, send, settle, shape, step, work
from forebay.testing.conformance.harness import Harness, but, claims

if TYPE_CHECKING:
    from forebay.engine import Traits
    from forebay.model.message import Message


def wait(h: Harness, name: str, *after: str, of: str | None = "7") -> Message:
    """A step that is there for an event on ``paid``, for as long as a tick."""
    return but(step(name, *after, role=Role.EVENT), name="paid", key=of, expires=After(h.tick))


def paid(h: Harness, of: str | None = "7", body: bytes = b'{"cents":990}') -> Message:
    return but(h.event("paid"), key=of, body=body)


async def result_of(h: Harness, name: str) -> bytes | None:
    return (await h.record(key(name))).result


async def an_event_is_what_its_step_came_to(h: Harness) -> None:
    await send(h, wait(h, "paid"), but(step("ship", "paid", gather=Gather.ONE)))
    assert await shape(h) == {"paid": "blocked", "ship": "blocked"}
    assert (await h.record(key("paid"))).waits == ForEvent(topic="paid", key="7", until=h.now() + h.tick)
    await h.nothing()

    await h.publish(paid(h, of="8"), paid(h, of=None))
    assert await shape(h) == {"paid": "blocked", "ship": "blocked"}
    await h.publish(paid(h))

    assert await shape(h) == {"paid": "succeeded", "ship": "ready"}
    assert await result_of(h, "paid") == b'{"cents":990}'
    (parent,) = await (await h.store()).survey(Parents(of=key("ship")))
    assert parent.result == b'{"cents":990}'
    assert await work(h) == ["ship"]
    assert (await flow_of(h)).state is FlowState.SUCCEEDED


async def an_event_counts_that_comes_before_its_step_waits(h: Harness) -> None:
    await send(h, step("order"), wait(h, "paid", "order"), step("ship", "paid"))
    assert isinstance((await h.record(key("paid"))).waits, ForParents)
    await h.publish(paid(h, body=b"1"), paid(h, body=b"2"))
    assert await shape(h) == {"order": "ready", "paid": "blocked", "ship": "blocked"}
    await h.advance(2 * h.tick)

    assert await work(h) == ["order", "ship"]

    assert await result_of(h, "paid") == b"1", "the first"
    assert (await flow_of(h)).state is FlowState.SUCCEEDED


async def an_event_that_came_before_the_flow_does_not_count(h: Harness) -> None:
    await h.publish(paid(h))

    await send(h, wait(h, "paid"))

    assert await shape(h) == {"paid": "blocked"}


async def an_event_that_comes_too_late_does_not_count(h: Harness) -> None:
    await send(h, wait(h, "paid"), step("ship", "paid"))
    await h.advance(h.tick)
    await h.publish(paid(h))
    await (await h.store()).sweep(100)

    assert await shape(h) == {"paid": "expired", "ship": "parent-failed"}
    assert (await flow_of(h)).state is FlowState.FAILED


async def a_wait_that_is_retried_waits_again(h: Harness) -> None:
    await send(h, wait(h, "paid"), step("ship", "paid"))
    await h.advance(h.tick)
    await (await h.store()).sweep(100)

    await (await h.store()).steer(q.Selector(flow=FLOW, states=FAILED), q.Redrive())
    assert await shape(h) == {"paid": "blocked", "ship": "blocked"}
    await h.publish(paid(h))

    assert await work(h) == ["ship"]


async def an_event_brings_nothing_cancelled_back(h: Harness) -> None:
    await send(h, step("order"), wait(h, "paid", "order"), wait(h, "other"), step("ship", "paid"))
    (delivery,) = await h.take()
    await settle(h, (delivery, v.Cancelled()))
    await h.steer(q.CancelNow(), key("other"))

    await h.publish(paid(h))

    after = {"order": "cancelled", "paid": "parent-failed", "other": "cancelled", "ship": "parent-failed"}
    assert await shape(h) == after


async def a_step_that_runs_adds_one_that_waits(h: Harness) -> None:
    await send(h, step("order"))
    delivery = await h.take_one()

    await h.settle(delivery, v.Done(), wait(h, "paid", "order"), step("ship", "paid"))
    assert await shape(h) == {"order": "succeeded", "paid": "blocked", "ship": "blocked"}
    await h.publish(paid(h))

    assert await work(h) == ["ship"]


async def raw_and_large_events_are_told_apart(h: Harness) -> None:
    await send(h, wait(h, "raw"), wait(h, "large", of="8"))

    await h.publish(but(paid(h, body=b"\xff\x00"), content_type="text/plain"))
    await h.publish(paid(h, of="8", body=b"1" * (LARGEST_STEP + 1)))

    assert await result_of(h, "raw") == b'"/wA="', "in base64, as JSON has bytes"
    assert await h.state(key("large")) is State.SUCCEEDED
    assert await result_of(h, "large") is None


async def one_event_is_for_all_steps_that_wait_for_it(h: Harness) -> None:
    names = [f"w{n}" for n in range(1_500)]
    await send(h, *(wait(h, name) for name in names), step("last", *names))

    await h.publish(paid(h))
    while (await (await h.store()).sweep(1_000)).more:
        pass

    assert await work(h) == ["last"]
    assert (await flow_of(h)).state is FlowState.SUCCEEDED


def _flows(traits: Traits) -> bool:
    return traits.flows


CLAIMS: Final = claims(
    "flow-event",
    _flows,
    an_event_is_what_its_step_came_to,
    an_event_counts_that_comes_before_its_step_waits,
    an_event_that_came_before_the_flow_does_not_count,
    an_event_that_comes_too_late_does_not_count,
    a_wait_that_is_retried_waits_again,
    an_event_brings_nothing_cancelled_back,
    a_step_that_runs_adds_one_that_waits,
    raw_and_large_events_are_told_apart,
    one_event_is_for_all_steps_that_wait_for_it,
)
