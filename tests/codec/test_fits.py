"""What one task returns against what another takes, as far as annotations say: no gross mistake passes, and nothing right is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, NamedTuple

import msgspec
import pytest

from forebay.codec.fits import misfit
from forebay.model.flow import Gather


@dataclass
class Point:
    x: int


class Row(msgspec.Struct, array_like=True):
    x: int


class Pair(NamedTuple):
    left: int
    right: str


@pytest.mark.parametrize(
    ("takes", "result"),
    [
        (int, int), (float, int), (int | None, None), (str, datetime), (bytes, str), (Point, dict), (dict[str, int], Point), (Any, Point),
        (object, int), (Annotated[int, msgspec.Meta(gt=1)], int), (list[int], Row), (Row, list), (Pair, tuple[int, str]), (set[int], list),
        (int | str, str), (str, int | str), (msgspec.Raw, int),
    ],
)  # fmt: skip
def test_what_may_be_right_is_let_through(takes: Any, result: Any) -> None:
    assert misfit(takes, Gather.ONE, [result]) is None
    assert misfit(list[takes], Gather.ALL, [result, result]) is None


@pytest.mark.parametrize(
    ("takes", "result", "why"),
    [
        (int, str, "it takes a number, and is given text"),
        (bool, int, "it takes true or false, and is given a number"),
        (Point, list[int], "it takes an object, and is given a list"),
        (Row, Point, "it takes a list, and is given an object"),
        (int, None, "it takes a number, and is given null"),
        (int | None, str, "it takes a number or null, and is given text"),
    ],
)
def test_what_cannot_be_right_is_said(takes: Any, result: Any, why: str) -> None:
    assert misfit(takes, Gather.ONE, [result]) == why
    assert misfit(Sequence[takes], Gather.ALL, [takes, result]) == why.replace(", and", " for each, and")


def test_several_results_are_a_list() -> None:
    assert misfit(int, Gather.ALL, [int, int]) == "it takes a number, and is given a list of results"
    assert misfit(Pair, Gather.ALL, [int, str]) is None
    assert misfit(Any, Gather.ALL, [int, str]) is None
