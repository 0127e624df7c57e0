"""What is declared wrongly fails at import, in a sentence that says what, which one, and what to do."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated, Any

import pytest

from forebay import App, Context, Retry, Snooze
from forebay.errors import ConfigError, InvalidName, InvalidOption, NameTaken

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from decimal import Decimal as OnlyForCheckers


@pytest.fixture
def app() -> App:
    return App("memory://")


async def plain() -> None: ...


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"max_atempts": 3}, r"@app\.task has no option 'max_atempts': did you mean 'max_attempts'\?"),
        ({"que": "mail"}, r"has no option 'que': did you mean 'queue'\?"),
        (
            {"zzz": 1},
            r"has no option 'zzz': valid options are backoff, backoff_cap, batch, gather, gather_max,",
        ),
        ({"max_attempts": 0}, "max_attempts must be a whole number from 1 to 1000, not 0"),
        ({"max_attempts": True}, "max_attempts must be a whole number"),
        ({"max_attempts": 2.5}, "max_attempts must be a whole number"),
        ({"priority": 10}, "priority must be a whole number from 0 to 9, not 10"),
        ({"priority": "high"}, "priority must be a whole number"),
        ({"timeout": 0}, "timeout must be longer than 0"),
        ({"timeout": -1}, "timeout must be between 0 and 100 years, not -1"),
        ({"timeout": float("nan")}, "timeout must be between 0 and 100 years, not nan"),
        ({"timeout": "soon"}, "timeout is not a duration: 'soon'. Write seconds"),
        ({"timeout": None}, "timeout is not a duration: None"),
        ({"backoff": "-1s"}, "backoff is not a duration"),
        ({"backoff_cap": float("inf")}, "backoff_cap must be between"),
        ({"no_retry_on": ValueError()}, r"no_retry_on takes exception types, not ValueError\(\)"),
        ({"no_retry_on": (ValueError, int)}, "no_retry_on takes exception types, not <class 'int'>"),
    ],
)
def test_options_of_a_task_are_checked(app: App, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidOption, match=sentence):
        app.task(**options)(plain)
    assert app.routes() == [], "nothing is declared by half"


@pytest.mark.parametrize("option", ["priority", "unique", "max_atempts"])
def test_options_of_a_subscription_are_checked(app: App, option: str) -> None:
    with pytest.raises(InvalidOption, match=rf"@app\.subscribe has no option '{option}'"):
        app.subscribe("a.b", **{option: 1})  # type: ignore[arg-type]  # that is the test


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "-a", "a..b", ".a", "a.", "ä", "a/b", "a" * 121, "a\n", "*", "<lambda>", 7]
)
def test_names_outside_the_grammar_are_refused_with_the_grammar(app: App, name: Any) -> None:
    for declare in (
        lambda: app.task(queue=name)(plain),
        lambda: app.subscribe("a.b", group=name)(plain),
        lambda: app.subscribe("a.b", queue=name)(plain),
        lambda: App("memory://", name=name),
    ):
        with pytest.raises(InvalidName, match=r"is not a valid name\. Use letters, digits, '_' and '-'"):
            declare()
    if name != "":
        with pytest.raises(InvalidName):
            app.task(name=name)(plain)


@pytest.mark.parametrize("name", ["_outbox", "_", "a._b"])
def test_reserved_names_are_refused(app: App, name: str) -> None:
    for declare in (
        lambda: app.task(queue=name)(plain),
        lambda: app.task(name=name)(plain),
        lambda: app.subscribe("a.b", group=name)(plain),
        lambda: app.subscribe("a.b", queue=name)(plain),
        lambda: app.named("other", queue=name),
        lambda: app.named("other").options(queue=name),
    ):
        with pytest.raises(InvalidName, match="reserved"):
            declare()


@pytest.mark.parametrize("topic", ["", "a..b", "a.**.b", "**.a", "a.b*", "a b", None, plain])
def test_topics_outside_the_grammar_are_refused(app: App, topic: Any) -> None:
    with pytest.raises(InvalidName, match="is not a valid topic pattern"):
        app.subscribe(topic)


def test_a_lambda_needs_a_name(app: App) -> None:
    with pytest.raises(InvalidName, match=r"task '<lambda>' is not a valid name"):
        app.task(lambda: None)
    assert app.task(name="named")(lambda: 3)() == 3


def test_two_tasks_of_one_name_are_refused_on_whatever_queues(app: App) -> None:
    app.task(plain)
    with pytest.raises(NameTaken, match=r"Two tasks are called 'plain': give one of them another name"):
        app.task(queue="other")(plain)
    app.task(name="another")(plain)


def test_a_queue_belongs_to_tasks_or_to_one_subscription(app: App) -> None:
    app.task(queue="mail")(plain)
    app.subscribe("a.b", group="g")(plain)
    with pytest.raises(NameTaken, match="Queue 'mail' is taken"):
        app.subscribe("a.c", queue="mail")(plain)
    with pytest.raises(NameTaken, match=r"group 'g' has a handler for 'a\.b' already"):
        app.subscribe("a.b", group="g")(plain)
    with pytest.raises(NameTaken, match=r"Queue 'g\.a\.b' belongs to a subscription"):
        app.task(name="t", queue="g.a.b")(plain)


def test_one_group_may_have_several_topics_and_one_topic_several_groups(app: App) -> None:
    for topic in ("a.b", "a.*", "a.**", "**"):
        for group in ("one", "two"):
            app.subscribe(topic, group=group)(plain)

    assert len({route.source.queue for route in app.routes()}) == 8


def test_the_group_is_the_apps_name_if_none_is_given() -> None:
    app = App("memory://", name="billing")
    app.subscribe("a.b")(plain)

    assert [route.source.group for route in app.routes()] == ["billing"]


def test_the_context_comes_first_once_and_unadorned(app: App) -> None:
    async def last(n: int, ctx: Context) -> None: ...

    async def keyword(*, ctx: Context, n: int) -> None: ...

    async def twice(ctx: Context, other: Context) -> None: ...

    async def positional(ctx: Context, /) -> None: ...

    async def optional(ctx: Context | None = None) -> None: ...

    async def annotated(ctx: Annotated[Context, "mine"]) -> None: ...

    function: Any
    for function in (last, keyword):
        with pytest.raises(InvalidOption, match="a task takes its context as its first parameter"):
            app.task(function)
    for function in (twice, positional):
        with pytest.raises(InvalidOption, match="may take its context once"):
            app.task(function)
    for function in (optional, annotated):
        with pytest.raises(InvalidOption, match="annotate 'ctx' as Context alone"):
            app.task(function)


def test_a_subscriber_takes_the_event_and_its_context_in_any_order(app: App) -> None:
    async def first(ctx: Context, event: int) -> None: ...

    async def last(event: int, ctx: Context) -> None: ...

    async def positional(event: int, /, ctx: Context) -> None: ...

    async def alone() -> None: ...

    async def too_many(event: int, other: int, ctx: Context) -> None: ...

    async def spread(*events: int) -> None: ...

    async def rest(**event: int) -> None: ...

    functions: list[Any] = [first, last, positional, alone]
    for number, function in enumerate(functions):
        app.subscribe("a.b", group=f"g{number}")(function)
    with pytest.raises(InvalidOption, match="takes the event and its context, nothing else"):
        app.subscribe("a.c")(too_many)
    for several in (spread, rest):
        with pytest.raises(InvalidOption, match="the event is one parameter"):
            app.subscribe("a.c")(several)


def test_annotations_that_cannot_be_read_at_run_time_are_refused(app: App) -> None:
    async def typed_for_checkers(price: OnlyForCheckers) -> None: ...

    async def misspelt(price: functools.NoSuchThing) -> None: ...  # type: ignore[name-defined]  # that is the test

    for function in (typed_for_checkers, misspelt):
        with pytest.raises(
            ConfigError, match=r"annotations of \w+\(\) cannot be read at run time: .*TYPE_CHECKING"
        ):
            app.task(function)


def test_types_that_json_cannot_carry_are_refused(app: App) -> None:
    async def odd(by: dict[tuple[int, int], str] | list[int] | set[int]) -> None: ...

    with pytest.raises(ConfigError, match=r"odd\(\) cannot be a handler: .*Annotate its parameters"):
        app.task(odd)


def test_a_type_of_the_enclosing_function_can_be_read(app: App) -> None:
    class Local:
        pass

    async def uses(thing: list[int], other: Local | None = None) -> None:
        assert Local is not None

    app.task(uses)


def test_only_functions_that_return_can_be_handlers(app: App) -> None:
    def yields() -> Iterator[int]:
        yield 1

    async def yields_too() -> AsyncIterator[int]:
        yield 1

    for function in (yields, yields_too):
        with pytest.raises(InvalidOption, match=r"yields\w*\(\) yields, and a handler returns"):
            app.task(function)
    with pytest.raises(
        InvalidOption, match=r"@app\.task decorates a function, not 'mail': .* options are given by name"
    ):
        app.task("mail")  # type: ignore[call-overload]  # that is the test
    for strange in (App, functools.partial(print, 1), print):
        with pytest.raises(InvalidOption, match="decorates a function, not"):
            app.task(strange)
    task = app.task(plain)
    with pytest.raises(InvalidOption, match="Task 'plain' is a handler already"):
        app.task(name="again")(task)
    with pytest.raises(InvalidOption, match="Task 'plain' is a handler already"):
        app.subscribe("a.b")(task)


def test_a_task_is_still_the_function_it_was(app: App) -> None:
    @app.task(queue="math")
    def double(n: int) -> int:
        """Twice as much."""
        return 2 * n

    assert double(4) == 8
    assert double.__doc__ == "Twice as much."
    assert (double.name, double.queue, repr(double)) == ("double", "math", "<task double on queue math>")


def test_words_are_no_part_of_a_result(app: App) -> None:
    async def job() -> str | Retry | Snooze: ...  # type: ignore[empty-body]  # only its annotation counts

    async def word() -> Retry | None: ...

    assert app.task(job).signature.returns is str
    assert app.task(word).signature.returns in (None, type(None))


def test_nothing_is_shared_by_two_apps(app: App) -> None:
    other: Callable[..., Any] = App("memory://").task
    app.task(plain)
    other(plain)
