"""Flows as they are written: which messages they become, and what is refused, before anything is sent."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from forebay import App, Flow, Unique, chain, chord, group
from forebay.errors import InvalidArguments, InvalidName, InvalidOption, NameTaken, Unsupported
from forebay.model.flow import LONGEST_FLOW, Condition, Gather, Role
from forebay.model.when import SECOND, After, At
from forebay.testing.hostile import HostileBus

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebay.model.message import Message

app = App("memory://")


@app.task
async def download(url: str) -> bytes:
    return url.encode()


@app.task
async def resize(image: bytes, size: int) -> str:
    return f"{image!r}@{size}"


@app.task(queue="web")
async def publish(thumbs: list[str], *, to: str = "cdn") -> int:
    return len(thumbs)


@app.task
async def clean(days: int = 3) -> None: ...


@app.task
async def alert() -> None: ...


@app.task
async def total(*numbers: int) -> int:
    return sum(numbers)


def sent(flow: Any) -> list[Message]:
    return list(flow.messages(app._client.ground.composer))


def drawn(flow: Any) -> dict[str, tuple[str, ...]]:
    """Each step by name, with the names of those it waits for."""
    steps = [message.step for message in sent(flow)]
    return {
        step.name: tuple(one.rpartition(":")[2] for one in step.after) for step in steps if step is not None
    }


def step(flow: Any, name: str) -> Any:
    return next(message.step for message in sent(flow) if message.step and message.step.name == name)


def test_a_flow_becomes_one_message_for_each_step() -> None:
    flow = app.flow("order-42")
    fetch = flow.add(download.bind("a"))
    thumbs = [flow.add(resize.bind(size=size), after=fetch, gather=True) for size in (1, 2)]
    flow.add(publish.bind(), after=thumbs, gather=True)
    flow.add(alert.options(priority=9).bind(), after=thumbs, when="any_failed", name="cry")

    messages = sent(flow)
    steps = [message.step for message in messages]

    assert [message.id for message in messages] == [
        f"order-42:{name}" for name in ("download", "resize", "resize-2", "publish", "cry")
    ]
    assert [message.name for message in messages] == ["download", "resize", "resize", "publish", "alert"]
    assert messages[3].queue == "web"
    assert messages[4].priority == 9
    assert {one.flow for one in steps if one} == {"order-42"}
    assert drawn(flow)["publish"] == ("resize", "resize-2")
    assert [one.gather for one in steps if one] == [
        Gather.NONE,
        Gather.ONE,
        Gather.ONE,
        Gather.ALL,
        Gather.NONE,
    ]
    assert step(flow, "cry").when is Condition.ANY_FAILED
    assert messages[1].body == b'{"size":1}'


def test_a_list_of_one_is_gathered_as_a_list() -> None:
    flow = app.flow()
    one = flow.add(resize.bind(b"x", 1))
    flow.add(publish.bind(), after=[one], gather=True)

    assert step(flow, "publish").gather is Gather.ALL


def test_a_flow_written_twice_has_the_same_ids() -> None:
    def made() -> Flow:
        flow = app.flow("x")
        flow.add(chord([resize.bind(b"", n) for n in range(3)], publish.bind()))
        return flow

    assert sent(made()) == sent(made())


def test_flows_without_an_id_have_ids_of_their_own() -> None:
    assert app.flow().id != app.flow().id


def test_short_forms_say_the_same_as_steps() -> None:
    assert drawn(chain(download.bind("a"), resize.bind(size=1)).flow("x")) == {
        "download": (),
        "resize": ("download",),
    }
    assert drawn(group([alert.bind(), clean.bind()]).flow("x")) == {"alert": (), "clean": ()}
    assert drawn(chord([resize.bind(b"", 1), resize.bind(b"", 2)], publish.bind()).flow("x")) == {
        "resize": (),
        "resize-2": (),
        "publish": ("resize", "resize-2"),
    }


def test_short_forms_can_be_nested() -> None:
    thumbs = group([resize.bind(size=1), chain(resize.bind(size=2), clean.bind())])
    flow = chain(download.bind("a"), thumbs, alert.bind()).flow("x")

    assert drawn(flow) == {
        "download": (),
        "resize": ("download",),
        "resize-2": ("download",),
        "clean": ("resize-2",),
        "alert": ("resize", "clean"),
    }
    assert step(flow, "resize").gather is Gather.ONE
    assert step(flow, "clean").gather is Gather.NONE


def test_a_part_is_added_behind_a_step_under_a_name_of_its_own() -> None:
    flow = app.flow("x")
    fetch = flow.add(download.bind("a"))
    ends = flow.add(group([resize.bind(size=1), resize.bind(size=2)]), after=fetch, gather=True, name="small")
    flow.add(publish.bind(), after=ends, gather=True)

    assert drawn(flow) == {
        "download": (),
        "small.resize": ("download",),
        "small.resize-2": ("download",),
        "publish": ("small.resize", "small.resize-2"),
    }
    assert step(flow, "publish").gather is Gather.ALL


def test_a_chain_of_thousands_is_laid_without_recursion() -> None:
    whole: Any = alert.bind()
    for _ in range(3_000):
        whole = chain(whole, alert.bind())

    assert len(drawn(whole.flow("x"))) == 3_001


def test_a_flow_is_added_to_another_under_its_id() -> None:
    inner = app.flow("thumbs")
    fetch = inner.add(download.bind("a"))
    inner.add(resize.bind(size=1), after=fetch, gather=True)
    outer = app.flow("x")
    first = outer.add(alert.bind())
    ends = outer.add(inner, after=first, when="all_done")
    outer.add(clean.bind(), after=ends)

    assert drawn(outer) == {
        "alert": (),
        "thumbs.download": ("alert",),
        "thumbs.resize": ("thumbs.download",),
        "clean": ("thumbs.resize",),
    }
    assert [message.id for message in sent(outer)][1] == "x:thumbs.download"
    assert step(outer, "thumbs.download").when is Condition.ALL_DONE
    assert step(outer, "thumbs.resize").when is Condition.ALL_SUCCEEDED


def test_a_group_of_one_that_is_added_as_a_flow_is_gathered_as_a_list() -> None:
    outer = app.flow("x")
    ends = outer.add(group([resize.bind(b"", 1)]).flow("inner"))
    outer.add(publish.bind(), after=ends, gather=True)

    assert step(outer, "publish").gather is Gather.ALL


def test_a_flow_that_is_added_to_another_ends_with_it() -> None:
    inner = app.flow("inner", deadline="2h")
    inner.add(alert.options(deadline="1m").bind())
    inner.add(alert.bind())
    inner.wait_for("paid", timeout="3h")
    outer = app.flow("x", deadline="1h")
    outer.add(inner)

    deadlines = [(message.deadline, message.expires) for message in sent(outer)]

    minute, hour = After(60 * SECOND), After(3_600 * SECOND)
    assert deadlines == [(minute, hour), (hour, hour), (hour, After(3 * 3_600 * SECOND))]


def test_steps_are_named_and_may_be_waited_for_by_name() -> None:
    flow = app.flow("x")
    flow.add(download.bind("a"), name="fetch")
    flow.add(resize.bind(size=1), after="fetch", gather=True)

    assert drawn(flow) == {"fetch": (), "resize": ("fetch",)}


def test_what_runs_at_the_end_has_a_role_and_no_deadline() -> None:
    flow = app.flow("x", deadline="1d", on_done=clean.bind(), on_failed=alert.bind())
    flow.add(download.bind("a"))

    first, done, failed = sent(flow)

    assert [one.step.role for one in (first, done, failed) if one.step] == [
        Role.WORK,
        Role.ON_DONE,
        Role.ON_FAILED,
    ]
    day = After(86_400 * SECOND)
    assert (first.deadline, first.expires) == (day, day)
    assert (done.deadline, failed.expires) == (None, None)


def test_the_deadline_of_a_flow_shortens_those_of_its_steps() -> None:
    at = datetime(2030, 1, 1, tzinfo=UTC)
    flow = app.flow("x", deadline="1h")
    flow.add(alert.options(deadline="1m", expires="2h").bind())
    moment = app.flow("y", deadline=at)
    moment.add(alert.options(expires=at - timedelta(hours=1)).bind())

    (one,), (other,) = sent(flow), sent(moment)

    assert (one.deadline, one.expires) == (After(60 * SECOND), After(3_600 * SECOND))
    assert isinstance(other.deadline, At)
    assert isinstance(other.expires, At)
    assert other.expires.instant < other.deadline.instant


def test_the_arguments_that_a_step_lacks_are_those_that_are_left() -> None:
    flow = app.flow("x")
    one = flow.add(resize.bind(b"", 1))
    flow.add(publish.bind(to="s3"), after=[one], gather=True)
    flow.add(clean.bind(), after=flow.add(app.named("count").bind()), gather=True)
    flow.add(app.named("elsewhere").bind(1), after=one, gather=True)

    assert [message.body for message in sent(flow)][1] == b'{"to":"s3"}'


def refused_adds(flow: Flow) -> dict[str, tuple[Callable[[], object], type[Exception], str]]:
    """What cannot be added to a flow that has a step `download`, with the error and what it says."""
    untyped: Any = flow.add
    other = app.flow("other")
    foreign = other.add(alert.bind())
    pair = group([alert.bind(), clean.bind()])
    here = flow.add(pair, name="pair")
    return {
        "no bound task": (lambda: untyped(download), InvalidOption, "made of bound tasks"),
        "a coroutine": (lambda: untyped(3), InvalidOption, "not of 3"),
        "unknown parent": (lambda: flow.add(alert.bind(), after="dowload"), InvalidOption, "Did you mean 'download'"),
        "itself": (lambda: flow.add(alert.bind(), name="me", after="me"), InvalidOption, "has no step 'me' yet"),
        "no node": (lambda: untyped(alert.bind(), after=[3]), InvalidOption, "not 3"),
        "another flow's": (lambda: flow.add(alert.bind(), after=foreign), InvalidOption, "a step of another flow"),
        "twice": (
            lambda: flow.add(alert.bind(), after=["download", "download"]), InvalidOption, "names step 'download' twice",
        ),
        "double name": (lambda: flow.add(alert.bind(), name="download"), NameTaken, "has a step 'download'"),
        "bad name": (lambda: flow.add(alert.bind(), name="a b"), InvalidName, "'a b' is not a valid name"),
        "reserved name": (lambda: flow.add(alert.bind(), name="_x"), InvalidName, "reserved"),
        "long id": (lambda: app.flow("f" * 120).add(alert.bind(), name="n" * 90), InvalidOption, "200 characters at most"),
        "when": (lambda: untyped(alert.bind(), after="download", when="all_suceeded"), InvalidOption, "Did you mean 'all_succeeded'"),
        "gather": (lambda: untyped(alert.bind(), after="download", gather="yes"), InvalidOption, "True or False"),
        "gather nothing": (lambda: untyped(publish.bind(), gather=True), InvalidOption, "say them with after="),
        "lacks": (lambda: untyped(publish.bind(), after="download"), InvalidArguments, "lacks 'thumbs'"),
        "nothing left": (lambda: untyped(download.bind("a"), after="download", gather=True), InvalidArguments, "no parameter left"),
        "takes no one": (lambda: untyped(total.bind(), after="download", gather=True), InvalidArguments, "no parameter left"),
        "not a list": (lambda: untyped(resize.bind(size=1), after=["download"], gather=True), InvalidArguments, "it takes text"),
        "not of these": (
            lambda: untyped(publish.bind(), after=[flow.add(clean.bind())], gather=True), InvalidArguments, "given null",
        ),
        "one": (lambda: untyped(publish.bind(), after="download", gather=True), InvalidArguments, "it takes a list"),
        "groups in a list": (
            lambda: untyped(publish.bind(), after=[here, "download"], gather=True), InvalidOption, "one group, or a list",
        ),
        "id": (lambda: flow.add(alert.options(id="x").bind()), InvalidOption, "leave out options(id=...)"),
        "debounce": (lambda: flow.add(alert.options(debounce="1s").bind()), InvalidOption, "Debounce lets one message take the place"),
        "reject": (lambda: flow.add(alert.options(unique=Unique(on_conflict="reject")).bind()), InvalidOption, "Unique lets one"),
        "hooks inside": (lambda: flow.add(with_hook()), InvalidOption, "has an on_done= or on_failed="),
        "results for a flow": (lambda: untyped(other, after="download", gather=True), InvalidOption, "takes no results"),
        "part name": (lambda: flow.add(pair, name="a b"), InvalidName, "not a valid name"),
        "flow in itself": (lambda: flow.add(flow), InvalidOption, "part of itself"),
    }  # fmt: skip


def with_hook() -> Flow:
    flow = app.flow("hooked", on_failed=alert.bind())
    flow.add(alert.bind())
    flow.messages(app._client.ground.composer)
    return flow


def test_what_cannot_be_a_step_is_refused_with_a_sentence_and_adds_nothing() -> None:
    flow = app.flow("x")
    flow.add(download.bind("a"))
    refusals = refused_adds(flow)
    for what, (add, error, sentence) in refusals.items():
        before = list(flow._plan.messages)
        with pytest.raises(error, match=sentence.replace("(", r"\(").replace(")", r"\)")):
            add()
        after = [name for name in flow._plan.messages if not name.startswith("clean")]
        assert after == [name for name in before if not name.startswith("clean")], what


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: sent(app.flow("x")), "has no steps"),
        (lambda: app.flow("a b"), "flow id must be printable, without spaces"),
        (lambda: app.flow("x" * 151), "150 characters at most"),
        (lambda: untyped("x", on_done=alert), "on_done= takes a bound task"),
        (lambda: untyped("x", on_failed=publish.bind()), "on_failed= takes a bound task"),
        (lambda: app.flow("x", deadline="soon"), "deadline is not a duration"),
        (lambda: untyped("x", dedline="1d"), "has no option 'dedline': did you mean 'deadline'"),
        (chain, "at least one step"),
        (lambda: group([]), "at least one step"),
        (lambda: short(alert), "made of bound tasks"),
        (lambda: parallel(alert.bind()), "takes a list of bound tasks"),
        (lambda: group([group([alert.bind()]), alert.bind()]), "ends in one step each"),
        (lambda: group([chain(alert.bind(), group([alert.bind()]))]), "ends in one step each"),
        (lambda: app.flow("x", deadline=60).add(late()), "say it as a duration, as that of the flow is"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_flow_is_refused_with_a_sentence(make: Any, sentence: str) -> None:
    with pytest.raises(InvalidOption, match=sentence):
        make()


untyped: Any = app.flow
short: Any = chain
parallel: Any = group


def late() -> Any:
    return alert.options(deadline=datetime(2030, 1, 1, tzinfo=UTC)).bind()


def test_a_chain_that_lacks_an_argument_at_its_head_cannot_be_sent_by_itself() -> None:
    open_: Any = chain(resize.bind(size=1), clean.bind())

    with pytest.raises(InvalidArguments, match="lacks 'image'"):
        open_.flow("x")


def test_nothing_is_added_to_a_flow_that_has_been_sent() -> None:
    flow = app.flow("x")
    flow.add(alert.bind())
    sent(flow)

    with pytest.raises(InvalidOption, match="has been sent"):
        flow.add(alert.bind())


def test_a_flow_is_sent_with_a_hundred_thousand_steps_at_most() -> None:
    flow = app.flow("x")
    flow.add(group([alert.bind()] * LONGEST_FLOW))

    with pytest.raises(InvalidOption, match="100,000 steps at most"):
        flow.add(alert.bind())


def test_two_wide_groups_one_behind_the_other_are_refused_before_they_fill_the_memory() -> None:
    wide = group([alert.bind()] * 20_000)

    with pytest.raises(InvalidOption, match="between two wide groups put a step"):
        chain(wide, wide).flow("x")

    assert len(drawn(chain(wide, alert.bind(), wide).flow("x"))) == 40_001


def test_flows_are_not_sent_among_tasks() -> None:
    async def send() -> None:
        async with App("memory://") as other:
            calls: Any = [chain(alert.bind())]
            await other.send_many(calls)

    with pytest.raises(InvalidOption, match="is sent by itself"):
        asyncio.run(send())


def test_a_bare_bus_has_no_flows() -> None:
    bus = App(HostileBus())

    with pytest.raises(Unsupported, match=r"the hostile engine has no flows\. Give a store"):
        bus.flow("x")
