"""One try: whatever a message holds and whatever user code does, there is an outcome, and nothing is raised."""

from __future__ import annotations

import asyncio
import math
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from forebay import Cancel, Context, Dead, Retry, Snooze
from forebay.model import outcome as o
from forebay.model.verdict import Reason
from forebay.model.when import SECOND, After
from forebay.runtime.executor import LARGEST_RESULT, LONGEST_ERROR, Live
from forebay.runtime.in_flight import Why
from forebay.runtime.threads import Threads
from tests.runtime.kit import a_delivery, a_handler, an_executor, one_try, story

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebay.model.outcome import Outcome

TRIES = 2
MS = 1_000


class Abyss(BaseException):
    """Not an Exception."""


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise SystemExit("not even that")


@dataclass
class Picky:
    n: int

    def __post_init__(self) -> None:
        raise KeyError(self.n)


async def outcome_of(function: Callable[..., Any], body: bytes = b"{}", **options: Any) -> Outcome:
    """What becomes of one call of ``function``, async or not."""
    fields = options.pop("delivery", {})
    threads = Threads(TRIES)
    handler = a_handler(function, **options)
    try:
        return await one_try(handler.call(threads), handler, a_delivery(body, **fields))
    finally:
        threads.close()


def failure(outcome: Outcome) -> str:
    assert isinstance(outcome, o.Failed)
    return outcome.failure.type


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", Reason.UNDECODABLE),
        (b"{", Reason.UNDECODABLE),
        (b"\xff\xfe", Reason.UNDECODABLE),
        (b'{"\xff":1}', Reason.UNDECODABLE),
        (b'{"n":1', Reason.UNDECODABLE),
        (b'{"*":' + b"[" * 50_000, Reason.UNDECODABLE),
        (b'{"n":"one"}', Reason.ARGUMENTS),
        (b"{}", Reason.ARGUMENTS),
        (b'{"n":1,"m":2}', Reason.ARGUMENTS),
        (b"[1,2]", Reason.ARGUMENTS),
        (b'{"*":1}', Reason.ARGUMENTS),
        (b'{"*":[1],"n":1}', Reason.ARGUMENTS),
        (b'"text"', Reason.ARGUMENTS),
        (b"null", Reason.ARGUMENTS),
    ],
)
@story
async def test_what_cannot_be_read_is_buried_without_a_call(body: bytes, reason: Reason) -> None:
    calls = []

    async def job(n: int) -> None:
        calls.append(n)

    outcome = await outcome_of(job, body)

    assert isinstance(outcome, o.Buried)
    assert (outcome.reason, outcome.counts) == (reason, False)
    assert not calls


@story
async def test_json_nested_too_deep_for_any_is_undecodable() -> None:
    async def job(n: Any) -> None: ...

    outcome = await outcome_of(job, b'{"n":' + b"[" * 50_000 + b"]" * 50_000 + b"}")

    assert isinstance(outcome, o.Buried)
    assert outcome.reason is Reason.UNDECODABLE


@story
async def test_an_argument_type_that_raises_while_it_is_made_buries_the_message() -> None:
    async def job(n: Picky) -> None: ...

    outcome = await outcome_of(job, b'{"n":{"n":1}}')

    assert isinstance(outcome, o.Buried)
    assert outcome.reason is Reason.ARGUMENTS
    assert outcome.failure.type == "KeyError"


@story
async def test_a_body_over_the_limit_is_buried_unread() -> None:
    async def job(n: int) -> None: ...

    handler = a_handler(job)
    outcome = await one_try(
        handler.call(Threads(1)), handler, a_delivery(b'{"n":1}' + b" " * 10), max_body=16
    )

    assert isinstance(outcome, o.Buried)
    assert outcome.reason is Reason.TOO_LARGE
    assert "17 bytes, the limit is 16" in outcome.failure.message


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), Abyss("deep"), StopIteration(1), StopAsyncIteration(),
        asyncio.CancelledError("mine"), TimeoutError(), RecursionError(), ExceptionGroup("many", [ValueError(), KeyError()]),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
@pytest.mark.parametrize("threaded", [False, True], ids=["async", "sync"])
@story
async def test_whatever_a_handler_raises_is_a_failed_try(error: BaseException, threaded: bool) -> None:
    async def job() -> NoReturn:
        raise error

    def job_in_a_thread() -> NoReturn:
        raise error

    outcome = await outcome_of(job_in_a_thread if threaded else job)

    # A future cannot carry these three, nor a coroutine the first: they come wrapped, and named in the message.
    assert type(error).__name__ in f"{failure(outcome)} {outcome.failure.message}"  # type: ignore[union-attr]  # failure() looked
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]  # we are one


@story
async def test_a_handler_that_calls_sys_exit_has_failed() -> None:
    async def job() -> None:
        sys.exit("bye")

    outcome = await outcome_of(job)

    assert failure(outcome) == "SystemExit"


@story
async def test_an_error_that_cannot_be_shown_is_a_failure_all_the_same() -> None:
    async def job() -> None:
        raise Unspeakable

    outcome = await outcome_of(job)

    assert isinstance(outcome, o.Failed)
    assert outcome.failure.type == "Unspeakable"
    assert "cannot be shown: SystemExit" in outcome.failure.message


def _raising(*_: object) -> NoReturn:
    raise Abyss


class Closed(type):
    """A class that tells nothing of itself."""

    __name__ = property(_raising)
    __repr__ = _raising
    __instancecheck__ = _raising


@pytest.mark.parametrize(
    "hidden",
    [
        "__str__",
        "__repr__",
        "args",
        "__cause__",
        "__context__",
        "__traceback__",
        "__notes__",
        "__class__",
        "__dict__",
        "meta",
    ],
)
@pytest.mark.parametrize("threaded", [False, True])
@story
async def test_an_error_that_cannot_be_read_is_a_failure_all_the_same(hidden: str, *, threaded: bool) -> None:
    kind: type[Exception] = (
        Closed("Shy", (Exception,), {})
        if hidden == "meta"
        else type(
            "Shy",
            (Exception,),
            {hidden: _raising if hidden in ("__str__", "__repr__") else property(_raising)},
        )
    )

    def job() -> None:
        raise kind("secret")

    async def coroutine() -> None:
        job()

    outcome = await outcome_of(job if threaded else coroutine, no_retry_on=(kind,))

    assert failure(outcome) == "Shy"


@pytest.mark.parametrize(
    "word",
    [
        type("MyRetry", (Retry,), {"__init__": lambda *_: None}),
        type("Shy", (Dead,), {"__str__": _raising}),
        type("Shy", (Retry,), {"when": "5m"}),
    ],
)
@story
async def test_a_word_that_is_badly_made_is_an_outcome_all_the_same(word: type[Exception]) -> None:
    async def job() -> None:
        raise word

    assert isinstance(await outcome_of(job), o.Failed | o.Buried)


@story
async def test_an_error_whose_text_is_no_plain_text_is_a_failure_all_the_same() -> None:
    class Text(str):
        __slots__ = ()

        def __getitem__(self, _: object) -> str:
            raise LookupError

    class Odd(Exception):
        def __str__(self) -> str:
            return Text("odd")

        def __getattr__(self, name: str) -> object:
            raise RuntimeError(name)

    async def job() -> None:
        raise Odd

    outcome = await outcome_of(job)

    assert isinstance(outcome, o.Failed)
    assert outcome.failure.type == "Odd"
    assert outcome.failure.message == "odd"


@story
async def test_an_error_is_kept_short_and_can_be_stored() -> None:
    async def job() -> None:
        raise ValueError("\udcff\0" + "x" * 100_000)

    outcome = await outcome_of(job)

    assert isinstance(outcome, o.Failed)
    assert outcome.failure.message.startswith("\\udcff\\0xxx")
    assert len(outcome.failure.message) < 2 * LONGEST_ERROR
    outcome.failure.traceback.encode()


@story
async def test_a_traceback_begins_in_user_code() -> None:
    async def job() -> None:
        raise ValueError("here")

    outcome = await outcome_of(job)

    assert isinstance(outcome, o.Failed)
    assert "in job" in outcome.failure.traceback
    assert "runtime/execute.py" not in outcome.failure.traceback


class Stranger:
    """Nothing that JSON could carry."""


def of_itself() -> list[Any]:
    """A list that holds itself."""
    loop: list[Any] = []
    loop.append(loop)
    return loop


@pytest.mark.parametrize(
    ("value", "error"),
    [(Stranger(), "NotSerialisable"), (of_itself(), "NotSerialisable"), ("\ud800", "NotSerialisable"), ({(): 1}, "NotSerialisable"),
     (Retry, "NotSerialisable"), (math.nan, "NotSerialisable"), ({"a": [None, -math.inf]}, "NotSerialisable"),
     ("x" * LARGEST_RESULT, "ResultTooLarge")],
    ids=["stranger", "endless", "surrogate", "odd-key", "class", "nan", "infinity", "large"],
)  # fmt: skip
@story
async def test_a_result_that_cannot_be_kept_buries_the_message(value: object, error: str) -> None:
    async def job() -> object:
        return value

    outcome = await outcome_of(job)

    assert isinstance(outcome, o.Buried)
    assert (outcome.reason, outcome.failure.type, outcome.counts) == (Reason.RESULT, error, True)


@story
async def test_a_result_that_holds_a_nan_says_where() -> None:
    async def job() -> dict[str, list[float | None]]:
        return {"means": [1.0, math.nan]}

    outcome = await outcome_of(job)

    assert isinstance(outcome, o.Buried)
    assert "the result cannot be written as JSON: means[1] is nan" in outcome.failure.message


@story
async def test_a_result_whose_type_raises_while_it_is_written_buries_the_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(_: object) -> bytes:
        raise ZeroDivisionError("a validator of yours")

    monkeypatch.setattr("forebay.codec.json.encode", broken)

    async def job() -> int:
        return 1

    outcome = await outcome_of(job)

    assert isinstance(outcome, o.Buried)
    assert outcome.reason is Reason.RESULT


@story
async def test_a_result_just_under_the_limit_is_kept() -> None:
    async def job() -> str:
        return "x" * (LARGEST_RESULT - 2)

    outcome = await outcome_of(job)

    assert isinstance(outcome, o.Returned)
    assert len(outcome.result or b"") == LARGEST_RESULT


@pytest.mark.parametrize("raised", [False, True], ids=["returned", "raised"])
@pytest.mark.parametrize("threaded", [False, True], ids=["async", "sync"])
@pytest.mark.parametrize(
    ("word", "kind"),
    [
        (Retry("later", after="5m"), o.Failed),
        (Retry(), o.Failed),
        (Snooze(3), o.Put),
        (Dead("enough"), o.Buried),
        (Cancel(), o.CalledOff),
    ],
    ids=["retry-after", "retry", "snooze", "dead", "cancel"],
)
@story
async def test_a_word_steers_whether_it_is_returned_or_raised(
    word: o.Steer, kind: type, raised: bool, threaded: bool
) -> None:
    def say() -> o.Steer:
        if raised:
            raise word
        return word

    async def say_in_loop() -> o.Steer:
        return say()

    outcome = await outcome_of(say if threaded else say_in_loop)

    assert isinstance(outcome, kind)
    match outcome:
        case o.Failed(failure=why, at=at):
            assert (why.message, at) in (
                ("later", After(300 * SECOND)),
                ("the handler asked for a retry", None),
            )
        case o.Put(at):
            assert at == After(3 * SECOND)
        case o.Buried(reason, why, counts):
            assert (reason, why.message, counts) == (Reason.ASKED, "enough", True)
        case _:
            assert outcome == o.CalledOff()


@pytest.mark.parametrize(
    ("refused", "retryable"),
    [((), True), ((KeyError,), True), ((ValueError,), False), ((KeyError, Exception), False)],
    ids=str,
)
@story
async def test_no_retry_on_counts_subclasses(
    refused: tuple[type[BaseException], ...], retryable: bool
) -> None:
    async def job() -> None:
        raise UnicodeError("a ValueError")

    outcome = await outcome_of(job, no_retry_on=refused)

    assert isinstance(outcome, o.Failed)
    assert outcome.retryable is retryable


@pytest.mark.parametrize(
    ("refused", "retryable"), [((), True), ((TimeoutError,), False), ((OSError,), False), ((KeyError,), True)]
)
@story
async def test_running_out_of_time_is_a_timeout_error_to_no_retry_on(
    refused: tuple[type[BaseException], ...], retryable: bool
) -> None:
    async def job() -> None:
        await asyncio.Event().wait()

    outcome = await outcome_of(job, timeout=10 * MS, no_retry_on=refused)

    assert isinstance(outcome, o.Failed)
    assert (outcome.failure.type, outcome.retryable) == ("Timeout", retryable)


@story
async def test_the_messages_own_timeout_has_the_first_word() -> None:
    async def job() -> None:
        await asyncio.Event().wait()

    outcome = await outcome_of(job, timeout=600 * SECOND, delivery={"timeout": 10 * MS})

    assert failure(outcome) == "Timeout"


@story
async def test_a_handler_may_clean_up_when_its_time_is_up() -> None:
    cleaned = list[bool]()

    async def job() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.get_running_loop().run_in_executor(None, cleaned.append, True)

    outcome = await outcome_of(job, timeout=10 * MS)

    assert failure(outcome) == "Timeout"
    assert cleaned


@pytest.mark.parametrize("word", ["too late", Snooze("1h"), Dead(), Cancel()], ids=repr)
@pytest.mark.parametrize("raises", [False, True])
@story
async def test_what_a_coroutine_says_after_its_timeout_does_not_count(word: object, *, raises: bool) -> None:
    async def job() -> object:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if raises and isinstance(word, Exception):
                raise word from None
        return word

    outcome = await outcome_of(job, timeout=10 * MS)

    assert failure(outcome) == "Timeout"
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]  # we are one


@story
async def test_a_failure_of_its_own_after_its_timeout_tells_more_than_the_timeout() -> None:
    async def job() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionError("the gateway is away") from None

    assert failure(await outcome_of(job, timeout=10 * MS)) == "ConnectionError"


@story
async def test_a_sync_handler_past_its_timeout_ends_when_its_thread_does() -> None:
    go, overdue = threading.Event(), asyncio.Event()

    def job() -> str:
        assert go.wait(5)
        return "late"

    handler, threads = a_handler(job, timeout=10 * MS), Threads(1)
    executor, in_flight = an_executor()
    run = in_flight.add(a_delivery())
    trying = asyncio.get_running_loop().create_task(
        executor.execute(run, Live(handler, handler.call(threads)))
    )
    while not run.overdue:
        overdue.clear()
        asyncio.get_running_loop().call_later(0.005, overdue.set)
        await overdue.wait()
    done, _ = await asyncio.wait([trying], timeout=0.02)

    assert not done, "its slot and its lease are held as long as it runs"
    assert len(in_flight) == 1

    go.set()
    outcome, _ = await trying
    assert outcome == o.Returned(b'"late"'), "what is done is not done again"
    threads.close()


@story
async def test_a_deadline_cuts_a_try_short() -> None:
    async def job() -> None:
        await asyncio.Event().wait()

    outcome = await outcome_of(job, delivery={"received": 100 * SECOND, "deadline": 100 * SECOND + 10 * MS})

    assert failure(outcome) == "Timeout"


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"deadline": 5}, o.Buried),
        ({"deadline": 4}, o.Buried),
        ({"expires": 5}, o.TooLate),
        ({"expires": 4}, o.TooLate),
        ({"expires": 6}, o.Returned),
    ],
    ids=str,
)
@story
async def test_what_comes_too_late_is_not_begun(fields: dict[str, Any], kind: type) -> None:
    began = []

    async def job() -> None:
        began.append(True)

    executor, in_flight = an_executor()
    handler = a_handler(job)
    run = in_flight.add(a_delivery(received=5, **fields))
    outcome, _ = await executor.execute(run, Live(handler, handler.call(Threads(1))))
    in_flight.close()

    assert isinstance(outcome, kind)
    assert began == ([True] if kind is o.Returned else [])
    if isinstance(outcome, o.Buried):
        assert (outcome.reason, outcome.counts) == (Reason.DEADLINE, False)


@pytest.mark.parametrize(
    ("why", "kind"),
    [
        (Why.STOP, o.Interrupted),
        (Why.LOST, o.Interrupted),
        (Why.CANCEL, o.CalledOff),
        (Why.TIMEOUT, o.Failed),
    ],
)
@pytest.mark.parametrize("begun", [False, True])
@story
async def test_why_a_try_was_cut_off_decides_what_becomes_of_it(why: Why, kind: type, begun: bool) -> None:
    entered, calls = asyncio.Event(), []

    async def job() -> None:
        calls.append(True)
        entered.set()
        await asyncio.Event().wait()

    executor, in_flight = an_executor()
    handler = a_handler(job)
    run = in_flight.add(a_delivery())
    trying = asyncio.get_running_loop().create_task(
        executor.execute(run, Live(handler, handler.call(Threads(1))))
    )
    if begun:
        await entered.wait()
    run.stop(why)
    outcome, _ = await trying
    in_flight.close()

    assert isinstance(outcome, kind)
    assert bool(calls) is begun, "what is cut off before it began does not begin"


@story
async def test_only_success_sends_what_was_collected() -> None:
    async def job(ctx: Context, fail: bool) -> None:
        ctx.publish("things.happened", {"n": 1})
        if fail:
            raise ValueError

    executor, in_flight = an_executor()
    handler = a_handler(job)
    live = Live(handler, handler.call(Threads(1)))
    for body, sent in ((b'{"fail":false}', 1), (b'{"fail":true}', 0)):
        _, then = await executor.execute(in_flight.add(a_delivery(body)), live)
        assert len(then) == sent
    in_flight.close()


@story
async def test_a_name_without_a_handler_is_nameless_however_bad_its_body() -> None:
    executor, in_flight = an_executor()

    outcome, _ = await executor.execute(in_flight.add(a_delivery(b"\xff", name="who")), None)

    assert outcome == o.Nameless("who")


@story
async def test_a_plain_function_around_a_coroutine_function_is_awaited() -> None:
    async def inner() -> str:
        return "awaited"

    def outer() -> Any:
        return inner()

    outcome = await outcome_of(outer)

    assert outcome == o.Returned(b'"awaited"')
