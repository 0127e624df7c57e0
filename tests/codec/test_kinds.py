"""What JSON cannot carry is refused when a handler is declared, and the sentence says what to write instead."""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, tzinfo
from enum import Enum
from fractions import Fraction
from ipaddress import IPv4Address
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Literal, NamedTuple, Never, NoReturn, Protocol, TypedDict
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest

from forebay import App, Retry, Snooze
from forebay.errors import ConfigError, InvalidArguments
from tests.runtime.kit import story, working


@dataclass
class Card:
    number: str


@dataclass
class Cash:
    note: int


@attrs.define
class Cheque:
    bank: str


class Loose(msgspec.Struct):
    a: int


class Loose2(msgspec.Struct):
    b: int


class Model(pydantic.BaseModel):
    a: int


class Model2(pydantic.BaseModel):
    b: int


class Page(TypedDict):
    a: int


class Page2(TypedDict):
    b: int


class Pair(NamedTuple):
    a: Any


class Shape(Protocol):
    x: int


class Session: ...


class Colour(Enum):
    RED = "red"


class Left(msgspec.Struct, tag=True):
    a: int


class Right(msgspec.Struct, tag=True):
    b: int


@dataclass
class Order:
    paid: Card | Cash


@dataclass
class Holder:
    held: list[Session]


class Tree(msgspec.Struct):
    inner: list[Tree] = []
    at: complex = 0


def declared(kind: Any, *, returns: Any = None) -> Any:
    async def job(v: Any) -> Any:
        return v

    job.__annotations__ = {"v": kind, "return": returns}
    return App("memory://").task(job)


CARRY = "Take what makes one (text, numbers, an id) and make it in the handler, or take a dataclass, a msgspec.Struct"
REFUSED: list[tuple[Any, str]] = [
    (complex, "JSON cannot carry complex. " + CARRY),
    (Fraction, "JSON cannot carry fractions.Fraction. "),
    (IPv4Address, "JSON cannot carry ipaddress.IPv4Address. "),
    (tzinfo, "JSON cannot carry datetime.tzinfo. "),
    (re.Pattern[str], "JSON cannot carry re.Pattern. "),
    (Session, "JSON cannot carry tests.codec.test_kinds.Session. "),
    (Shape, "JSON cannot carry tests.codec.test_kinds.Shape. "),
    (type[int], "JSON cannot carry type. "),
    (Exception, "JSON cannot carry Exception. "),
    (Callable[[], int], "JSON cannot carry Callable. "),
    (Iterable[int], "JSON cannot carry Iterable. Take a list[...]."),
    (Iterator[int], "JSON cannot carry Iterator. Take a list[...]."),
    (deque[int], "JSON cannot carry deque. Take a list[...]."),
    (range, "JSON cannot carry range. Take a list[...]."),
    (OrderedDict[str, int], "JSON cannot carry OrderedDict. Take a dict[...]."),
    (list[complex | None], "JSON cannot carry complex. "),
    (dict[str, tuple[Session, ...]], "JSON cannot carry tests.codec.test_kinds.Session. "),
    (Holder, "JSON cannot carry tests.codec.test_kinds.Session. "),
    (Tree, "JSON cannot carry complex. "),
    (dict[tuple[int, int], str], "the keys of a JSON object are text"),
    (dict[bool, int], "the keys of a JSON object are text"),
    (list[dict[Path, int]], "the keys of a JSON object are text"),
    (Card | Cash, "Tag each: class Card(msgspec.Struct, tag=True); class Cash(msgspec.Struct, tag=True)."),
    (Card | Cheque | None, "Tag each: class Card(msgspec.Struct, tag=True); class Cheque(msgspec.Struct, tag=True)."),
    (Loose | Loose2, "Tag each: class Loose(msgspec.Struct, tag=True); class Loose2(msgspec.Struct, tag=True)."),
    (list[Card | Loose], "JSON does not say which of Card | Loose it is. Tag each: class Card(msgspec.Struct, tag=True)"),
    (Page | Page2, "JSON does not say which of Page | Page2 it is. Tag each:"),
    (Order, "JSON does not say which of Card | Cash it is. Tag each:"),
    (Annotated[Card | Cash, "either"], "JSON does not say which of Card | Cash it is. Tag each:"),
    (Model | Model2, "class Either(pydantic.RootModel[Annotated[Model | Model2, pydantic.Field(discriminator='kind')]])"),
    (Model | Card, "JSON does not say which of Model | Card it is."),
    (str | bytes, "of those that look alike in JSON, with one."),
    (list[int] | set[int], "of those that look alike in JSON, with one."),
    (Path | str, "of those that look alike in JSON, with one."),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "sentence"), REFUSED, ids=[str(kind) for kind, _ in REFUSED])
def test_a_type_json_cannot_carry_is_refused_where_it_is_declared(kind: Any, sentence: str) -> None:
    async def job(*v: Any) -> None: ...

    job.__annotations__["v"] = kind
    for declare in (lambda: declared(kind), lambda: App("memory://").task(job)):
        with pytest.raises(ConfigError) as refused:
            declare()

        assert str(refused.value).startswith("job() cannot be a handler: its parameter 'v': ")
        assert sentence in str(refused.value)
    if kind is not Exception:
        with pytest.raises(ConfigError, match=r"job\(\) cannot be a handler: its result: ") as refused:
            declared(int, returns=kind)
        assert sentence in str(refused.value)


def test_an_event_and_an_item_of_a_batch_are_declared_alike() -> None:
    app = App("memory://")

    async def bill(order: Card | Cash) -> None: ...
    async def index(items: list[complex]) -> None: ...

    with pytest.raises(ConfigError, match="Tag each"):
        app.subscribe("a.b")(bill)
    with pytest.raises(ConfigError, match="JSON cannot carry complex"):
        app.task(batch=2)(index)


@pytest.mark.parametrize(
    "kind",
    [
        Any, object, dict[str, object], dict[object, int], Left | Right, Card | None, Card | int, Model | None, Path, PurePath | None,
        list[PurePosixPath], Pair, Literal["a", 1], int | float | None, dict[UUID, int], dict[date, Card], dict[Colour, Model],
        dict[int | str, int], msgspec.Raw,
    ],
    ids=str,
)  # fmt: skip
def test_what_it_can_carry_is_taken(kind: Any) -> None:
    declared(kind, returns=kind)


@pytest.mark.parametrize(
    "returns",
    [None, Any, object, NoReturn, Never, Retry, Retry | Snooze, int | Retry | ValueError, Coroutine[Any, Any, int], Awaitable[Card]],
    ids=str,
)  # fmt: skip
def test_a_result_is_what_is_left_beside_words_and_errors(returns: Any) -> None:
    declared(int, returns=returns)


def test_what_has_a_default_may_be_of_any_type() -> None:
    async def job(order: int, session: Session | None = None) -> None: ...

    App("memory://").task(job)


PATHS: list[tuple[Any, Any]] = [
    (Path, Path("/srv/a b/ü.txt")), (Path | None, None), (PurePosixPath, PurePosixPath("a/../b")),
    (PureWindowsPath, PureWindowsPath(r"C:\a")),
    (list[Path], [Path(), Path("..")]), (dict[str, Path], {"a": Path("/")}), (tuple[Path, int], (Path("x"), 1)),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "value"), PATHS, ids=[str(kind) for kind, _ in PATHS])
@story
async def test_a_path_goes_as_text_and_comes_as_a_path(kind: Any, value: Any) -> None:
    app, seen = App("memory://"), list[Any]()

    async def job(v: Any) -> Any:
        seen.append(v)
        return v

    job.__annotations__ = {"v": kind, "return": kind}
    task = app.task(job)
    async with working(app):
        result = await (await task.send(value)).result(5)

    assert (seen, result) == ([value], value)
    assert type(seen[0]) is type(result) is type(value)


def test_what_is_no_path_is_refused() -> None:
    with pytest.raises(InvalidArguments, match="Expected a path, got `int`"):
        declared(Path).bind(7)


ELSEWHERE = ["delay", "apply_async", "send_with_options", "enqueue", "kiq", "s"]


@pytest.mark.parametrize("name", ELSEWHERE)
def test_how_others_send_points_to_how_it_is_done_here(name: str) -> None:
    task = declared(int)

    with pytest.raises(AttributeError) as refused:
        getattr(task, name)(7)

    assert f"Task 'job' has no .{name}: write await job.send(...), or job.send_sync(...)" in str(
        refused.value
    )
    assert "job.options(delay='5m', queue='...', priority=9).send(...)" in str(refused.value)
    assert not hasattr(task, name)
    assert getattr(task, name, None) is None


def test_what_nobody_has_is_missed_as_ever() -> None:
    with pytest.raises(AttributeError, match="'Task' object has no attribute 'nothing'"):
        declared(int).nothing  # noqa: B018  # that is the test
