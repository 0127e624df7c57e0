"""JSON to and from typed values. Never pickle, never a class named by the data."""

from __future__ import annotations

import sys
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


def encode(value: object) -> bytes:
    """JSON bytes of anything msgspec can write, and of pydantic models. Raises TypeError, ValueError or RecursionError."""
    return msgspec.json.encode(value, enc_hook=_to_plain)


def decode(body: bytes, kind: type[T] | Any) -> T:  # a type form such as list[int] is no type[T]
    """A value of ``kind`` from JSON bytes.

    Raises `msgspec.DecodeError` (not JSON), `msgspec.ValidationError` (JSON of other types) or RecursionError (nested too deep).
    """
    return msgspec.json.decode(body, type=kind, dec_hook=_from_plain)


def decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    """`decode`, compiled once for what is read again and again."""
    return msgspec.json.Decoder(kind, dec_hook=_from_plain)


def _to_plain(value: object) -> object:
    if _is_pydantic(type(value)):
        return value.model_dump(mode="json")  # type: ignore[attr-defined]  # pydantic is optional
    raise NotImplementedError(f"{type(value).__qualname__} cannot be written as JSON")


def _from_plain(kind: type, value: object) -> object:
    if kind is object:  # as in dict[str, object]: what strict code writes where Any is meant
        return value
    if _is_pydantic(kind):
        return kind.model_validate(value)  # type: ignore[attr-defined]  # pydantic is optional
    raise NotImplementedError(f"{kind.__qualname__} cannot be read from JSON")


def _is_pydantic(kind: type) -> bool:
    """Without importing pydantic: if it is not imported yet, nobody can hold a model of it."""
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and issubclass(kind, pydantic.BaseModel)
