"""Whether what a handler will see is what was sent: JSON has fewer types than Python, and only an annotation says which one was meant.

Under `Any` a value is what JSON makes of it. Under anything else it comes back as it went, or is the JSON form of what is annotated (text
for a datetime, a dict for a dataclass), as senders write it who do not have the class. All else is a change that nobody asked for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Final, TypeAlias
from uuid import UUID

from msgspec import inspect

from forebay.codec import json
from forebay.codec.kinds import is_record
from forebay.errors import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    Pair: TypeAlias = tuple[object, object, object, inspect.Type]
    """The key of two values in what holds them, the two, and what is annotated."""

_ANY: Final = inspect.AnyType()
_OFFSET: Final = re.compile(rb'\d\d:\d\d[\d:.]*(?:Z|[+-]\d\d:\d\d)"')
"""The end of a moment, or of a time, that had an offset, which may have had seconds."""
_BYTES: Final = (bytes, bytearray, memoryview)
_JSON_FORMS: Final = (str, int, float, type(None), list, tuple, dict)
_RECORDS: Final = (inspect.StructType, inspect.DataclassType, inspect.NamedTupleType)
_SCALARS: Final = (*_BYTES, str, int, float, date, time, timedelta, Decimal, UUID, Enum)
_SETS: Final = (set, frozenset)


@dataclass(frozen=True, slots=True)
class _KeyOf:
    """Stands for a key itself, where a key stands for what is under it."""

    key: object


def first_change(sent: object, seen: object, kind: inspect.Type, at: str) -> str | None:
    """What would be seen otherwise than it was sent, in words; None if nothing would. ``kind`` is what is annotated, ``at`` the place.

    >>> from datetime import date
    >>> first_change([date(2030, 1, 1)], ["2030-01-01"], inspect.type_info(list[str]), "days")
    "days[0] is datetime.date(2030, 1, 1) and would be seen as '2030-01-01'"
    """
    rest = [(at, sent, seen, kind)]
    while rest:
        where, one, other, union = rest.pop()
        of = _chosen(union, other)
        if of is _ANY and _is_all(one, other):
            continue
        if _differs(one, other, free=of is _ANY):
            return f"{where} is {quoted(one)} and would be seen as {quoted(other)}"
        inner = [pair for pair in _within(one, other, of) if not equal(pair[1], pair[2])]
        rest += [(_place(where, key), a, b, of_it) for key, a, b, of_it in reversed(inner)]
    return None


def equal(one: object, other: object) -> bool:
    """Whether two values are, a tuple and a list too if they hold the same; what cannot be compared is not."""
    try:
        if type(one) is tuple and type(other) is list:
            return list(one) == other
        return bool(one == other)
    except Exception:  # noqa: BLE001  # a user's type may raise anything
        return False


def _chosen(kind: inspect.Type, seen: object) -> inspect.Type:
    """The one of a union's kinds that what is seen is of, `_ANY` where anything would have done."""
    for one in kind.types if isinstance(kind, inspect.UnionType) else (kind,):
        match one:
            case inspect.AnyType():
                return _ANY
            case inspect.CustomType(cls) if cls is object:
                return _ANY
            case inspect.StructType(cls) | inspect.DataclassType(cls) | inspect.NamedTupleType(cls):
                fits = isinstance(seen, cls)
            case inspect.DictType() | inspect.TypedDictType():
                fits = isinstance(seen, dict)
            case inspect.CollectionType() | inspect.TupleType():
                fits = isinstance(seen, list | tuple | set | frozenset)
            case _:
                fits = False
        if fits:
            return one
    return kind


def _differs(sent: object, seen: object, *, free: bool) -> bool:
    """Whether two values that are not equal are not the same either, as far as can be told without looking into them."""
    if isinstance(sent, datetime) and isinstance(seen, datetime):
        return not _same_moment(sent, seen)
    if isinstance(sent, datetime | time) and (sent.utcoffset() or timedelta()).seconds % 60:
        return True  # JSON has offsets in minutes: it would be another moment
    if isinstance(sent, dict) and isinstance(seen, dict):
        return len(sent) != len(seen)  # two keys with one text, or one that a TypedDict does not have
    if json.is_pydantic(type(seen)) and type(sent) is not type(seen):
        return isinstance(sent, type(seen))  # whatever is annotated inside a model
    if type(sent) is type(seen) and _is_opaque(sent):
        return True  # as a secret of pydantic's, which is written as stars
    if free or (isinstance(sent, _BYTES) and isinstance(seen, _BYTES)):
        return False
    if isinstance(sent, _SETS) or isinstance(seen, _SETS):
        return _set_differs(sent, seen)
    if type(sent) is type(seen):
        return isinstance(sent, _SCALARS) and repr(sent) != repr(seen)  # a Decimal that is a NaN equals none
    if isinstance(sent, int | float) and isinstance(seen, int | float):
        return True  # more digits than a float has
    return not isinstance(sent, _JSON_FORMS) or (isinstance(seen, str) and not isinstance(sent, str))


def _set_differs(sent: object, seen: object) -> bool:
    if not isinstance(sent, list | tuple | set | frozenset) or not isinstance(
        seen, list | tuple | set | frozenset
    ):
        return True
    lost = isinstance(sent, _SETS) and len(sent) != len(seen)
    return lost or any(
        not isinstance(one, _JSON_FORMS)
        and one not in seen
        and all(_differs(one, other, free=False) for other in seen)
        for one in sent
    )


def _is_all(sent: object, seen: object) -> bool:
    """Whether what is seen says all that JSON says of what was sent, and that is all there is: no key twice, no offset cut."""
    if not isinstance(seen, list | dict):
        return False
    try:
        body = json.write(sent)
        return json.write(seen) == body and _OFFSET.search(body) is None
    except (TypeError, ValueError, NotImplementedError):  # inside a model that writes what we cannot
        return False


def _is_opaque(value: object) -> bool:
    """Whether a value is of a class that can be compared, and cannot be looked into."""
    kind = type(value)
    known = isinstance(value, (*_SCALARS, *_SETS, list, tuple, dict)) or is_record(kind)
    return not known and kind.__eq__ is not object.__eq__


def _kind_of(annotation: object) -> inspect.Type:
    """What a field of a pydantic model is annotated as; anything, if that is more than msgspec knows of."""
    try:
        return inspect.type_info(annotation)
    except TypeError:
        return _ANY


def _same_moment(one: datetime, other: datetime) -> bool:
    """As ``==``, but for hours that a zone has twice or not at all: those equal nothing in another zone."""
    return (one.tzinfo is None) == (other.tzinfo is None) and not one - other


def _within(sent: object, seen: object, kind: inspect.Type) -> Iterator[Pair]:
    """What the two hold, side by side."""
    if isinstance(kind, _RECORDS) and type(sent) is type(seen):
        for field in kind.fields:
            yield field.name, getattr(sent, field.name), getattr(seen, field.name), field.type
    elif json.is_pydantic(type(sent)) and type(sent) is type(seen):
        for name, field in type(sent).model_fields.items():  # type: ignore[attr-defined]  # pydantic is optional
            yield name, getattr(sent, name), getattr(seen, name), _kind_of(field.annotation)
    elif isinstance(sent, dict) and isinstance(seen, dict):
        named = (
            {field.name: field.type for field in kind.fields}
            if isinstance(kind, inspect.TypedDictType)
            else {}
        )
        keys, values = (
            (kind.key_type, kind.value_type) if isinstance(kind, inspect.DictType) else (_ANY, _ANY)
        )
        for (key, one), (text, other) in zip(sent.items(), seen.items(), strict=True):
            yield _KeyOf(key), key, text, keys
            yield key, one, other, named.get(key, values)
    elif isinstance(sent, list | tuple) and isinstance(seen, list | tuple):
        kinds = kind.item_types if isinstance(kind, inspect.TupleType) else ()
        item = kind.item_type if isinstance(kind, inspect.CollectionType) else _ANY
        for index, (one, other) in enumerate(zip(sent, seen, strict=True)):
            yield index, one, other, kinds[index] if kinds else item


def _place(at: str, key: object) -> str:
    return f"the key {quoted(key.key)} of {at}" if isinstance(key, _KeyOf) else json.place(at, key)
