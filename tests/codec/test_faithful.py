"""What a handler sees is what was sent, equal and of its type, or the send is refused; what JSON makes of the rest is on a page."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from forebay.codec import json
from forebay.codec.signature import Signature
from forebay.context import Context
from forebay.errors import InvalidArguments, NotSerialisable
from tests.docs.reading import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

thoroughly = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Word(StrEnum):
    A = "a"


class Pair(NamedTuple):
    left: int
    right: str


class Settings(TypedDict, total=False):
    name: str
    due: date


@dataclass
class Point:
    x: int
    y: float = 0.0


@dataclass
class Point3(Point):
    z: int = 0


@dataclass(eq=False)
class Nameless:
    when: datetime
    tags: set[str] = field(default_factory=set)


class Line(msgspec.Struct):
    start: Point
    length: Decimal | None = None
    free: Any = None


class Longer(Line):
    more: int = 0


class Model(pydantic.BaseModel):
    at: datetime
    parts: list[Point | None] = []


class Grown(Model):
    size: int = 0


class Aliased(pydantic.BaseModel, extra="forbid"):
    order_id: int = pydantic.Field(alias="orderId")
    lines: list[int] = pydantic.Field(default=[], validation_alias=pydantic.AliasChoices("lines[]", "rows"))
    note: str = pydantic.Field(default="", serialization_alias="n")


class Nest(pydantic.BaseModel):
    inner: Model


class Vault(pydantic.BaseModel):
    key: pydantic.SecretStr | None = None
    left_out: str = pydantic.Field(default="", exclude=True)
    whatever: Any = None
    either: list[pydantic.SecretStr | int] | None = None


@attrs.define
class Private:
    shown: int
    _hidden: int = 3


FLOATS, INTS, TEXT = st.floats(), st.integers(), st.text(st.characters(codec=None), max_size=5)
MOMENTS = st.datetimes(timezones=st.one_of(st.none(), st.timezones(), st.just(UTC)))
POINTS = st.builds(Point, INTS, FLOATS)
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: INTS,
    float: FLOATS,
    str: TEXT,
    bytes: st.binary(),
    Decimal: st.decimals(),
    UUID: st.uuids(),
    datetime: MOMENTS,
    date: st.dates(),
    time: st.times(timezones=st.one_of(st.none(), st.just(UTC), st.just(timezone(timedelta(minutes=-90))))),
    timedelta: st.timedeltas(),
    Colour: st.sampled_from(Colour),
    Level: st.sampled_from(Level),
    Word: st.sampled_from(Word),
    Path: TEXT.map(Path),
    Pair: st.builds(Pair, INTS, TEXT),
    Settings: st.fixed_dictionaries({}, optional={"name": TEXT, "due": st.dates()}),
    Point: POINTS,
    Line: st.builds(Line, POINTS, st.none() | st.decimals(), st.none() | st.booleans()),
    Model: st.builds(Model, at=MOMENTS, parts=st.lists(st.none() | POINTS)),
    Aliased: st.builds(Aliased, orderId=INTS, rows=st.lists(INTS), note=st.text()),
    float | None: st.none() | FLOATS,
    list[datetime]: st.lists(MOMENTS),
    list[float | str | None]: st.lists(st.none() | FLOATS | TEXT),
    tuple[int, str]: st.tuples(INTS, TEXT),
    tuple[Decimal, ...]: st.lists(st.decimals()).map(tuple),
    set[Colour]: st.sets(st.sampled_from(Colour)),
    set[date]: st.sets(st.dates()),
    frozenset[int]: st.frozensets(INTS),
    dict[int, list[Point]]: st.dictionaries(INTS, st.lists(POINTS)),
    dict[UUID, time]: st.dictionaries(st.uuids(), st.times()),
    dict[Colour, Line]: st.dictionaries(st.sampled_from(Colour), st.builds(Line, POINTS)),
    Any: st.recursive(
        st.none() | st.booleans() | INTS | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
        lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
        max_leaves=8,
    ),
}
FORMS = (str, int, float, type(None), list, tuple, dict, set, frozenset)


def taking(kind: Any) -> Signature:
    def job(v: Any) -> None: ...

    job.__annotations__ = {"v": kind}
    return Signature.of(job, context=Context)


def seen(signature: Signature, value: Any) -> Any:
    return signature.decode(signature.encode((value,), {})).kwargs["v"]


def same(one: Any, other: Any) -> bool:
    """Equal and of equal types, all the way down. A Decimal that is a NaN is the same as its like."""
    if type(one) is not type(other):
        return False
    match one:
        case dict():
            return same([*one.items()], [*other.items()])
        case list() | tuple():
            return len(one) == len(other) and all(map(same, one, other))
        case Point():
            return same([one.x, one.y], [other.x, other.y])
        case Line():
            return same(msgspec.structs.astuple(one), msgspec.structs.astuple(other))
        case set() | frozenset():
            return {*map(repr, one)} == {*map(repr, other)}
        case Model():
            return same([one.at, one.parts], [other.at, other.parts])
        case datetime():
            return bool(one.isoformat() == other.isoformat())  # "==" knows hours that equal nothing
        case Decimal():
            return repr(one) == repr(other)
        case _:
            return bool(one == other)


@pytest.mark.parametrize("kind", VALUES, ids=str)
def test_a_value_is_seen_as_it_was_sent_or_refused(kind: Any) -> None:
    signature = taking(kind)

    @thoroughly
    @given(VALUES[kind])
    def sent(value: Any) -> None:
        with suppress(NotSerialisable, InvalidArguments):
            assert same(seen(signature, value), value)
        with suppress(ValueError):  # as a result, of which only the text is known
            body = json.encode(value)
            assert same(json.decode(body, kind), value) or _cut(value)

    sent()


def _cut(value: Any) -> bool:
    """Whether it holds a moment in the local time of a place before there were time zones."""
    moments = value if isinstance(value, list) else [getattr(value, "at", value)]
    offsets = [one.utcoffset() or timedelta() for one in moments if isinstance(one, datetime)]
    return any(offset % timedelta(minutes=1) for offset in offsets)


@pytest.mark.parametrize("kind", [kind for kind in VALUES if kind is not Any], ids=str)
def test_a_value_of_another_type_is_refused_or_a_json_form_of_what_is_annotated(kind: Any) -> None:
    signature = taking(kind)

    @thoroughly
    @given(st.one_of(*VALUES.values()))
    def sent(value: Any) -> None:
        with suppress(NotSerialisable, InvalidArguments):
            came = seen(signature, value)
            assert same(came, value) or came == value or _is_form(value)

    sent()


def _is_form(value: Any) -> bool:
    """Whether a value is made of what JSON has, and no more."""
    if type(value) not in FORMS:
        return isinstance(value, tuple | dict | str | int)
    match value:
        case dict():
            return all(map(_is_form, [*value, *value.values()]))
        case list() | tuple() | set() | frozenset():
            return all(map(_is_form, value))
        case _:
            return True


BERLIN = ZoneInfo("Europe/Berlin")
CHANGED: list[tuple[Any, Any, str]] = [
    (str, datetime(2030, 1, 1, tzinfo=UTC), "v is datetime.datetime(2030, 1, 1"),
    (str, UUID(int=5), "v is UUID("),
    (str, b"abc", "v is b'abc' and would be seen as 'YWJj'"),
    (str, Decimal("1.5"), "v is Decimal('1.5') and would be seen as '1.5'"),
    (str, Colour.RED, "v is <Colour.RED: 'red'> and would be seen as 'red'"),
    (str, PurePosixPath("/x"), "v is PurePosixPath('/x') and would be seen as '/x'"),
    (str, timedelta(1), "v is datetime.timedelta(days=1) and would be seen as 'P1D'"),
    (str | None, date(2030, 1, 1), "v is datetime.date(2030, 1, 1)"),
    (list[str], ["a", UUID(int=5)], "v[1] is UUID("),
    (set[str], {Colour.RED}, "v is {<Colour.RED: 'red'>}"),
    (dict[str, str], {"a": b"x"}, "v.a is b'x'"),
    (dict[str, int], {1: 2}, "the key 1 of v is 1 and would be seen as '1'"),
    (dict[str, int], {Colour.RED: 2}, "the key <Colour.RED: 'red'> of v is"),
    (dict[str, list[str | int]], {"a b": [1, Colour.RED]}, "v['a b'][1] is <Colour.RED"),
    (tuple[int, str], (1, Colour.RED), "v[1] is <Colour.RED"),
    (Line, Line(Point(1), free={1: 2, "1": 3}), "v.free is {1: 2, '1': 3} and would be seen as {'1': 3}"),
    (Any, {1: "a", "1": "b"}, "v is {1: 'a', '1': 'b'} and would be seen as {'1': 'b'}"),
    (Any, [{"a": [datetime(1890, 1, 1, tzinfo=BERLIN)]}], "v[0].a[0] is datetime.datetime(1890, 1, 1"),
    (datetime, datetime(1890, 1, 1, tzinfo=BERLIN), "v is datetime.datetime(1890, 1, 1"),
    (list[datetime | None], [None, datetime(1890, 1, 1, tzinfo=BERLIN)], "v[1] is datetime.datetime(1890, 1, 1"),
    (time, time(1, tzinfo=timezone(timedelta(seconds=5))), "v is datetime.time(1, 0"),
    (Nameless, Nameless(datetime(1890, 1, 1, tzinfo=BERLIN)), "v.when is datetime.datetime(1890, 1, 1"),
    (Point, Point3(1, 2.0, 3), "v is Point3(x=1, y=2.0, z=3) and would be seen as Point(x=1, y=2.0)"),
    (list[Point | None], [None, Point3(1)], "v[1] is Point3("),
    (Line, Longer(Point(1)), "v is Longer("),
    (Line, Line(Point3(1)), "v.start is Point3("),
    (Model, Grown(at=datetime(2030, 1, 1, tzinfo=UTC)), "v is Grown("),
    (Model, Model(at=datetime(1890, 1, 1, tzinfo=BERLIN)), "v.at is datetime.datetime(1890, 1, 1"),
    (Nest, Nest(inner=Grown(at=datetime(2030, 1, 1, tzinfo=UTC), size=3)), "v.inner is Grown("),
    (Vault, Vault(key=pydantic.SecretStr("x")), "v.key is SecretStr('**********') and would be seen as SecretStr("),
    (Vault, Vault(either=[1, pydantic.SecretStr("x")]), "v.either[1] is SecretStr('**********') and would be seen as SecretStr("),
    (Vault, Vault(left_out="x"), "v.left_out is 'x' and would be seen as ''"),
    (Private, Private(1, 4), "v._hidden is 4 and would be seen as 3"),
    (dict[str, Any], Point(1), "v is Point(x=1, y=0.0) and would be seen as {'x': 1, 'y': 0.0}"),
    (Settings, {"name": "a", "more": 1}, "v is {'name': 'a', 'more': 1} and would be seen as {'name': 'a'}"),
    (float, 2**53 + 1, "v is 9007199254740993 and would be seen as 9007199254740992.0"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "value", "sentence"), CHANGED, ids=[row[2][:40] for row in CHANGED])
def test_a_change_on_the_way_is_refused_with_its_place(kind: Any, value: Any, sentence: str) -> None:
    def job(*v: Any, **rest: Any) -> None: ...

    job.__annotations__ = {"v": kind, "rest": kind}
    single, many = taking(kind), Signature.of(job, context=Context)
    calls: list[tuple[Callable[[], bytes], str]] = [
        (lambda: single.encode((value,), {}), "v"),
        (lambda: many.encode((value,), {}), "v[0]"),
        (lambda: many.encode((), {"x": value}), "rest.x"),
    ]

    for refuse, at in calls:
        with pytest.raises(InvalidArguments) as refused:
            refuse()

        assert re.sub(r"\bv\b", at, sentence, count=1) in str(refused.value)


TAKEN: list[tuple[Any, Any, Any]] = [
    (datetime, "2030-01-01T00:00:00Z", datetime(2030, 1, 1, tzinfo=UTC)), (bytes, "YWJj", b"abc"), (bytes, bytearray(b"abc"), b"abc"),
    (Colour, "red", Colour.RED), (set[date], ["2030-01-01"], {date(2030, 1, 1)}), (Point, {"x": 1}, Point(1)), (float, 1, 1.0),
    (str, Word.A, "a"), (int, Level.LOW, 1), (list[int], (1, 2), [1, 2]), (tuple[int, ...], [1, 2], (1, 2)),
    (dict[int, int], {"1": 2}, {1: 2}), (tuple[int, str], Pair(1, "a"), (1, "a")), (Path, "/x", Path("/x")),
    (Line, {"start": {"x": 1}, "length": "1.5"}, Line(Point(1), Decimal("1.5"))),
    (Decimal, 0.1, Decimal("0.1")), (dict[str, object], {"a": (1, Colour.RED)}, {"a": [1, "red"]}), (set[int], [1, 1], {1}),
    (Aliased, {"orderId": 1, "rows": [2]}, Aliased.model_validate({"orderId": 1, "rows": [2]})),
    (Aliased, {"order_id": 1}, Aliased(orderId=1)),
    (Vault, Vault(whatever=(1, date(2030, 1, 1))), Vault(whatever=[1, "2030-01-01"])),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "value", "wanted"), TAKEN, ids=[f"{value} as {kind}" for kind, value, _ in TAKEN]
)
def test_a_json_form_of_what_is_annotated_is_taken(kind: Any, value: Any, wanted: Any) -> None:
    assert seen(taking(kind), value) == wanted


@dataclass
class Raises:
    x: int

    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError

    def __hash__(self) -> int:
        return 1


@pytest.mark.parametrize("fold", [0, 1])
@pytest.mark.parametrize(
    "kind", [datetime, list[datetime], set[datetime], dict[str, datetime], Any, Model], ids=str
)
def test_an_hour_that_a_zone_has_twice_is_a_moment(kind: Any, fold: int) -> None:
    twice = datetime(2030, 10, 27, 2, 30, fold=fold, tzinfo=BERLIN)
    make: dict[Any, Any] = {
        list[datetime]: [twice],
        set[datetime]: {twice},
        dict[str, datetime]: {"a": twice},
        Model: Model(at=twice),
    }

    assert f"02:30:00+0{2 - fold}:00" in taking(kind).encode((make.get(kind, twice),), {}).decode()


def test_values_that_cannot_be_compared_are_sent() -> None:
    moment = datetime(2030, 1, 1, tzinfo=UTC)

    assert seen(taking(Raises), Raises(7)).x == 7
    assert seen(taking(list[Raises]), [Raises(7)])[0].x == 7
    assert seen(taking(Nameless), Nameless(moment, {"a"})).when == moment


TABLE = re.compile(r"<!-- values:begin -->\n.*?\n.*?\n(.*?)<!-- values:end -->", re.DOTALL)
CODE = re.compile(r"`([^`]+)`")


def rows() -> list[tuple[str, str, str]]:
    found = TABLE.search((ROOT / "docs" / "sending.md").read_text("utf-8"))
    assert found is not None
    cells = [line.strip("| ").split(" | ") for line in found[1].splitlines()]
    return [tuple(CODE.findall(cell)[0] for cell in row) for row in cells]


@pytest.mark.parametrize(("sent", "free", "kind"), rows(), ids=[row[0] for row in rows()])
def test_the_page_says_what_json_makes_of_a_value(sent: str, free: str, kind: str) -> None:
    value, plain, annotated = (eval(code, globals()) for code in (sent, free, kind))  # noqa: S307  # our own page
    if sent.startswith("Point"):
        value, annotated = Point(1, 2.5), Point

    assert same(seen(taking(Any), value), plain)
    assert same(json.decode(json.encode(value), Any), plain), "as a result, or an event"
    assert same(seen(taking(annotated), value), value)
    assert same(json.decode(json.encode(value), annotated), value)
