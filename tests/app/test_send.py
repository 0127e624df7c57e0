"""Sending: what does not fit is refused before anything is stored, what fits arrives as it was meant, many at once cost little."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import msgspec
import pydantic
import pytest

from forebay import App, Context, State
from forebay.engine import Stored
from forebay.errors import (
    EngineUnavailable,
    ForebayError,
    InvalidArguments,
    InvalidName,
    InvalidOption,
    MessageTooLarge,
    NotOpen,
    NotSerialisable,
    OutcomeUnknown,
)
from forebay.model.query import Query
from forebay.model.when import SECOND
from forebay.stores.memory import MemoryEngine
from forebay.testing.clock import Probe, VirtualClock, eventually
from tests.runtime.kit import Spied, story, working

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebay import Handle


class Colour(StrEnum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: int = 0


class Line(msgspec.Struct):
    start: Point
    end: Point


class Customer(pydantic.BaseModel):
    name: str
    since: date


class Stranger:
    """Nothing that JSON could carry."""


async def stored(app: App) -> int:
    async with app:
        return len((await app.find(Query())).records)


@pytest.fixture
def app() -> App:
    return App("memory://")


# -- arguments


@pytest.mark.parametrize(
    ("args", "kwargs", "sentence"),
    [
        (
            (),
            {},
            r"job\(n: int, text: str = 'x'\) does not take these arguments: missing a required argument: 'n'",
        ),
        ((1, "a", 2), {}, "too many positional arguments"),
        ((1,), {"n": 2}, "multiple values for argument 'n'"),
        ((1,), {"z": 2}, "unexpected keyword argument 'z'"),
        (("one",), {}, r"job\(\) does not take these arguments: Expected `int`, got `str` - at `\$.n`"),
        ((1, 2), {}, r"Expected `str`, got `int` - at `\$.text`"),
        ((True,), {}, "Expected `int`, got `bool`"),
        ((None,), {}, "Expected `int`, got `null`"),
        ((1.5,), {}, "Expected `int`, got `float`"),
    ],
)
@story
async def test_arguments_that_do_not_fit_are_refused_at_send(
    args: tuple[Any, ...], kwargs: dict[str, Any], sentence: str
) -> None:
    app = App("memory://")

    @app.task
    async def job(n: int, text: str = "x") -> None: ...

    untyped: Any = job
    async with app:
        for send in (untyped.send, lambda *a, **k: app.send("job", *a, **k)):
            with pytest.raises(InvalidArguments, match=sentence):
                await send(*args, **kwargs)
        if args or kwargs:
            with pytest.raises(InvalidArguments, match=sentence):
                untyped.bind(*args, **kwargs)

    assert await stored(app) == 0


@story
async def test_a_call_that_lacks_an_argument_is_for_flows_and_is_not_sent() -> None:
    app = App("memory://")

    @app.task
    async def job(n: int, text: str = "x") -> None: ...

    async with app:
        lacking: Any = job.bind(text="y")
        with pytest.raises(InvalidArguments, match=r"job\(\) lacks 'n': give it in bind\(\)"):
            await app.send_many([lacking])
        untyped: Any = job
        with pytest.raises(InvalidArguments, match="Expected `str`, got `int`"):
            untyped.bind(text=3)

    assert await stored(app) == 0


@pytest.mark.parametrize(
    "value",
    [Stranger(), {Stranger()}, [1, {"deep": Stranger()}], {(1, 2): 3}, "\ud800", print, object],
    ids=["object", "set", "deep", "key", "surrogate", "function", "class"],
)
@story
async def test_what_json_cannot_carry_is_refused_and_named(value: object) -> None:
    app = App("memory://")

    @app.task
    async def job(fine: Any, wrong: Any) -> None: ...

    sends: list[Callable[[], Any]] = [
        lambda: job.send(1, value),
        lambda: job.send(1, wrong=value),
        lambda: app.send("job", 1, value),
        lambda: app.send("elsewhere", fine=1, wrong=value),
    ]
    async with app:
        for send in sends:
            with pytest.raises(NotSerialisable, match="argument 'wrong' cannot be written as JSON"):
                await send()
        with pytest.raises(NotSerialisable, match="argument '2' cannot be written as JSON"):
            await app.send("elsewhere", 1, value)
        with pytest.raises(NotSerialisable, match=r"publish\('a\.b'\): the event cannot be written as JSON"):
            await app.publish("a.b", value)

    assert await stored(app) == 0


@story
async def test_an_endless_argument_is_refused_and_named() -> None:
    app = App("memory://")
    endless: list[Any] = []
    endless.append(endless)

    @app.task
    async def job(wrong: list[Any]) -> None: ...

    with pytest.raises(NotSerialisable, match="argument 'wrong'"):
        job.bind(endless)


@story
async def test_a_body_over_the_limit_is_refused_before_any_call_of_the_engine() -> None:
    engine = Spied(MemoryEngine())
    app = App(engine, max_body=64)

    @app.task
    async def job(text: str) -> None: ...

    async with app:
        before = engine.calls.total()
        for send in (
            lambda: job.send("x" * 64),
            lambda: app.publish("a.b", "x" * 64),
            lambda: app.publish("a.b", b"x" * 65),
            lambda: app.send("other", "x" * 64),
            lambda: app.send_many([job.bind("x"), job.bind("x" * 64)]),
        ):
            with pytest.raises(
                MessageTooLarge, match=r"the body has \d+ bytes, the limit is 64\. Store it elsewhere"
            ):
                await send()
        assert engine.calls.total() == before
        await app.publish("a.b", b"x" * 64)


@story
async def test_every_kind_of_argument_arrives_as_it_was_sent() -> None:
    app, got = App("memory://"), Probe[dict[str, Any]]("got")
    given: dict[str, Any] = {
        "whole": 2**62,
        "real": 1.5,
        "text": "Zoë ☃",
        "raw": b"\x00\xff",
        "nothing": None,
        "moment": datetime(2030, 1, 1, 12, tzinfo=UTC),
        "span": timedelta(hours=1),
        "uuid": UUID(int=7),
        "exact": Decimal("1.10"),
        "colour": Colour.RED,
        "point": Point(1, 2),
        "line": Line(Point(1), Point(2, 3)),
        "customer": Customer(name="Ada", since=date(2020, 2, 29)),
        "several": {1, 2},
        "pair": (1, "a"),
        "by_number": {1: Point(3)},
        "maybe": [None, 5],
    }

    @app.task
    async def job(  # noqa: PLR0917  # one of each kind
        whole: int,
        real: float,
        text: str,
        raw: bytes,
        nothing: None,
        moment: datetime,
        span: timedelta,
        uuid: UUID,
        exact: Decimal,
        colour: Colour,
        point: Point,
        line: Line,
        customer: Customer,
        several: set[int],
        pair: tuple[int, str],
        by_number: dict[int, Point],
        maybe: list[int | None],
    ) -> None:
        got.hit(dict(locals()))

    untyped: Any = job
    async with working(app):
        await untyped.send(**given)
        await untyped.send(*given.values())
        await app.named("job").send(*list(given.values())[:5], **dict(list(given.items())[5:]))
        hits = await got.wait(3)

    for hit in hits:
        assert {name: hit[name] for name in given} == given


@story
async def test_by_name_the_code_elsewhere_reads_the_same() -> None:
    engine = MemoryEngine()
    sender, app, got = App(engine), App(engine), Probe[dict[str, Any]]("got")

    @app.task
    async def job(i: int, m: dict[int, Point], d: date, b: bytes = b"") -> None:
        got.hit({"i": i, "m": m, "d": d, "b": b})

    given: dict[str, Any] = {"i": 1, "m": {7: Point(1)}, "d": date(2030, 1, 1), "b": b"\xff"}
    async with sender, working(app):
        await sender.send("job", *given.values())
        await sender.send("job", **given)
        await sender.send("job", 1, {7: Point(1)}, d=given["d"], b=b"\xff")
        await sender.send("job", 1, {7: Point(1)}, date(2030, 1, 1))
        hits = await got.wait(4)

    assert hits[:3] == [given] * 3
    assert hits[3] == given | {"b": b""}


@story
async def test_variable_and_special_parameters_arrive_whichever_way_they_are_sent() -> None:
    engine = MemoryEngine()
    sender, app, got = App(engine), App(engine), Probe[Any]("got")

    @app.task
    async def spread(ctx: Context, first: int, *more: int, last: str = "z", **rest: float) -> None:
        got.hit((ctx.name, first, more, last, rest))

    @app.task
    async def only(first: int, /, *, key: str) -> None:
        got.hit((first, key))

    @app.task
    def many(ctx: Context, *numbers: int) -> None:
        got.hit((ctx.attempt, numbers))

    @app.task
    async def keywords(**rest: int) -> None:
        got.hit(rest)

    async with sender, working(app):
        for by in (app, sender):
            await by.send("spread", 1, 2, 3, last="end", extra=1.5, rest=2.5)
            await by.send("spread", 1)
            await by.send("spread", first=1, x=2)
            await by.send("only", 1, key="k")
            await by.send("many", 1, 2, 3)
            await by.send("many")
            await by.send("keywords", a=1, rest=2)
        await cast("Any", spread).send(
            1, 2, 3, last="end", extra=1.5, rest=2.5
        )  # mypy loses ctx beside **rest
        hits = await got.wait(15)

    wanted = [
        ("spread", 1, (2, 3), "end", {"extra": 1.5, "rest": 2.5}), ("spread", 1, (), "z", {}), ("spread", 1, (), "z", {"x": 2.0}),
        (1, "k"), (1, (1, 2, 3)), (1, ()), {"a": 1, "rest": 2},
    ]  # fmt: skip
    assert sorted(map(repr, hits)) == sorted(map(repr, [*wanted, *wanted, wanted[0]]))


# -- options


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"dealy": 3}, r"job\.options\(\) has no option 'dealy': did you mean 'delay'\?"),
        ({"delay": -1}, "delay must be between 0 and 100 years, not -1"),
        ({"delay": math.nan}, "delay must be between 0 and 100 years, not nan"),
        ({"delay": math.inf}, "delay must be between"),
        ({"delay": "5 parsecs"}, "delay is not a duration: '5 parsecs'"),
        ({"delay": True}, "delay is not a duration"),
        ({"delay": None}, "delay is not a duration"),
        ({"delay": timedelta(seconds=-1)}, "delay must be between"),
        ({"delay": datetime(2030, 1, 1)}, "delay has no time zone"),  # noqa: DTZ001  # that is the test
        ({"expires": datetime(2030, 1, 1)}, "expires has no time zone"),  # noqa: DTZ001  # that is the test
        ({"deadline": datetime(2030, 1, 1)}, "deadline has no time zone"),  # noqa: DTZ001  # that is the test
        ({"deadline": "later"}, "deadline is not a duration"),
        ({"timeout": 0}, "timeout must be longer than 0"),
        ({"timeout": -3}, "timeout must be between"),
        ({"priority": -1}, "priority must be a whole number from 0 to 9"),
        ({"priority": 10}, "priority must be a whole number from 0 to 9"),
        ({"max_attempts": 0}, "max_attempts must be a whole number from 1 to 1000"),
        ({"unique": ""}, "unique must be Unicode text of 1 to 200 characters"),
        ({"unique": 7}, "unique must be Unicode text"),
        ({"key": "k" * 201}, "key must be Unicode text"),
        ({"key": "\ud800"}, "key must be Unicode text"),
        ({"key": "a\0b"}, "key must be Unicode text"),
        ({"id": "a b"}, "id must be printable, without spaces and '@'"),
        ({"id": "a@b"}, "id must be printable, without spaces and '@'"),
        ({"id": "a\nb"}, "id must be printable"),
        ({"headers": {"a": 1}}, "headers must map text to text"),
        ({"headers": "a"}, "headers must map text to text"),
        ({"headers": {"a b": "c"}}, "header name 'a b' must be printable ASCII"),
        ({"headers": {"ä": "c"}}, "header name 'ä' must be printable ASCII"),
        ({"headers": {"": "c"}}, "header name '' must be printable ASCII"),
        ({"headers": {"a:b": "c"}}, "header name 'a:b' must be printable ASCII"),
        ({"headers": {"a": "b\r\nc: d"}}, "header 'a' must be one line"),
        ({"headers": {"a": "\udcff"}}, "header 'a' must be one line"),
        ({"headers": {str(n): "x" for n in range(65)}}, "headers must be at most 64"),
        ({"headers": {"a": "x" * 16_384}}, "of 16384 characters in all"),
    ],
)
def test_options_of_a_message_are_checked(app: App, options: dict[str, Any], sentence: str) -> None:
    @app.task
    async def job() -> None: ...

    with pytest.raises(InvalidOption, match=sentence):
        job.options(**options)
    with pytest.raises(InvalidOption, match=sentence.replace(r"job\.options", "publish")):
        app.sync(app.publish("a.b", 1, **options))
    app.__exit__()


@pytest.mark.parametrize("queue", ["", "a b", "-", "*", 7])
def test_a_queue_outside_the_grammar_is_refused(app: App, queue: Any) -> None:
    with pytest.raises(InvalidName):
        app.named("job").options(queue=queue)


@pytest.mark.parametrize("topic", ["", "a.*", "**", "a b", None])
@story
async def test_an_event_goes_to_a_topic_and_not_to_a_pattern(topic: Any) -> None:
    app = App("memory://")
    async with app:
        with pytest.raises(InvalidName, match="topic"):
            await app.publish(topic, 1)


@story
async def test_publish_takes_no_queue() -> None:
    app = App("memory://")
    async with app:
        with pytest.raises(InvalidOption, match=r"publish\(\) has no option 'queue'"):
            await app.publish("a.b", 1, queue="q")  # type: ignore[call-arg]  # what a type checker refuses


@story
async def test_options_reach_the_message_and_the_later_word_wins() -> None:
    clock = VirtualClock()
    app = App("memory://", clock=clock)

    @app.task(queue="slow", priority=2)
    async def job() -> None: ...

    when = datetime(2031, 1, 1, tzinfo=UTC)
    async with app:
        handle = (
            await job.options(priority=7, key="k", delay="5m")
            .options(delay="10m", expires=when, queue="fast")
            .send()
        )
        plain = await job.send()
        record, other = await handle.status(), await plain.status()

    assert (record.queue, record.message.priority, record.message.key) == ("fast", 7, "k")
    assert record.due == clock.now() + 600 * SECOND
    assert record.expires == int(when.timestamp()) * SECOND
    assert record.state is State.SCHEDULED
    assert (other.queue, other.message.priority, other.due) == ("slow", 2, None), (
        "the task itself is as it was"
    )


@story
async def test_a_delay_of_nothing_is_none_and_a_past_expiry_expires() -> None:
    app = App("memory://")

    @app.task
    async def job() -> int:
        return 1

    async with working(app):
        assert await (await job.options(delay=0).send()).result(5) == 1
        assert await (await job.options(delay=datetime(2000, 1, 1, tzinfo=UTC)).send()).result(5) == 1
        with pytest.raises(ForebayError, match="is expired"):
            await (await job.options(expires=datetime(2000, 1, 1, tzinfo=UTC)).send()).result(5)
        with pytest.raises(ForebayError, match=r"is dead.*deadline"):
            await (await job.options(deadline=datetime(2000, 1, 1, tzinfo=UTC)).send()).result(5)


# -- duplicates


@story
async def test_a_unique_key_in_use_answers_with_the_task_that_has_it() -> None:
    app = App("memory://")

    @app.task
    async def job(n: int) -> int:
        return n

    async with working(app) as worker:
        first = await job.options(unique="k", delay="1h").send(1)
        second = await job.options(unique="k").send(2)
        elsewhere = await job.options(unique="k", queue="other").send(3)
        assert (second.id, second.duplicate, first.duplicate, elsewhere.duplicate) == (
            first.id,
            True,
            False,
            False,
        )
        await first.cancel()
        third = await job.options(unique="k").send(4)
        assert third.duplicate is False
        assert await third.result(5) == 4
        assert (await job.options(unique="k").send(5)).duplicate is False, "what has ended frees its key"
        worker.stop()


@story
async def test_the_same_id_twice_is_stored_once() -> None:
    app = App("memory://")

    @app.task
    async def job(n: int) -> int:
        return n

    async with working(app):
        first = await job.options(id="order-7").send(1)
        second = await job.options(id="order-7").send(2)
        assert (first.id, second.id, first.duplicate, second.duplicate) == ("order-7", "order-7", False, True)
        assert await second.result(5) == 1
        assert (await job.options(id="order-7").send(3)).duplicate is True, "history remembers"

    assert await stored(app) == 1


@story
async def test_an_event_published_twice_under_its_id_is_copied_once() -> None:
    app, got = App("memory://"), Probe[str]("got")

    @app.subscribe("a.*", group="one")
    async def one(ctx: Context) -> None:
        got.hit(ctx.id)

    @app.subscribe("a.b", group="two")
    async def two(ctx: Context) -> None:
        got.hit(ctx.id)

    async with working(app):
        first, second = await app.publish("a.b", 1, id="e"), await app.publish("a.b", 1, id="e")
        assert (first.status, first.groups, second.status) == (Stored.STORED, 2, Stored.DUPLICATE)
        await got.wait(2)

    assert sorted(got.hits) == ["e@one.a._any", "e@two.a.b"]


@story
async def test_a_send_whose_outcome_was_unknown_is_repeated_and_is_no_duplicate() -> None:
    engine, broken = Spied(MemoryEngine()), Probe[None]("broken")

    def lose_reply(kind: str, _: Any) -> None:
        if kind == "publish" and broken.count < 2:
            broken.hit(None)
            raise OutcomeUnknown("cut")

    engine.after = lose_reply
    app = App(engine)

    @app.task
    async def job() -> None: ...

    async with app:
        assert (await job.send()).duplicate is False
        broken.hits.clear()
        assert [handle.duplicate for handle in await app.send_many([job.bind() for _ in range(3)])] == [
            False
        ] * 3
        broken.hits.clear()
        assert (await app.publish("a.b", 1)).status is Stored.STORED

    assert await stored(app) == 4


@story
async def test_an_outcome_that_stays_unknown_is_said() -> None:
    engine = Spied(MemoryEngine())

    def lose_reply(kind: str, _: Any) -> None:
        if kind == "publish":
            raise OutcomeUnknown("cut")

    engine.after = lose_reply
    app = App(engine)
    async with app:
        with pytest.raises(OutcomeUnknown):
            await app.send("job")
    assert engine.calls["publish"] == 4


# -- many


@story
async def test_concurrent_sends_are_one_publish_or_two() -> None:
    engine = Spied(MemoryEngine())

    async def take_a_moment(*_: Any) -> None:
        await asyncio.sleep(0)  # noqa: TID251  # as every engine does that is not in memory

    engine.before = take_a_moment
    app = App(engine)

    @app.task
    async def job(n: int) -> None: ...

    async with app:
        handles = await asyncio.gather(*(job.send(n) for n in range(200)))

    assert len({handle.id for handle in handles}) == 200
    assert engine.calls["publish"] <= 2
    assert await stored(app) == 50, "one page of them"


@story
async def test_one_sender_that_is_cancelled_does_not_harm_the_others() -> None:
    engine, go, begun = Spied(MemoryEngine()), asyncio.Event(), asyncio.Event()

    async def hold(kind: str, _: Any) -> None:
        if kind == "publish":
            begun.set()
            await go.wait()

    engine.before = hold
    app = App(engine)

    @app.task
    async def job(n: int) -> None: ...

    async with app, asyncio.TaskGroup() as group:
        tasks = [group.create_task(job.send(n)) for n in range(3)]
        await begun.wait()
        tasks[1].cancel()
        go.set()
        assert [bool(await tasks[0]), bool(await tasks[2])] == [True, True]

    assert await stored(app) == 3


@story
async def test_a_send_the_engine_refuses_is_its_senders_error_alone() -> None:
    engine = Spied(MemoryEngine())

    def refuse(kind: str, batch: Any) -> None:
        if kind == "publish" and any(message.body == b'{"n":7}' for message in batch):
            raise ValueError("not that one")

    engine.before = refuse
    app = App(engine)

    @app.task
    async def job(n: int) -> None: ...

    async with app:
        answers = await asyncio.gather(*(job.send(n) for n in range(20)), return_exceptions=True)

    assert [n for n, answer in enumerate(answers) if isinstance(answer, ValueError)] == [7]
    assert await stored(app) == 19


@story
async def test_send_many_answers_in_order_and_in_few_calls() -> None:
    engine = Spied(MemoryEngine())
    app = App(engine)

    @app.task
    async def job(n: int) -> int:
        return n

    async with app:
        assert await app.send_many([]) == []
        handles = await app.send_many(job.bind(n) for n in range(2_500))
        assert engine.calls["publish"] == 3
        for n in (0, 999, 1_000, 2_499):
            assert (await handles[n].status()).message.body == b'{"n":%d}' % n


@story
async def test_a_batch_of_send_many_is_stored_whole_or_not_at_all() -> None:
    engine = Spied(MemoryEngine())

    def refuse(kind: str, batch: Any) -> None:
        if kind == "publish" and any(message.body == b'{"n":7}' for message in batch):
            raise ValueError("not that one")

    engine.before = refuse
    app = App(engine)

    @app.task
    async def job(n: int) -> None: ...

    async with app:
        with pytest.raises(ValueError, match="not that one"):
            await app.send_many([job.bind(n) for n in range(20)])

    assert await stored(app) == 0


@story
async def test_a_bound_task_may_be_sent_again_and_is_another_message() -> None:
    app = App("memory://")

    @app.task
    async def job(n: int) -> int:
        return n

    bound = job.bind(3)
    async with app:
        first, second = await app.send_many([bound, bound])
    assert first.id != second.id


@story
async def test_an_engine_that_is_away_is_said_and_nothing_is_stored() -> None:
    engine = Spied(MemoryEngine())

    def away(kind: str, _: Any) -> None:
        if kind == "publish":
            raise EngineUnavailable("away")

    engine.before = away
    app = App(engine)
    async with app:
        with pytest.raises(EngineUnavailable, match="away"):
            await app.send("job")
    engine.before = lambda *_: None
    assert await stored(app) == 0


# -- events


@story
async def test_events_arrive_as_their_handler_wants_them() -> None:
    app, got = App("memory://"), Probe[tuple[str, object]]("got")

    def subscriber(group: str, kind: Any) -> None:
        async def handler(event: object) -> None:
            got.hit((group, event))

        handler.__annotations__["event"] = kind
        app.subscribe("points.made", group=group)(handler)

    kinds: dict[str, Any] = {
        "typed": Point,
        "struct": Point,
        "dict": dict[str, int],
        "raw": bytes,
        "any": Any,
    }
    for group, kind in kinds.items():
        subscriber(group, kind)

    @app.subscribe("points.made", group="untyped")
    async def untyped(event) -> None:  # type: ignore[no-untyped-def]  # that is the test
        got.hit(("untyped", event))

    @app.subscribe("points.made", group="silent")
    def silent() -> None:
        got.hit(("silent", None))

    async with working(app):
        await app.publish("points.made", Point(1, 2))
        await got.wait(7)
        mine = dict(got.hits)
        got.hits.clear()
        await app.publish("points.made", b'{ "y": 2, "x": 1, "z": 0 }')
        await got.wait(7)
        foreign = dict(got.hits)

    everything = {"x": 1, "y": 2}
    assert mine == {
        "typed": Point(1, 2), "struct": Point(1, 2), "dict": everything, "raw": b'{"x":1,"y":2}', "any": everything,
        "untyped": everything, "silent": None,
    }  # fmt: skip
    raw = b'{ "y": 2, "x": 1, "z": 0 }'
    assert foreign == {
        "typed": Point(1, 2), "struct": Point(1, 2), "dict": everything | {"z": 0}, "raw": raw, "any": raw, "untyped": raw, "silent": None
    }  # fmt: skip


@story
async def test_bytes_that_are_no_json_are_a_dead_letter_of_who_wants_json_only() -> None:
    app, got = App("memory://"), Probe[bytes]("got")

    @app.subscribe("blobs.made", group="typed")
    async def typed(event: Point) -> None: ...

    @app.subscribe("blobs.made", group="raw")
    async def raw(event: bytes) -> None:
        got.hit(event)

    async with working(app):
        published = await app.publish("blobs.made", memoryview(b"\x00\xff"))
        assert await got.wait() == [b"\x00\xff"]
        dead = app.handle(f"{published.id}@typed.blobs.made")
        await eventually(lambda: _dead(app))
        assert (await dead.status()).message.body == b"\x00\xff", "kept as it came"


def _dead(app: App) -> bool:
    engine: Any = app.engine
    return any(entry.state is State.DEAD for entry in engine.ledger.entries.values())


@pytest.mark.parametrize(
    ("pattern", "topics"),
    [
        ("orders.placed", ["orders.placed"]),
        ("orders.*", ["orders.placed", "orders.paid"]),
        ("orders.**", ["orders.placed", "orders.paid", "orders.eu.placed"]),
        ("*.placed", ["orders.placed"]),
        ("**", ["orders.placed", "orders.paid", "orders.eu.placed", "other"]),
    ],
)
@story
async def test_a_pattern_gets_what_it_matches_and_nothing_else(pattern: str, topics: list[str]) -> None:
    app, got = App("memory://"), Probe[str]("got")

    @app.subscribe(pattern, group="g")
    async def handler(ctx: Context) -> None:
        got.hit(ctx.name)

    async with working(app):
        groups = [
            (await app.publish(topic, 1)).groups
            for topic in ("orders.placed", "orders.paid", "orders.eu.placed", "other")
        ]
        await got.wait(len(topics))

    assert sorted(got.hits) == sorted(topics)
    assert sum(groups) == len(topics)  # type: ignore[arg-type]  # a store knows


@story
async def test_an_event_nobody_wants_is_published_all_the_same() -> None:
    app = App("memory://")
    async with app:
        published = await app.publish("nobody.cares", 1)

    assert (published.status, published.groups) == (Stored.STORED, 0)
    assert await stored(app) == 0


# -- open and closed


@story
async def test_outside_the_open_app_nothing_can_be_sent() -> None:
    app = App("memory://")
    other = App("memory://")
    uses: list[Callable[[], Any]] = [
        lambda: app.send("job"),
        lambda: app.publish("a.b", 1),
        lambda: app.send_many([]),
        app.count,
        lambda: app.find(Query()),
        lambda: app.handle("x").status(),
        lambda: app.handle("x").result(),
        lambda: app.handle("x").cancel(),
    ]
    for _ in range(2):
        for use in uses:
            with pytest.raises(NotOpen, match="The App is not open: use 'async with app:'"):
                await use()
        async with other, app:
            await app.send("job")


@story
async def test_a_send_from_a_second_loop_says_where_the_app_is_open_and_what_to_do() -> None:
    app = App("memory://")

    async def opened() -> int:
        async with app:
            await app.send("job")
        return await stored(app)

    async with app:
        with pytest.raises(
            NotOpen,
            match=rf"open on another event loop \(since {__file__}:\d+\).*'async with app:' in this loop as well",
        ):
            await asyncio.to_thread(lambda: asyncio.run(app.send("job")))
        assert await asyncio.to_thread(lambda: asyncio.run(opened())) == 1
        await app.send("job")


@story
async def test_an_open_app_may_be_opened_again_and_closes_with_the_last() -> None:
    engine = Spied(MemoryEngine())
    app = App(engine)
    async with app:
        async with app:
            await app.send("job")
        assert engine.calls["close"] == 0
        await app.send("job")
    assert (engine.calls["declare"], engine.calls["close"]) == (1, 1)


@story
async def test_many_may_open_it_at_once_and_all_find_it_open() -> None:
    engine, go = Spied(MemoryEngine()), asyncio.Event()

    async def hold(kind: str, _: Any) -> None:
        if kind == "declare":
            await go.wait()

    engine.before = hold
    app = App(engine)

    async def use() -> Handle[Any]:
        async with app:
            return await app.send("job")

    async with asyncio.TaskGroup() as group:
        users = [group.create_task(use()) for _ in range(5)]
        asyncio.get_running_loop().call_soon(go.set)
    assert len({user.result().id for user in users}) == 5


@story
async def test_an_app_that_could_not_be_opened_can_be_opened_later() -> None:
    engine, away = Spied(MemoryEngine()), [True]

    def fail(kind: str, _: Any) -> None:
        if kind == "declare" and away[0]:
            raise EngineUnavailable("away")

    engine.before = fail
    app = App(engine)
    with pytest.raises(EngineUnavailable):
        async with app:
            pass
    with pytest.raises(NotOpen):
        await app.send("job")
    away[0] = False
    async with app:
        await app.send("job")


@story
async def test_what_was_sent_before_the_close_is_stored() -> None:
    app = App("memory://")
    async with asyncio.TaskGroup() as group, app:
        sends = [group.create_task(app.send("job")) for _ in range(10)]
        await sends[0]
    assert all(send.result() for send in sends)
    assert await stored(app) == 10


def test_an_app_serves_one_loop_after_the_other() -> None:
    app = App("memory://")
    for _ in range(3):
        asyncio.run(stored(app))
