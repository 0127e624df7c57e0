"""What a function's result is beyond its process: what reads back as it was returned, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial, wraps
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from forebay.codec.results import ResultType, bare
from forebay.errors import ConfigError, NotSerialisable


@dataclass
class Point:
    x: int
    y: Decimal


@given(
    st.one_of(
        st.tuples(st.just(list[int]), st.lists(st.integers(-(2**63), 2**63))),
        st.tuples(
            st.just(dict[str, Any]),
            st.dictionaries(st.text(), st.one_of(st.none(), st.booleans(), st.text())),
        ),
        st.tuples(st.just(tuple[str, bytes]), st.tuples(st.text(), st.binary())),
        st.tuples(st.just(datetime | None), st.one_of(st.none(), st.datetimes(timezones=st.just(UTC)))),
        st.tuples(st.just(Any), st.recursive(st.one_of(st.none(), st.integers(-9, 9), st.text()), st.lists)),
    )
)
def test_what_is_written_is_read_back(case: tuple[Any, Any]) -> None:
    kind, value = case
    results = ResultType(kind)

    assert results.read(results.write(value)) == value


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Point, Point(1, Decimal("2.50"))),
        (list[Point], [Point(1, Decimal(2))]),
        (set[int], {1, 2}),
        (date, date(2030, 1, 1)),
        (UUID, UUID(int=7)),
        (Any, (1, 2)),
    ],
)
def test_types_with_a_form_in_json_come_back(kind: Any, value: object) -> None:
    results = ResultType(kind)
    read = results.read(results.write(value))

    assert read == value or (isinstance(value, tuple) and list(value) == read)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Any, datetime(2030, 1, 1, tzinfo=UTC)),
        (Any, {1: "a"}),
        (Any, {"a": (1, 2)}),
        (Any, b"bytes"),
        (Any, Point(1, Decimal(2))),
        (int, "7"),
        (list[int], ["a"]),
        (Any, object()),
        (Any, float("inf")),
    ],
)
def test_what_would_come_back_otherwise_is_refused(kind: Any, value: object) -> None:
    with pytest.raises(NotSerialisable):
        ResultType(kind).write(value)


def test_the_annotation_is_found_behind_wrappers_and_partial_calls() -> None:
    def plain(n: int) -> list[int]:
        return [n]

    @wraps(plain)
    def around(*args: Any) -> Any:
        return plain(*args)

    assert bare(partial(around, 1)) is plain
    with pytest.raises(NotSerialisable):
        ResultType.of(partial(around, 1)).write("text")


def test_a_function_without_an_annotation_may_return_json() -> None:
    assert ResultType.of(lambda: 1).read(b'{"a":1}') == {"a": 1}
    assert ResultType.of(print).write(None) == b"null"


def test_an_annotation_that_json_cannot_carry_is_refused() -> None:
    def odd() -> complex:
        return 1j

    with pytest.raises(ConfigError, match=r"odd\(\) cannot be a step"):
        ResultType.of(odd)


def test_what_is_no_json_is_read_as_bytes_and_what_changed_is_said() -> None:
    assert ResultType(int).read(b"\xff", "text/plain") == b"\xff"
    with pytest.raises(NotSerialisable, match="ValidationError"):
        ResultType(int).read(b'"text"')
    with pytest.raises(NotSerialisable, match="DecodeError"):
        ResultType(int).read(b"")
