"""Whether what one task returns can be what another takes, as far as their annotations say: no promise, but a check that costs nothing."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import inspect

from forebay.model.flow import Gather

_ANY: Final = frozenset({"null", "true or false", "a number", "text", "a list", "an object"})
_FORMS: Final[tuple[tuple[tuple[type, ...], frozenset[str]], ...]] = (
    ((inspect.NoneType,), frozenset({"null"})),
    ((inspect.BoolType,), frozenset({"true or false"})),
    ((inspect.IntType, inspect.FloatType), frozenset({"a number"})),
    (
        (
            inspect.StrType, inspect.BytesType, inspect.ByteArrayType, inspect.DateTimeType, inspect.DateType, inspect.TimeType,
            inspect.TimeDeltaType, inspect.UUIDType,
        ),
        frozenset({"text"}),
    ),
    (
        (
            inspect.ListType, inspect.SetType, inspect.FrozenSetType, inspect.VarTupleType, inspect.TupleType, inspect.NamedTupleType,
        ),
        frozenset({"a list"}),
    ),
    ((inspect.DictType, inspect.TypedDictType, inspect.DataclassType), frozenset({"an object"})),
)  # fmt: skip


def misfit(takes: Any, gather: Gather, results: list[Any]) -> str | None:
    """Why what is annotated ``takes`` cannot be the ``results`` (annotations, in order) of the steps before it; None if it may.

    >>> misfit(list[int], Gather.ALL, [int, str])
    'it takes a number for each, and is given text'
    >>> misfit(list[int], Gather.ONE, [int])
    'it takes a list, and is given a number'
    """
    if gather is Gather.ONE:
        return _differ(_forms(takes), _forms(results[0]), "it takes {}, and is given {}")
    if wrong := _differ(_forms(takes), frozenset({"a list"}), "it takes {}, and is given {} of results"):
        return wrong
    item = _item(msgspec.inspect.type_info(takes))
    if item is None:
        return None
    for result in {id(one): one for one in results}.values():
        if wrong := _differ(_forms_of(item), _forms(result), "it takes {} for each, and is given {}"):
            return wrong
    return None


def _differ(takes: frozenset[str], given: frozenset[str], sentence: str) -> str | None:
    return None if takes & given else sentence.format(" or ".join(sorted(takes)), " or ".join(sorted(given)))


def _forms(kind: Any) -> frozenset[str]:
    """What a value of this annotation can be in JSON."""
    return _forms_of(msgspec.inspect.type_info(kind))


def _forms_of(kind: inspect.Type) -> frozenset[str]:
    match kind:
        case inspect.UnionType(types):
            return frozenset[str]().union(*map(_forms_of, types))
        case inspect.Metadata(inner):
            return _forms_of(inner)
        case inspect.StructType(array_like=array):
            return frozenset({"a list" if array else "an object"})
        case _:
            return next((forms for types, forms in _FORMS if isinstance(kind, types)), _ANY)


def _item(kind: inspect.Type) -> inspect.Type | None:
    """What each of a list is, if one type holds for all."""
    match kind:
        case (
            inspect.ListType(item)
            | inspect.SetType(item)
            | inspect.FrozenSetType(item)
            | inspect.VarTupleType(item)
        ):
            return item
        case _:
            return None
