"""JSON to and from typed values. Never pickle, never a class named by the data."""

from __future__ import annotations

import math
import re
import sys
from contextlib import suppress
from pathlib import PurePath
from typing import Any, Final, TypeVar

import msgspec

T = TypeVar("T")

_MAYBE_ODD: Final = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")
"""A number that is not finite, in MessagePack; or text that happens to hold these bytes."""


class NotFinite(ValueError):
    """A NaN or an infinity at a place in a value: JSON has neither, and writers put null where they stand."""


def encode(value: object) -> bytes:
    """JSON bytes of anything msgspec can write, of pydantic models and of paths.

    Raises `NotFinite`, TypeError, ValueError, NotImplementedError or RecursionError; a user's type may raise anything.
    """
    body = write(value)
    if body.find(b"null") >= 0:  # on every send: half the time of "in"
        _check_finite(value)
    return body


def decode(body: bytes, kind: type[T] | Any) -> T:  # a type form such as list[int] is no type[T]
    """A value of ``kind`` from JSON bytes.

    Raises `msgspec.DecodeError` (not JSON), `msgspec.ValidationError` (JSON of other types) or RecursionError (nested too deep).
    """
    return msgspec.json.decode(body, type=kind, dec_hook=_from_plain)


def decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    """`decode`, compiled once for what is read again and again."""
    return msgspec.json.Decoder(kind, dec_hook=_from_plain)


def _to_plain(value: object) -> object:
    if is_pydantic(type(value)):
        return value.model_dump(mode="json")  # type: ignore[attr-defined]  # pydantic is optional
    if isinstance(value, PurePath):
        return str(value)
    raise NotImplementedError(f"{type(value).__qualname__} cannot be written as JSON")


def place(at: str, key: object) -> str:
    """The place of what is under ``key`` in what is at ``at``.

    >>> place(place(place("", "prices"), 3), "amount")
    'prices[3].amount'
    """
    if isinstance(key, str) and (not at or key.isidentifier()):
        return f"{at}.{key}" if at else key
    return f"{at}[{key!r}]"


def _check_finite(value: object) -> None:
    """Raise `NotFinite`, with the place, if a number in ``value`` is written as null."""
    with suppress(OverflowError):  # an integer that only JSON can hold
        if not _MAYBE_ODD.search(msgspec.msgpack.encode(value, enc_hook=_to_parts)):
            return
    rest = [("", msgspec.to_builtins(value, str_keys=True, enc_hook=_to_parts))]
    while rest:
        at, one = rest.pop()
        match one:
            case float() if not math.isfinite(one):
                raise NotFinite(
                    f"{at or 'it'} is {one}, and JSON has no NaN and no infinity: give None, a text or a Decimal instead"
                )
            case dict():
                rest += [(place(at, key), inner) for key, inner in reversed(one.items())]
            case list() | tuple():
                rest += [(place(at, index), inner) for index, inner in reversed([*enumerate(one)])]
            case _:
                pass


def _to_parts(value: object) -> object:
    """What a value of a type that only we can write is made of, with its numbers as they are."""
    return value.model_dump() if is_pydantic(type(value)) else None  # type: ignore[attr-defined]  # as in _to_plain


def _from_plain(kind: type, value: object) -> object:
    if kind is object:  # as in dict[str, object]: what strict code writes where Any is meant
        return value
    if is_pydantic(kind):
        # Written by name, and by others by alias.
        return kind.model_validate(value, by_alias=True, by_name=True)  # type: ignore[attr-defined]  # it is optional
    if issubclass(kind, PurePath):
        if not isinstance(value, str):
            raise TypeError(f"Expected a path, got `{type(value).__name__}`")
        return kind(value)
    raise NotImplementedError(f"{kind.__qualname__} cannot be read from JSON")


def carries(kind: type) -> bool:
    """Whether values of a class that msgspec does not know are written and read here."""
    return kind is object or issubclass(kind, PurePath) or is_pydantic(kind)


def is_pydantic(kind: type) -> bool:
    """Whether it is a pydantic model. Without importing pydantic: if it is not imported yet, nobody can hold a model of it."""
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and issubclass(kind, pydantic.BaseModel)


write: Final = msgspec.json.Encoder(enc_hook=_to_plain).encode
"""`encode`, unchecked."""
