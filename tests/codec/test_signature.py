"""From a call to bytes and back: whatever Python takes is taken, what it refuses is refused, and nothing changes on the way."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypedDict
from uuid import UUID

import msgspec
import pydantic
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from forebay.codec.signature import Arguments, Signature, Unseen
from forebay.context import Context
from forebay.errors import ConfigError, InvalidArguments, InvalidOption, NotSerialisable

if TYPE_CHECKING:
    from collections.abc import Callable


briefly = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Pair(NamedTuple):
    left: int
    right: str


class Settings(TypedDict, total=False):
    name: str
    size: int


@dataclass(frozen=True)
class Point:
    x: int
    y: float = 0.0


class Shape(msgspec.Struct, frozen=True, tag=True):
    corners: tuple[Point, ...]


class Circle(msgspec.Struct, frozen=True, tag=True):
    radius: float


class Customer(pydantic.BaseModel):
    name: str
    age: Annotated[int, pydantic.Field(ge=0)] = 0


def plain(a: int, b: str = "b", c: float = 1.5) -> None: ...
def positional(a: int, b: int = 2, /) -> None: ...
def keyword(*, a: int, b: int = 2) -> None: ...
def mixed(a: int, /, b: int, *, c: int = 3) -> None: ...
def spread(a: int, *rest: int) -> None: ...
def spread_keyword(*rest: int, c: int) -> None: ...
def keywords(**named: int) -> None: ...
def everything(a: int, /, b: int = 2, *rest: int, c: int = 3, **named: int) -> None: ...
def shadowed(a: int, /, **named: int) -> None: ...
def nothing() -> None: ...
def untyped(a, b=None, *rest, **named): ...  # type: ignore[no-untyped-def]  # that is the test
def with_context(ctx: Context, a: int, *rest: int) -> None: ...


def of(function: Callable[..., object]) -> Signature:
    return Signature.of(function, context=Context)


def seen_by(function: Callable[..., object], arguments: Arguments) -> dict[str, object]:
    """What the function's parameters would hold."""
    import inspect

    parameters = [p for p in inspect.signature(function).parameters.values() if p.name != "ctx"]
    bound = inspect.Signature(parameters).bind(*arguments.args, **arguments.kwargs)
    bound.apply_defaults()
    return dict(bound.arguments)


CALLS: list[tuple[Callable[..., object], tuple[Any, ...], dict[str, Any], dict[str, Any]]] = [
    (plain, (1,), {}, {"a": 1, "b": "b", "c": 1.5}),
    (plain, (1, "x", 2.0), {}, {"a": 1, "b": "x", "c": 2.0}),
    (plain, (), {"c": 2.0, "a": 1}, {"a": 1, "b": "b", "c": 2.0}),
    (positional, (1,), {}, {"a": 1, "b": 2}),
    (positional, (1, 5), {}, {"a": 1, "b": 5}),
    (keyword, (), {"a": 1}, {"a": 1, "b": 2}),
    (mixed, (1, 2), {}, {"a": 1, "b": 2, "c": 3}),
    (mixed, (1,), {"b": 2, "c": 4}, {"a": 1, "b": 2, "c": 4}),
    (spread, (1,), {}, {"a": 1, "rest": ()}),
    (spread, (1, 2, 3), {}, {"a": 1, "rest": (2, 3)}),
    (spread_keyword, (1, 2), {"c": 3}, {"rest": (1, 2), "c": 3}),
    (keywords, (), {}, {"named": {}}),
    (keywords, (), {"a": 1, "named": 2}, {"named": {"a": 1, "named": 2}}),
    (everything, (1,), {}, {"a": 1, "b": 2, "rest": (), "c": 3, "named": {}}),
    (everything, (1, 2, 3, 4), {"c": 5, "d": 6}, {"a": 1, "b": 2, "rest": (3, 4), "c": 5, "named": {"d": 6}}),
    (
        everything,
        (1,),
        {"a": 9, "rest": 8},
        {"a": 1, "b": 2, "rest": (), "c": 3, "named": {"a": 9, "rest": 8}},
    ),
    (shadowed, (1,), {"a": 2}, {"a": 1, "named": {"a": 2}}),
    (nothing, (), {}, {}),
    (untyped, (1, [2], "x"), {"z": None}, {"a": 1, "b": [2], "rest": ("x",), "named": {"z": None}}),
    (with_context, (1, 2), {}, {"a": 1, "rest": (2,)}),
]


@pytest.mark.parametrize(("function", "args", "kwargs", "wanted"), CALLS)
@pytest.mark.parametrize("seen", [True, False], ids=["with-code", "by-name"])
def test_every_kind_of_parameter_comes_back_as_python_would_have_given_it(
    function: Callable[..., object],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    wanted: dict[str, Any],
    seen: bool,
) -> None:
    signature = of(function)
    body = (signature if seen else Unseen(function.__name__)).encode(args, kwargs)

    assert seen_by(function, signature.decode(body)) == wanted


def test_a_body_is_an_object_by_name() -> None:
    assert of(plain).encode((1,), {"c": 2.0}) == b'{"a":1,"c":2.0}'
    assert of(positional).encode((1, 2), {}) == b'{"a":1,"b":2}'
    assert of(spread).encode((1, 2, 3), {}) == b'{"a":1,"rest":[2,3]}'
    assert of(nothing).encode((), {}) == b"{}"
    assert of(everything).encode((1, 2, 3), {"d": 4}) == b'{"*":[1,2,3],"d":4}', (
        "a name of ours might be one of theirs"
    )


def test_a_sender_without_the_code_sends_an_array_an_object_or_both() -> None:
    unseen = Unseen("job")

    assert unseen.encode((), {}) == b"{}"
    assert unseen.encode((), {"a": 1}) == b'{"a":1}'
    assert unseen.encode((1, "x"), {}) == b'[1,"x"]'
    assert unseen.encode((1,), {"b": 2}) == b'{"*":[1],"b":2}'
    with pytest.raises(NotSerialisable, match="argument '2'"):
        unseen.encode((1, object()), {})
    with pytest.raises(NotSerialisable, match=r"argument '\*'"):
        unseen.encode((object(),), {"b": 2})


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1,"b":"x"}', b' { "b" : "x", "a" : 1 } ', b'[1,"x"]', b'\n\t [1, "x"]', b'{"*":[1,"x"]}', b'{ "*": [1, "x"] }',
        b'{"b":"x","*":[1]}', b'{"*":[],"a":1,"b":"x"}', b'{"\\u002a":[1],"*":[1],"b":"x"}',
    ],
)  # fmt: skip
def test_other_languages_may_write_it_as_they_like(body: bytes) -> None:
    assert seen_by(plain, of(plain).decode(body)) == {"a": 1, "b": "x", "c": 1.5}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"nonsense", b"null", b"1", b'"x"', b'"*"', b"[", b"[1,2,3,4]", b'["x"]', b"{}",
        b'{"a":"x"}', b'{"a":1,"z":2}', b'{"*":1}',
        b'{"*":{"a":1}}', b'{"*":[1],"a":1}', b'{"*":[1,2,3,4]}', b'{"*":[', b"\xff", b'{"a":1}garbage', b"[1]garbage", b'{"*":[1]}}',
    ],
)  # fmt: skip
def test_what_is_no_call_is_refused_and_never_by_surprise(body: bytes) -> None:
    with pytest.raises((msgspec.MsgspecError, InvalidArguments)):
        of(plain).decode(body)


def test_a_star_in_a_value_is_a_value() -> None:
    assert of(plain).decode(b'{"a":1,"b":"*"}').kwargs["b"] == "*"
    assert of(plain).decode(b'{"a":1,"b":"\\"*\\""}').kwargs["b"] == '"*"'


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        ((), {}, "missing a required argument: 'a'"),
        ((1, "x", 1.0, 2), {}, "too many positional arguments"),
        ((1,), {"a": 1}, "multiple values for argument 'a'"),
        ((1,), {"z": 1}, "unexpected keyword argument 'z'"),
        (("1",), {}, r"Expected `int`, got `str` - at `\$\.a`"),
        ((1, 2), {}, r"Expected `str`, got `int` - at `\$\.b`"),
    ],
)
def test_a_call_that_python_or_the_types_would_refuse_is_refused(
    args: tuple[Any, ...], kwargs: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidArguments, match=said):
        of(plain).encode(args, kwargs)


def test_constraints_are_held_at_the_sender() -> None:
    def job(n: Annotated[int, msgspec.Meta(ge=1, le=9)], customer: Customer) -> None: ...

    with pytest.raises(InvalidArguments, match=r"`int` >= 1 - at `\$\.n`"):
        of(job).encode((0, Customer(name="Ada")), {})
    with pytest.raises(InvalidArguments, match=r"job\(\) does not take these arguments"):
        of(job).encode((1, {"name": "Ada", "age": -1}), {})
    assert of(job).encode((1, {"name": "Ada"}), {}) == b'{"n":1,"customer":{"name":"Ada"}}'


def test_defaults_are_the_receivers_and_any_object() -> None:
    marker = object()

    def job(a: int = 1, b: Any = marker, c: list[int] = []) -> None: ...  # noqa: B006  # that is the test

    signature = of(job)
    assert signature.encode((), {}) == b"{}"
    assert signature.decode(b"{}").kwargs == {"a": 1, "b": marker, "c": []}


def test_what_cannot_be_compiled_says_so() -> None:
    def odd(a: dict[tuple[int, int], list[int] | set[int]]) -> None: ...

    def two(one: Context, other: Context) -> None: ...

    with pytest.raises(ConfigError, match=r"odd\(\) cannot be a handler"):
        of(odd)
    with pytest.raises(InvalidOption, match="may take its context once"):
        of(two)


KINDS: dict[Any, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: st.integers(-(2**63), 2**63),
    float: st.floats(allow_nan=False, allow_infinity=False),
    str: st.text(),
    bytes: st.binary(),
    Decimal: st.decimals(allow_nan=False, allow_infinity=False),
    UUID: st.uuids(),
    datetime: st.datetimes(timezones=st.just(UTC)),
    date: st.dates(),
    time: st.times(),
    timedelta: st.timedeltas(timedelta(days=-10_000), timedelta(days=10_000)),
    Colour: st.sampled_from(Colour),
    Literal["a", "b"]: st.sampled_from(["a", "b"]),
    Pair: st.builds(Pair, st.integers(-9, 9), st.text()),
    Settings: st.fixed_dictionaries({}, optional={"name": st.text(), "size": st.integers(0, 9)}),
    Point: st.builds(Point, st.integers(-9, 9), st.floats(allow_nan=False, allow_infinity=False)),
    Customer: st.builds(Customer, name=st.text(), age=st.integers(0, 200)),
    Shape | Circle: st.one_of(
        st.builds(Shape, st.lists(st.builds(Point, st.integers(-9, 9))).map(tuple)),
        st.builds(Circle, st.floats(0, 9)),
    ),
    list[int | None]: st.lists(st.one_of(st.none(), st.integers(-9, 9))),
    tuple[int, str]: st.tuples(st.integers(-9, 9), st.text()),
    set[str]: st.sets(st.text()),
    dict[int, list[Point]]: st.dictionaries(
        st.integers(-9, 9), st.lists(st.builds(Point, st.integers(-9, 9)))
    ),
    dict[str, Any]: st.dictionaries(
        st.text(),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.text()),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=8,
        ),
    ),
}


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_any_value_of_any_type_comes_back_equal_in_every_form(kind: Any) -> None:
    def job(value: Any, *more: Any, last: Any = None, **named: Any) -> None: ...
    def simple(value: Any) -> None: ...

    for function in (job, simple):
        function.__annotations__ = dict.fromkeys(function.__annotations__, kind) | {
            "last": kind | None,
            "return": None,
        }
    signature, short = of(job), of(simple)

    @briefly
    @given(KINDS[kind], KINDS[kind])
    def comes_back(one: Any, other: Any) -> None:
        for call in (signature, Unseen("job")):
            body = call.encode((one, other), {"last": one, "star": other})
            wanted = {"value": one, "more": (other,), "last": one, "named": {"star": other}}
            assert seen_by(job, signature.decode(body)) == wanted
            json.loads(body)
        for body in (
            short.encode((one,), {}),
            Unseen("job").encode((one,), {}),
            Unseen("job").encode((), {"value": one}),
        ):
            assert seen_by(simple, short.decode(body)) == {"value": one}

    comes_back()


@briefly
@given(st.binary(max_size=60))
def test_no_bytes_whatever_raise_anything_unforeseen(body: bytes) -> None:
    for function in (plain, everything, untyped):
        with suppress(msgspec.MsgspecError, UnicodeDecodeError, InvalidArguments):
            of(function).decode(body)


JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-9, 9), st.sampled_from(["a", "b", "*", "rest", "named"])
    ),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["a", "b", "c", "*", "rest", "named"]), inner, max_size=4)
    ),
    max_leaves=10,
)


@briefly
@given(JSON)
def test_no_json_whatever_raises_anything_unforeseen(value: Any) -> None:
    body = json.dumps(value).encode()
    for function in (plain, positional, mixed, spread, everything, shadowed, nothing, untyped):
        try:
            arguments = of(function).decode(body)
        except (msgspec.MsgspecError, InvalidArguments):
            continue
        seen_by(function, arguments)


def test_object_takes_whatever_json_holds_as_any_does() -> None:
    def note(event: dict[str, object], rest: object = None) -> None: ...

    signature = Signature.of(note, context=Context)
    body = signature.encode(({"id": 7, "lines": [1, {"n": None}]},), {"rest": [True]})

    assert signature.decode(body).kwargs == {"event": {"id": 7, "lines": [1, {"n": None}]}, "rest": [True]}


def resize(image: bytes, size: int, unit: str = "px") -> None: ...
def scatter(words: list[str], /, end: str, *rest: str, **more: int) -> None: ...
def only(*numbers: int) -> None: ...
def named(first: int, *, second: int) -> None: ...


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "lacks"),
    [
        (resize, (), {"size": 1}, "image"),
        (resize, (1,), {}, "image"),  # by position go those that are given, behind the one that is left
        (resize, (), {"image": b""}, "size"),
        (resize, (), {"size": 1, "unit": "cm"}, "image"),
        (resize, (), {}, None),
        (resize, (b"", 1), {}, None),
        (resize, (), {"sise": 1}, None),
        (scatter, ("!",), {"x": 1}, "words"),
        (only, (), {}, None),
        (named, (1,), {}, None),
        (named, (), {"first": 1}, "second"),
        (named, (), {"second": 1}, "first"),
    ],
)
def test_a_call_lacks_the_one_argument_that_it_leaves_out(
    function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], lacks: str | None
) -> None:
    assert Signature.of(function, context=Context).lacks(args, kwargs) == lacks


@pytest.mark.parametrize(
    ("function", "body", "results", "called"),
    [
        (resize, b'{"size":1}', b'"Y2F0"', Arguments((), {"image": b"cat", "size": 1, "unit": "px"})),
        (resize, b"[1]", b'"Y2F0"', Arguments((), {"image": b"cat", "size": 1, "unit": "px"})),
        (resize, b'{"image":"Y2F0"}', b"7", Arguments((), {"image": b"cat", "size": 7, "unit": "px"})),
        (resize, b'{"image":"Y2F0","size":1}', b'"cm"', Arguments((), {"image": b"cat", "size": 1, "unit": "cm"})),
        (scatter, b'["!","?"]', b'["a","b"]', Arguments((["a", "b"], "!", "?"), {})),
        (scatter, b'{"*":["!"],"x":1}', b"[]", Arguments(([], "!"), {"x": 1})),
        (named, b'{"first":1}', b"2", Arguments((), {"first": 1, "second": 2})),
    ],
)  # fmt: skip
def test_results_are_put_where_a_call_has_left_a_place_for_them(
    function: Any, body: bytes, results: bytes, called: Arguments
) -> None:
    signature = Signature.of(function, context=Context)

    assert signature.decode(signature.with_results(body, results)) == called


@pytest.mark.parametrize(("function", "body"), [(only, b"[1]"), (named, b'{"first":1,"second":2}')])
def test_results_that_there_is_no_place_for_are_refused(function: Any, body: bytes) -> None:
    with pytest.raises(InvalidArguments, match="has no parameter left for the results"):
        Signature.of(function, context=Context).with_results(body, b"1")


@briefly
@given(st.binary(max_size=20), st.integers(), st.text(max_size=5))
def test_a_call_that_is_given_the_rest_is_the_whole_call(image: bytes, size: int, unit: str) -> None:
    signature = Signature.of(resize, context=Context)
    whole = signature.decode(signature.encode((image, size, unit), {}))
    for name, value in (("image", image), ("size", size)):
        given_: dict[str, Any] = {"image": image, "size": size, "unit": unit}
        del given_[name]
        part = signature.without(name).encode((), given_)

        assert signature.decode(signature.with_results(part, msgspec.json.encode(value))) == whole
