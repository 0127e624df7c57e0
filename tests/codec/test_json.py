"""What JSON cannot say is refused, wherever it stands: never written as something else."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import pydantic
import pytest
from hypothesis import given, settings, strategies as st

from forebay import App
from forebay.codec import json
from forebay.codec.signature import Signature, Unseen
from forebay.context import Context
from forebay.errors import NotSerialisable
from tests.runtime.kit import story

if TYPE_CHECKING:
    from collections.abc import Callable

ODD = pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf], ids=str)


@dataclass
class Price:
    amount: float | None
    of: str = ""


class Renamed(msgspec.Struct, rename="camel"):
    unit_price: Any


class Model(pydantic.BaseModel):
    typed: float | None = None
    free: Any = None


HIDDEN: list[tuple[Any, Any, str]] = [  # a function of the odd number, the types that take it, where it is found
    (lambda odd: odd, (float, float | None, int | float, Any, object), "v"),
    (lambda odd: [1.0, None, odd], (list[float | None], list[float], list[Any], Any), "v[2]"),
    (lambda odd: (None, odd), (tuple[None, float], Any), "v[1]"),
    (lambda odd: {odd}, (set[float], Any), "v[0]"),
    (lambda odd: {"a b": {"c": odd}}, (dict[str, dict[str, float]], dict[str, Any], Any), "v['a b'].c"),
    (lambda odd: {1: odd}, (dict[int, float], Any), "v['1']"),
    (lambda odd: [Price(1.0), Price(odd)], (list[Price], Any), "v[1].amount"),
    (lambda odd: Renamed([None, odd]), (Renamed, Any), "v.unitPrice[1]"),
    (lambda odd: Model(typed=odd), (Model, Any), "v.typed"),
    (lambda odd: Model(free={"x": odd}), (Model, Any), "v.free.x"),
    (lambda odd: [2**70, odd], (list[float], Any), "v[1]"),
]  # fmt: skip
ROWS = [
    pytest.param(make, kind, at, id=f"{at} of {kind}")
    for make, kinds, at in HIDDEN
    for kind in (*kinds, None)
]


@ODD
@pytest.mark.parametrize(("make", "kind", "at"), ROWS)
def test_a_number_that_is_none_is_refused_with_its_place(make: Any, kind: Any, at: str, odd: float) -> None:
    def job(v: Any, w: Any = None) -> None: ...

    job.__annotations__ = {} if kind is None else {"v": kind}
    signature, value = Signature.of(job, context=Context), make(odd)

    sends: list[Callable[[], bytes]] = [
        lambda: signature.encode((value,), {}),
        lambda: signature.encode((), {"v": value, "w": None}),
        lambda: Unseen("job").encode((), {"v": value}),
    ]

    for send in sends:
        with pytest.raises(NotSerialisable) as refused:
            send()

        assert f"job(): argument {at} is {odd}, and JSON has no NaN" in str(refused.value)


@ODD
def test_an_argument_by_position_is_named_by_its_number(odd: float) -> None:
    with pytest.raises(NotSerialisable, match=rf"argument 2\.a\[0\] is {odd}"):
        Unseen("job").encode((None, {"a": [odd]}), {})


@ODD
@story
async def test_an_event_that_holds_one_is_refused(odd: float) -> None:
    async with App("memory://") as app:
        with pytest.raises(
            NotSerialisable, match=rf"the event cannot be written as JSON: lines\[0\] is {odd}"
        ):
            await app.publish("a.b", {"lines": [odd]})
        with pytest.raises(NotSerialisable, match=f"the event cannot be written as JSON: it is {odd}"):
            await app.publish("a.b", odd)


@pytest.mark.parametrize(
    "value",
    [None, [None, 1.5], {"null": None}, "null", {"v": Decimal("NaN")}, [None, -0.0, 5e-324, 1.7976931348623157e308], [None, 2**70]],
    ids=str,
)  # fmt: skip
def test_what_json_can_say_is_written_beside_a_null(value: Any) -> None:
    assert msgspec.json.encode(value) == json.encode(value)


TREES = st.recursive(
    st.one_of(st.none(), st.floats(), st.integers(), st.text(), st.binary(), st.builds(Price, st.floats())),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=10,
)


@settings(deadline=None)
@given(TREES)
def test_a_value_is_refused_if_and_only_if_it_holds_one(value: Any) -> None:
    try:
        json.encode(value)
    except json.NotFinite:
        assert _odd(value)
    else:
        assert not _odd(value)


def _odd(value: Any) -> bool:
    match value:
        case float():
            return not math.isfinite(value)
        case Price(amount):
            return amount is not None and not math.isfinite(amount)
        case dict():
            return any(map(_odd, value.values()))
        case list() | tuple():
            return any(map(_odd, value))
        case _:
            return False
