"""Claims about flows: which step runs when, what follows from an end, and that nothing of it is lost, doubled or left hanging."""

# ruff: noqa: D103  # the name of a claim says it

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from forebay.engine import Finished, Retention, Settled, Settlement, Source, Stored
from forebay.errors import InvalidOption, Unsupported
from forebay.model import query as q, verdict as v
from forebay.model.flow import OVER, Condition, FlowState, Gather, Role, Step
from forebay.model.message import EntryId, Message, MessageId
from forebay.model.saved import Kind, SavedStep
from forebay.model.state import State
from forebay.model.survey import FlowRecord, Flows, Parent, Parents, StepRecord, Steps
from forebay.model.waits import ForParents
from forebay.model.when import SECOND, After, At
from forebay.testing.clock import Probe, eventually
from forebay.testing.conformance.harness import FAILURE, WORK, Harness, but, claims, ids, refused

if TYPE_CHECKING:
    from forebay.engine import Delivery, Published, Traits

FLOW: Final = "order-42"
ALL: Final = q.Selector(flow=FLOW)
FAILED: Final = frozenset({State.DEAD, State.EXPIRED, State.CANCELLED})
DAY: Final = 86_400 * SECOND
MANY: Final = 3_000


def step(
    name: str,
    *after: str,
    flow: str = FLOW,
    when: Condition = Condition.ALL_SUCCEEDED,
    role: Role = Role.WORK,
    gather: Gather = Gather.NONE,
) -> Message:
    """A step of a flow, after others by their names."""
    place = Step(
        flow=flow,
        name=name,
        after=tuple(f"{flow}:{one}" for one in after),
        when=when,
        role=role,
        gather=gather,
    )
    return Message(id=MessageId(f"{flow}:{name}"), name="job", queue=WORK.queue, body=b"{}", step=place)


def key(name: str, flow: str = FLOW) -> EntryId:
    return EntryId(f"{flow}:{name}")


async def send(h: Harness, *steps: Message) -> list[Published]:
    return list(await (await h.broker()).publish(steps))


async def shape(h: Harness, flow: str = FLOW) -> dict[str, str]:
    """How the steps of a flow stand, by name: their state or, where the flow cancelled them, why."""
    steps = await (await h.store()).survey(Steps(flow=flow, limit=10_000))
    return {
        one.name: one.reason.value if one.reason and one.state is State.CANCELLED else one.state.value
        for one in steps
    }


async def flow_of(h: Harness, flow: str = FLOW) -> FlowRecord:
    (record,) = await (await h.store()).survey(Flows(ids=(flow,)))
    return record


async def work(h: Harness, **verdicts: v.Verdict) -> list[str]:
    """Run all that can be run until nothing can, each step to its verdict, Done if none is named; returns the names in order."""
    names = list[str]()
    while taken := await h.take(1_000):
        await settle(h, *((d, verdicts.get(place(d).name, v.Done())) for d in taken))
        names += [place(d).name for d in taken]
    return names


async def settle(h: Harness, *ends: tuple[Delivery, v.Verdict]) -> None:
    answers = await (await h.broker()).settle([Settlement(d, verdict) for d, verdict in ends])
    assert set(answers) <= {Settled.OK}


def place(delivery: Delivery) -> Step:
    assert delivery.message.step is not None
    return delivery.message.step


DEAD: Final = v.Dead(v.Reason.ASKED, FAILURE)


# -- order and conditions


async def a_step_waits_for_its_parents(h: Harness) -> None:
    await send(h, step("a"), step("b", "a"), step("c", "b"))
    assert await shape(h) == {"a": "ready", "b": "blocked", "c": "blocked"}

    taken = await h.take()

    assert [place(d) for d in taken] == [Step(flow=FLOW, name="a")], "parents are handed out by Parents alone"
    await settle(h, (taken[0], v.Done()))
    assert await shape(h) == {"a": "succeeded", "b": "ready", "c": "blocked"}
    assert await work(h) == ["b", "c"]
    assert (await flow_of(h)).state is FlowState.SUCCEEDED


async def what_comes_together_again_waits_for_all(h: Harness) -> None:
    await send(h, step("top"), step("left", "top"), step("right", "top"), step("end", "left", "right"))
    await settle(h, (await h.take_one(), v.Done()))
    left, right = await h.take()

    await settle(h, (left, v.Done()))
    await h.nothing()
    await settle(h, (right, v.Done()))

    assert await work(h) == ["end"]


async def a_retry_is_no_end(h: Harness) -> None:
    await send(h, step("a"), step("b", "a"), step("c", "a", when=Condition.ALL_DONE))

    await settle(h, (await h.take_one(), v.Retry(After(0), FAILURE)))
    assert (await shape(h))["b"] == "blocked"
    await settle(h, (await h.take_one(), v.Snooze(After(0))))
    await settle(h, (await h.take_one(), v.Release()))
    await settle(h, (await h.take_one(), v.Crashed(FAILURE)))

    assert await work(h) == ["a", "b", "c"]


async def a_dead_step_cancels_what_needed_it_at_once(h: Harness) -> None:
    await send(h, step("a"), step("b", "a"), step("c", "b"), step("d", "c", "b"), step("other"))

    assert await work(h, a=DEAD) == ["a", "other"]

    failed = v.Reason.PARENT_FAILED
    assert await shape(h) == {"a": "dead", "b": failed, "c": failed, "d": failed, "other": "succeeded"}
    record = await h.record(key("d"))
    assert (record.reason, record.finished, record.attempts) == (failed, h.now(), 0)
    flow = await flow_of(h)
    assert (flow.state, flow.finished) == (FlowState.FAILED, h.now())
    assert flow.steps == {State.DEAD: 1, State.CANCELLED: 3, State.SUCCEEDED: 1}


async def conditions_say_when_a_step_runs(h: Harness) -> None:
    cases: tuple[tuple[dict[str, v.Verdict], dict[str, str]], ...] = (
        ({}, {"all": "succeeded", "any": "skipped", "done": "succeeded"}),
        ({"b": DEAD}, {"all": "parent-failed", "any": "succeeded", "done": "succeeded"}),
        (
            {"a": DEAD, "b": v.Cancelled()},
            {"all": "parent-failed", "any": "succeeded", "done": "succeeded"},
        ),
        ({"a": v.Expired()}, {"all": "parent-failed", "any": "succeeded", "done": "succeeded"}),
    )
    for n, (verdicts, expected) in enumerate(cases):
        flow = f"f{n}"
        after = ("a", "b")
        await send(
            h, step("a", flow=flow), step("b", flow=flow), step("all", *after, flow=flow),
            step("any", *after, flow=flow, when=Condition.ANY_FAILED), step("done", *after, flow=flow, when=Condition.ALL_DONE),
        )  # fmt: skip
        await work(h, **verdicts)
        found = await shape(h, flow)
        assert {name: found[name] for name in expected} == expected, verdicts


async def a_step_for_failures_runs_at_the_first(h: Harness) -> None:
    await send(h, step("a"), step("b"), step("alert", "a", "b", when=Condition.ANY_FAILED))
    first, second = await h.take()

    await settle(h, (first, DEAD))

    alert = await h.take_one()
    assert place(alert).name == "alert"
    await settle(h, (second, v.Done()), (alert, v.Done()))
    assert (await flow_of(h)).state is FlowState.FAILED, "that it was handled does not make it good"


async def what_is_not_needed_is_skipped_with_what_follows(h: Harness) -> None:
    await send(
        h, step("a"), step("mend", "a", when=Condition.ANY_FAILED), step("check", "mend"),
        step("log", "mend", "check", when=Condition.ALL_DONE), step("worse", "check", when=Condition.ANY_FAILED),
    )  # fmt: skip

    assert await work(h) == ["a", "log"]

    skipped = v.Reason.SKIPPED
    assert await shape(h) == {
        "a": "succeeded",
        "mend": skipped,
        "check": skipped,
        "log": "succeeded",
        "worse": skipped,
    }
    assert (await flow_of(h)).state is FlowState.SUCCEEDED


async def it_does_not_matter_in_which_order_parents_end(h: Harness) -> None:
    for n, order in enumerate(((0, 1), (1, 0))):
        flow = f"f{n}"
        await send(
            h, step("a", flow=flow), step("b", flow=flow), step("skip", "a", flow=flow, when=Condition.ANY_FAILED),
            step("both", "skip", "b", flow=flow), step("after", "both", flow=flow, when=Condition.ANY_FAILED),
        )  # fmt: skip
        taken = await h.take()
        verdicts = (v.Done(), DEAD)
        for one in order:
            await settle(h, (taken[one], verdicts[one]))
        assert await shape(h, flow) == {
            "a": "succeeded", "b": "dead", "skip": "skipped", "both": "parent-failed", "after": "ready",
        }  # fmt: skip
        await work(h)


async def results_of_parents_are_handed_out_in_their_order_and_by_pages(h: Harness) -> None:
    names = [f"p{n}" for n in range(5)]
    await send(h, *(step(name) for name in names), step("sum", *reversed(names), gather=Gather.ALL))
    for delivery in reversed(await h.take()):
        await settle(
            h, (delivery, v.Done(None if place(delivery).name == "p2" else place(delivery).name[1:].encode()))
        )
    store = await h.store()

    everything = await store.survey(Parents(of=key("sum")))

    assert everything == tuple(
        Parent(
            id=key(name), name=name, state=State.SUCCEEDED, result=None if name == "p2" else name[1:].encode()
        )
        for name in reversed(names)
    )
    first = await store.survey(Parents(of=key("sum"), limit=2))
    assert first == everything[:2]
    assert await store.survey(Parents(of=key("sum"), beyond=first[-1].id, limit=9)) == everything[2:]
    assert await store.survey(Parents(of=key("p0"))) == ()
    assert await store.survey(Parents(of=EntryId("nobody"))) == ()


async def parents_that_failed_say_why(h: Harness) -> None:
    await send(h, step("a"), step("b", "a"), step("c"), step("end", "a", "b", "c", when=Condition.ALL_DONE))
    once = but(FAILURE, type="OSError", traceback="where it was")
    taken = {place(delivery).name: delivery for delivery in await h.take()}
    await settle(h, (taken["a"], v.Dead(v.Reason.ASKED, once)), (taken["c"], v.Retry(After(0), once)))
    assert await work(h) == ["c", "end"]

    found = await (await h.store()).survey(Parents(of=key("end")))

    assert [(one.name, one.reason) for one in found] == [
        ("a", v.Reason.ASKED),
        ("b", v.Reason.PARENT_FAILED),
        ("c", None),
    ]
    assert [one.error for one in found] == [but(once, traceback=""), None, None]


# -- sending


async def a_flow_that_is_there_is_not_begun_again(h: Harness) -> None:
    steps = [step("a"), step("b", "a")]
    plain = h.message()

    first = await send(h, *steps, plain)
    again = await send(h, *steps, step("c"), plain)

    assert [one.status for one in first] == [Stored.STORED] * 3
    assert [(one.status, one.id) for one in again] == [
        (Stored.DUPLICATE, name) for name in (key("a"), key("b"), key("c"), plain.id)
    ]
    assert list(await shape(h)) == ["a", "b"], "two flows with one id are one"
    taken = await h.take()
    assert sorted(ids(taken)) == sorted([key("a"), plain.id])


async def steps_that_could_never_run_are_refused_and_nothing_is_stored(h: Harness) -> None:
    bad: dict[str, list[Message]] = {
        "an unknown parent": [step("a"), step("b", "nobody")],
        "a parent of another flow": [
            step("a"),
            step("a", flow="f2"),
            replace_after(step("b"), key("a", "f2")),
        ],
        "a parent that comes later": [step("b", "a"), step("a")],
        "itself": [step("a", "a")],
        "one id twice": [step("a"), step("a")],
        "a parent twice": [step("a"), step("b", "a", "a")],
        "an event": [but(step("a"), queue=None, topic="t")],
        "two for its end": [step("a"), step("x", role=Role.ON_DONE), step("y", role=Role.ON_DONE)],
        "one for its end with a parent": [step("a"), step("x", "a", role=Role.ON_DONE)],
        "after the one for its end": [step("x", role=Role.ON_DONE), step("a", "x")],
    }
    for what, steps in bad.items():
        with refused(InvalidOption, what):
            await send(h, h.message(), *steps)
    await h.nothing()
    assert await (await h.store()).survey(Flows()) == ()

    await h.publish(but(h.message(), id=MessageId(key("a"))))
    with refused(InvalidOption, "an id that is taken"):
        await send(h, step("a"))


def replace_after(message: Message, *after: EntryId) -> Message:
    assert message.step is not None
    return but(message, step=replace(message.step, after=after))


async def a_flow_is_let_into_full_queues_whole_or_not_at_all(h: Harness) -> None:
    store = await h.store("one", (Source(queue="work", limit=3), Source(queue="other")))
    late = but(step("c", "a"), queue="other")
    plain = but(h.message(), queue="other")

    with refused(InvalidOption, "a flow that has more steps in a queue than may ever wait there"):
        await store.publish([step("a"), step("b", "a"), step("d"), step("e"), late, plain])
    assert (await store.find(q.Query())).records == ()
    before = h.message()
    await store.publish([before])
    full = await store.publish([step("a"), step("b", "a"), step("d"), late, plain])
    assert [one.status for one in full] == [Stored.FULL] * 4 + [Stored.STORED]
    assert {one.refused.queue for one in full[:4] if one.refused is not None} == {"work"}
    assert await store.survey(Flows()) == ()
    await store.steer(q.Selector(ids=(EntryId(before.id),)), q.Delete())

    let_in = await store.publish([step("a"), step("b", "a"), step("d"), late])
    assert [one.status for one in let_in] == [Stored.STORED] * 4
    (message,) = await store.publish([h.message()])
    assert message.status is Stored.FULL, "what is blocked waits as well"
    (again,) = await store.publish([step("a")])
    assert again.status is Stored.DUPLICATE
    assert {queue.queue: queue.states for queue in (await store.count()).queues} == {
        "work": {State.READY: 2, State.BLOCKED: 1},
        "other": {State.READY: 1, State.BLOCKED: 1},
    }


async def options_hold_for_steps_as_for_tasks(h: Harness) -> None:
    await send(
        h, step("root"),
        *(but(step(name, "root"), priority=priority, key="k", due=due) for name, priority, due in (
            ("low", 1, None), ("high", 9, None), ("late", 4, After(h.tick)), ("fixed", 4, At(h.now() + 3 * h.tick)),
        )),
    )  # fmt: skip
    await h.advance(h.tick)

    await settle(h, (await h.take_one(), v.Done()))

    assert await shape(h) == {
        "root": "succeeded",
        "low": "ready",
        "high": "ready",
        "late": "scheduled",
        "fixed": "scheduled",
    }
    assert (await h.record(key("late"))).due == h.now() + h.tick, "a delay counts from the last parent's end"
    taken = await h.take()
    assert [place(d).name for d in taken] == ["high", "low"]
    assert {d.message.key for d in taken} == {"k"}
    await settle(h, *((d, v.Done()) for d in taken))
    await h.advance(h.tick)
    assert await work(h) == ["late"]
    await h.advance(h.tick)
    assert await work(h) == ["fixed"]
    assert (await flow_of(h)).state is FlowState.SUCCEEDED


async def a_step_whose_unique_key_is_taken_is_not_needed(h: Harness) -> None:
    holder = but(h.message(), unique="u")
    await h.publish(holder)

    answers = await send(
        h, step("a"), but(step("b", "a"), unique="u"), step("c", "b"), step("d", "b", when=Condition.ALL_DONE)
    )

    assert [(one.status, one.id) for one in answers][:2] == [
        (Stored.STORED, key("a")),
        (Stored.DUPLICATE, holder.id),
    ]
    assert await shape(h) == {"a": "ready", "b": "duplicate", "c": "skipped", "d": "ready"}
    taken = await h.take()
    await settle(h, *((d, v.Done()) for d in taken))
    assert (await flow_of(h)).state is FlowState.SUCCEEDED


async def a_blocked_step_holds_its_unique_key(h: Harness) -> None:
    await send(h, step("a"), but(step("b", "a"), unique="u"))
    (refused_,) = await send(h, but(h.message(), unique="u"))
    assert (refused_.status, refused_.id) == (Stored.DUPLICATE, key("b"))

    await work(h, a=DEAD)
    other = but(h.message(), unique="u")
    (stored,) = await send(h, other)
    assert stored.status is Stored.STORED
    await h.steer(q.Redrive(), key("a"))

    assert (await shape(h))["b"] == "duplicate", "it cannot wait again: another has its key"
    for delivery in await h.take():
        await settle(h, (delivery, v.Done()))
    assert (await flow_of(h)).state is FlowState.SUCCEEDED


# -- adding


async def a_running_step_adds_steps(h: Harness) -> None:
    await send(h, step("a"), step("b", "a"))
    delivery = await h.take_one()

    more = (step("c", "a"), step("d", "c", "b"), step("a"))
    assert await h.settle(delivery, v.Done(b"1"), *more) is Settled.OK
    assert await h.settle(delivery, v.Done(b"1"), *more) is Settled.OK

    assert await shape(h) == {"a": "succeeded", "b": "ready", "c": "ready", "d": "blocked"}
    assert sorted(await work(h)) == ["b", "c", "d"]
    assert (await flow_of(h)).state is FlowState.SUCCEEDED


async def what_a_step_adds_after_failed_ones_stands_by_that(h: Harness) -> None:
    await send(h, step("a"), step("b"), step("c"))
    await work_one(h, "a", DEAD)
    delivery = await take_named(h, "b")

    await h.settle(
        delivery, v.Done(), step("d", "a"), step("e", "a", when=Condition.ANY_FAILED), step("f", "d"),
        step("g", "a", "c", when=Condition.ALL_DONE),
    )  # fmt: skip

    found = await shape(h)
    assert [found[name] for name in "defg"] == ["parent-failed", "ready", "parent-failed", "blocked"]


async def take_named(h: Harness, name: str) -> Delivery:
    taken = await h.take()
    wanted = next(d for d in taken if place(d).name == name)
    await settle(h, *((d, v.Release()) for d in taken if d is not wanted))
    return wanted


async def work_one(h: Harness, name: str, verdict: v.Verdict) -> None:
    await settle(h, (await take_named(h, name), verdict))


async def what_a_stale_settle_adds_is_not_there(h: Harness) -> None:
    await send(h, step("a"), step("b", "a"))
    delivery = await h.take_one()
    await h.lose()

    assert await h.settle(delivery, v.Done(), step("c", "a")) is Settled.STALE
    assert list(await shape(h)) == ["a", "b"]
    again = await h.take_one()
    assert await h.settle(again, DEAD, step("c", "a")) is Settled.OK
    assert await shape(h) == {"a": "dead", "b": "parent-failed"}, "only a Done has anything follow"


async def steps_are_added_by_steps_of_their_flow_alone(h: Harness) -> None:
    await send(h, step("a"))
    await h.publish(h.message())
    first, second = await h.take()

    await h.settle(second, v.Done(), step("x", "a"), step("sub", flow="f2"), step("more", "sub", flow="f2"))
    await h.settle(first, v.Done(), step("y", flow="f2"))

    assert await shape(h) == {"a": "succeeded"}
    assert await shape(h, "f2") == {"sub": "ready", "more": "blocked"}, "a flow that is not there is begun"


async def adding_what_could_never_run_is_refused_and_nothing_ends(h: Harness) -> None:
    await send(h, step("a"))
    delivery = await h.take_one()

    with refused(InvalidOption, "settle with a step after an unknown one"):
        await h.settle(delivery, v.Done(), step("b", "nobody"))
    with refused(InvalidOption, "settle with a hook"):
        await h.settle(delivery, v.Done(), step("b", role=Role.ON_DONE))

    assert await h.state(delivery.id) is State.RUNNING
    assert await h.settle(delivery, v.Done()) is Settled.OK


# -- the end of a flow


async def a_hook_runs_when_the_rest_is_over(h: Harness) -> None:
    for flow, verdict, ran, other in (("good", v.Done(), "well", "badly"), ("bad", DEAD, "badly", "well")):
        await send(
            h, step("well", flow=flow, role=Role.ON_DONE), step("a", flow=flow), step("b", "a", flow=flow),
            step("badly", flow=flow, role=Role.ON_FAILED),
        )  # fmt: skip
        first = await h.take()
        assert [place(d).name for d in first] == ["a"]
        await settle(h, (first[0], v.Done()))
        await work_one(h, "b", verdict)
        assert (await flow_of(h, flow)).state is FlowState.RUNNING
        assert (await shape(h, flow))[other] == "skipped"
        assert await work(h) == [ran]
        assert (await flow_of(h, flow)).state is (FlowState.FAILED if flow == "bad" else FlowState.SUCCEEDED)


async def who_waits_for_a_flow_hears_of_its_end(h: Harness) -> None:
    await send(h, step("a"), step("b", "a"), step("c", "b"))
    store = await h.store()
    heard: set[EntryId] = set()
    listens = Probe[None]("listens")

    async def listen() -> None:
        async for ended in store.watch(Finished()):
            listens.hit(None)
            heard.update(ended or ())

    async with asyncio.TaskGroup() as group:
        listening = group.create_task(listen())
        await listens.wait(1)
        await work(h)
        await eventually(lambda: EntryId(FLOW) in heard, what="the flow's end was told")
        listening.cancel()


async def the_end_of_a_flow_wakes_a_handler_that_waits_for_it(h: Harness) -> None:
    await h.publish(h.message())
    waiter = await h.take_one()
    due = h.now() + DAY
    wait = SavedStep(name="flow", kind=Kind.WAIT, position=1, due=due, topic=OVER, key=FLOW)
    await (await h.store()).save(waiter, [wait])
    await h.settle(waiter, v.Snooze(At(due), awaits=True))
    await send(h, step("a"), step("b", "a"))
    await send(h, step("a", flow="other"))

    await settle(h, *((d, v.Done()) for d in await h.take(10)))
    (last,) = await h.take(10)
    assert place(last).name == "b"
    await settle(h, (last, v.Dead(v.Reason.ASKED, FAILURE)))

    (again,) = await h.take(10)
    assert (again.id, again.attempts) == (waiter.id, 0)
    (met,) = await (await h.store()).saved(waiter.id)
    assert met.met is not None


async def a_step_for_an_event_waits_from_its_release(h: Harness) -> None:
    wait = but(step("paid", "a", role=Role.EVENT), expires=After(h.tick))
    await send(h, step("a"), wait, step("b", "paid"))
    await h.advance(2 * h.tick)
    await settle(h, (await h.take_one(), v.Done()))

    assert (await shape(h))["paid"] == "blocked"
    assert (await h.record(key("paid"))).expires == h.now() + h.tick
    await h.nothing()
    await h.advance(h.tick + 1)
    await (await h.store()).sweep(100)
    assert await shape(h) == {"a": "succeeded", "paid": "expired", "b": "parent-failed"}

    await h.steer(q.Redrive(), key("paid"))
    assert await shape(h) == {"a": "succeeded", "paid": "blocked", "b": "blocked"}
    assert (await h.record(key("paid"))).expires == h.now() + h.tick


async def a_step_that_expires_while_it_waits_fails_what_needs_it(h: Harness) -> None:
    await send(h, step("a"), but(step("b", "a"), expires=After(h.tick)), step("c", "b"))
    await h.advance(h.tick + 1)
    await (await h.store()).sweep(100)

    assert await shape(h) == {"a": "ready", "b": "expired", "c": "parent-failed"}
    await work(h)
    assert (await flow_of(h)).state is FlowState.FAILED


async def a_step_that_crashes_too_often_fails_what_needs_it(h: Harness) -> None:
    await send(h, step("a"), step("b", "a"))
    for _ in range(h.options.timing.crashes):
        await h.take_one()
        await h.lose()

    assert await shape(h) == {"a": "dead", "b": "parent-failed"}


# -- commands


async def a_cancelled_flow_runs_nothing_more(h: Harness) -> None:
    await send(
        h, step("a"), step("run"), step("b", "a"), step("alert", "a", when=Condition.ANY_FAILED), step("hook", role=Role.ON_FAILED)
    )  # fmt: skip
    running = await take_named(h, "run")

    told = await (await h.store()).steer(ALL, q.CancelNow())

    assert told == q.Steered(changed=4, asked=1)
    await h.nothing()
    assert await h.settle(running, v.Retry(After(0), FAILURE)) is Settled.OK
    assert set((await shape(h)).values()) == {"cancelled"}
    flow = await flow_of(h)
    assert (flow.state, flow.steps) == (FlowState.CANCELLED, {State.CANCELLED: 5})


async def one_cancelled_step_fails_what_needs_it(h: Harness) -> None:
    await send(h, step("a"), step("b", "a"), step("c", "b"), step("d"))

    await h.steer(q.CancelNow(), key("b"))

    assert await shape(h) == {"a": "ready", "b": "cancelled", "c": "parent-failed", "d": "ready"}
    await work(h)
    assert (await flow_of(h)).state is FlowState.CANCELLED


async def a_retried_flow_runs_again_from_where_it_failed(h: Harness) -> None:
    await send(
        h, step("good"), step("bad", "good"), step("next", "bad"), step("last", "next", "good"),
        step("alert", "bad", when=Condition.ANY_FAILED), step("well", role=Role.ON_DONE), step("badly", role=Role.ON_FAILED),
    )  # fmt: skip
    assert await work(h, bad=DEAD, alert=DEAD) == ["good", "bad", "alert", "badly"]
    assert (await flow_of(h)).state is FlowState.FAILED

    told = await (await h.store()).steer(q.Selector(flow=FLOW, states=FAILED), q.Redrive())

    assert (told.changed, told.skipped) == (2, {"parent-failed": 2, "skipped": 1})
    assert await shape(h) == {
        "good": "succeeded", "bad": "ready", "next": "blocked", "last": "blocked", "alert": "blocked", "well": "blocked",
        "badly": "succeeded",
    }  # fmt: skip
    flow = await flow_of(h)
    assert (flow.state, flow.finished) == (FlowState.RUNNING, None)
    assert await work(h) == ["bad", "next", "last", "well"]
    assert (await shape(h))["alert"] == "skipped"
    assert (await flow_of(h)).state is FlowState.SUCCEEDED


async def what_its_flow_cancelled_does_not_open_by_itself(h: Harness) -> None:
    await send(h, step("a"), step("b", "a"), step("c", "a", when=Condition.ANY_FAILED), step("d", "c"))
    await work(h, a=DEAD)
    store = await h.store()

    assert await store.steer(q.Selector(ids=(key("b"),)), q.Redrive()) == q.Steered(
        skipped={"parent-failed": 1}
    )
    assert (await shape(h))["b"] == "parent-failed"
    await h.steer(q.Redrive(), key("a"))
    assert (await shape(h))["b"] == "blocked"


async def a_cancelled_flow_that_is_retried_waits_as_it_did(h: Harness) -> None:
    await send(
        h,
        step("a"),
        step("b", "a"),
        but(step("c", "b"), due=After(h.tick)),
        step("alert", "a", when=Condition.ANY_FAILED),
    )
    await (await h.store()).steer(ALL, q.CancelNow())

    told = await (await h.store()).steer(q.Selector(flow=FLOW, states=FAILED), q.Redrive())

    assert told.changed == 4
    assert await shape(h) == {"a": "ready", "b": "blocked", "c": "blocked", "alert": "blocked"}
    assert await work(h) == ["a", "b", "c"]
    assert (await shape(h))["alert"] == "skipped"


async def a_step_is_deleted_with_its_flow_alone(h: Harness) -> None:
    await send(h, step("a"), step("b", "a"))
    await h.publish(h.message())
    store = await h.store()

    assert await store.steer(q.Selector(ids=(key("a"),)), q.Delete()) == q.Steered(
        skipped={q.PART_OF_FLOW: 1}
    )
    assert await store.steer(ALL, q.Delete()) == q.Steered(skipped={q.FLOW_RUNS: 2})
    assert await store.steer(q.Selector(flow="nobody"), q.Delete()) == q.Steered(skipped={q.NOT_FOUND: 1})
    assert await store.steer(q.Selector(queue=WORK.queue), q.Delete()) == q.Steered(
        changed=1, skipped={q.PART_OF_FLOW: 2}
    )
    await work(h)
    assert await store.steer(ALL, q.Delete()) == q.Steered(changed=2)

    await eventually_gone(h)
    assert await h.states() == {}
    assert [one.status for one in await send(h, step("a"), step("b", "a"))] == [Stored.STORED] * 2


async def eventually_gone(h: Harness, flow: str = FLOW) -> None:
    """Its rows go in several transactions."""
    store = await h.store()
    for _ in range(100):
        if not (await store.find(q.Query(which=q.Selector(flow=flow)))).records:
            break
        await store.sweep(1_000)
    assert await store.survey(Flows(ids=(flow,))) == ()
    assert await store.survey(Steps(flow=flow)) == ()


# -- looking


async def a_flow_and_its_steps_are_found(h: Harness) -> None:
    await send(h, step("a"), step("b", "a"), step("c", "a", "b"))
    await h.advance(SECOND)
    await send(h, step("x", flow="f2"))
    await h.publish(h.message())
    store = await h.store()

    assert ids((await store.find(q.Query(which=ALL, oldest_first=True))).records) == [key(n) for n in "abc"]
    assert ids(
        (await store.find(q.Query(which=replace(ALL, states=frozenset({State.BLOCKED}))))).records
    ) == [key("c"), key("b")]
    assert [flow.id for flow in await store.survey(Flows())] == ["f2", FLOW]
    assert [flow.id for flow in await store.survey(Flows(limit=1))] == ["f2"]
    assert [flow.id for flow in await store.survey(Flows(before=h.now()))] == [FLOW]
    assert await store.survey(Flows(state=FlowState.FAILED)) == ()
    assert await flow_of(h) == FlowRecord(
        id=FLOW, state=FlowState.RUNNING, created=h.now() - SECOND, steps={State.READY: 1, State.BLOCKED: 2}
    )
    steps = await store.survey(Steps(flow=FLOW))
    assert steps[2] == StepRecord(
        id=key("c"), name="c", task="job", queue="work", state=State.BLOCKED, when=Condition.ALL_SUCCEEDED, role=Role.WORK,
        after=(key("a"), key("b")), open=2,
    )  # fmt: skip
    assert await store.survey(Steps(flow=FLOW, limit=1)) == steps[:1]
    assert await store.survey(Steps(flow=FLOW, beyond=steps[0].id)) == steps[1:]
    assert (await h.record(key("c"))).waits == ForParents(open=2, first=("a", "b"))
    assert (await h.record(key("a"))).waits is None
    (brief,) = (await store.find(q.Query(which=q.Selector(ids=(key("c"),)), brief=True))).records
    assert brief.waits is None
    assert (await h.states())[State.BLOCKED] == 2


# -- many


async def a_long_chain_fails_to_its_end(h: Harness) -> None:
    await send(h, step("0"), *(step(str(n), str(n - 1)) for n in range(1, MANY)))

    assert await work(h, **{"0": DEAD}) == ["0"]

    await settled_down(h)
    flow = await flow_of(h)
    assert (flow.state, flow.steps) == (FlowState.FAILED, {State.DEAD: 1, State.CANCELLED: MANY - 1})
    await (await h.store()).steer(q.Selector(flow=FLOW, states=FAILED), q.Redrive())
    flow = await flow_of(h)
    assert (flow.state, flow.finished) == (FlowState.RUNNING, None), "at once, though not all have been told"
    await settled_down(h)
    flow = await flow_of(h)
    assert flow.steps == {State.READY: 1, State.BLOCKED: MANY - 1}


async def many_at_once_are_released_and_gathered(h: Harness) -> None:
    names = [str(n) for n in range(MANY)]
    await send(h, step("first"), *(step(name, "first") for name in names), step("end", *names))

    await settle(h, (await h.take_one(), v.Done()))
    await settled_down(h)
    assert (await flow_of(h)).steps == {State.SUCCEEDED: 1, State.READY: MANY, State.BLOCKED: 1}
    ran = Counter(await work(h))
    await settled_down(h)
    ran.update(await work(h))

    assert ran == Counter([*names, "end"]), "each ran, and once"
    await settled_down(h)
    assert (await flow_of(h)).state is FlowState.SUCCEEDED


async def settled_down(h: Harness) -> None:
    """What an end has set off goes on in several transactions, as many as it has thousands of steps and edges to tell."""
    store = await h.store()
    for _ in range(4 * MANY // 1_000):
        await store.sweep(1_000)


# -- retention


async def a_flow_is_forgotten_as_a_whole_when_it_is_over_for_long(h: Harness) -> None:
    store = await h.store()
    await send(h, step("a"), step("b", "a"))
    await send(h, step("a", flow="bad"))
    await settle(h, (await take_named(h, "a"), v.Done()))
    await h.advance(DAY + 1)
    await store.sweep(1_000)
    assert await shape(h) == {"a": "succeeded", "b": "ready"}, "a step is not forgotten before its flow"
    await work_one(h, "a", DEAD)
    await work(h)
    await h.advance(DAY)

    swept = await store.sweep(1_000)

    assert swept.deleted == 2
    await eventually_gone(h)
    assert await shape(h, "bad") == {"a": "dead"}, "what failed is kept as dead letters are"
    assert await h.states() == {State.DEAD: 1}


async def a_cap_counts_the_steps_of_flows(h: Harness) -> None:
    store = await h.store()
    for n in range(3):
        flow = f"f{n}"
        await send(h, step("a", flow=flow), step("b", "a", flow=flow))
        await work(h)
        await h.advance(SECOND)
    await h.publish(h.message())
    for delivery in await h.take():
        await h.settle(delivery, v.Done())

    swept = await store.sweep(1_000)

    assert swept.deleted == 4
    await eventually_gone(h, "f1")
    assert [flow.id for flow in await store.survey(Flows())] == ["f2"]
    assert await h.states() == {State.SUCCEEDED: 3}


def _flows(traits: Traits) -> bool:
    return traits.flows


async def without_flows_a_step_is_refused(h: Harness) -> None:
    with refused(Unsupported, "publish a step"):
        await h.publish(step("a"))
    await h.nothing()


CLAIMS: Final = (
    *claims(
        "flow",
        _flows,
        a_step_waits_for_its_parents,
        what_comes_together_again_waits_for_all,
        a_retry_is_no_end,
        a_dead_step_cancels_what_needed_it_at_once,
        conditions_say_when_a_step_runs,
        a_step_for_failures_runs_at_the_first,
        what_is_not_needed_is_skipped_with_what_follows,
        it_does_not_matter_in_which_order_parents_end,
        results_of_parents_are_handed_out_in_their_order_and_by_pages,
        parents_that_failed_say_why,
        a_flow_that_is_there_is_not_begun_again,
        steps_that_could_never_run_are_refused_and_nothing_is_stored,
        options_hold_for_steps_as_for_tasks,
        a_step_whose_unique_key_is_taken_is_not_needed,
        a_blocked_step_holds_its_unique_key,
        a_running_step_adds_steps,
        what_a_step_adds_after_failed_ones_stands_by_that,
        what_a_stale_settle_adds_is_not_there,
        steps_are_added_by_steps_of_their_flow_alone,
        adding_what_could_never_run_is_refused_and_nothing_ends,
        a_hook_runs_when_the_rest_is_over,
        who_waits_for_a_flow_hears_of_its_end,
        the_end_of_a_flow_wakes_a_handler_that_waits_for_it,
        a_step_for_an_event_waits_from_its_release,
        a_step_that_expires_while_it_waits_fails_what_needs_it,
        a_step_that_crashes_too_often_fails_what_needs_it,
        a_cancelled_flow_runs_nothing_more,
        one_cancelled_step_fails_what_needs_it,
        a_retried_flow_runs_again_from_where_it_failed,
        what_its_flow_cancelled_does_not_open_by_itself,
        a_cancelled_flow_that_is_retried_waits_as_it_did,
        a_step_is_deleted_with_its_flow_alone,
        a_flow_and_its_steps_are_found,
        a_long_chain_fails_to_its_end,
        many_at_once_are_released_and_gathered,
    ),
    *claims("flow", lambda t: t.flows and t.limits, a_flow_is_let_into_full_queues_whole_or_not_at_all),
    *claims(
        "flow",
        _flows,
        a_flow_is_forgotten_as_a_whole_when_it_is_over_for_long,
        retention=Retention(succeeded=DAY, cancelled=DAY, dead=None),
    ),
    *claims(
        "flow", _flows, a_cap_counts_the_steps_of_flows, retention=Retention(succeeded=None, succeeded_cap=3)
    ),
    *claims("refusal", lambda t: not t.flows, without_flows_a_step_is_refused),
)
