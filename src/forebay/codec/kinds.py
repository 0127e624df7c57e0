"""Which types JSON can carry: annotations are checked where they are declared, and the sentence says what to write instead."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import inspect

from forebay.codec import json
from forebay.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

_KEYS: Final = (
    inspect.AnyType, inspect.BytesType, inspect.DateTimeType, inspect.DateType, inspect.DecimalType, inspect.EnumType, inspect.FloatType,
    inspect.IntType, inspect.LiteralType, inspect.StrType, inspect.TimeDeltaType, inspect.TimeType, inspect.UnionType, inspect.UUIDType,
)  # fmt: skip
"""What has a text to be the key of a JSON object."""
_ANNOTATE: Final = "Annotate its parameters and its result with types JSON can carry; of those that look alike in JSON, with one."
_PLAIN: Final = ("builtins", "collections", "collections.abc")


def check_kind(kind: Any, what: str, *, sent: bool = True) -> None:
    """Raise `ConfigError`, naming ``what`` it is said of, for an annotation that JSON cannot carry.

    ``sent`` is False for what need not be sent: it has only to be one that can be read.
    """
    try:
        parts = [*_parts(inspect.type_info(kind))] if sent else []
        msgspec.json.Decoder(kind)
    except (TypeError, NameError, AttributeError) as error:
        raise ConfigError(f"{what}: {_tagged(kind) or f'{error}. {_ANNOTATE}'}") from error
    for part in parts:
        match part:
            case inspect.CustomType(cls) if not json.carries(cls):
                raise ConfigError(f"{what}: JSON cannot carry {_name(cls)}. {_instead(cls)}")
            case inspect.DictType(inspect.CustomType(key)) if key is object:
                pass
            case inspect.DictType(key) if not isinstance(key, _KEYS):
                raise ConfigError(
                    f"{what}: the keys of a JSON object are text, and not every {kind} has one for each of its keys. "
                    "Key it by str, int, UUID, a date or an Enum, or take a list of pairs."
                )
            case _:
                pass


def is_record(kind: Any) -> bool:
    """Whether it is a class that is an object in JSON."""
    return isinstance(kind, type) and (
        dataclasses.is_dataclass(kind)
        or issubclass(kind, msgspec.Struct)
        or json.is_pydantic(kind)
        or hasattr(kind, "__attrs_attrs__")
        or typing.is_typeddict(kind)
    )


def _parts(whole: object) -> Iterator[object]:
    """All that a type is made of, each once."""
    seen, rest = set[int](), [whole]
    while rest:
        match rest.pop():
            case tuple() as several:
                rest += several
            case (inspect.Type() | inspect.Field()) as one if id(one) not in seen:
                seen.add(id(one))
                yield one
                rest += msgspec.structs.astuple(one)
            case _:
                pass


def _instead(cls: type) -> str:
    """What to take where ``cls`` was asked for."""
    if cls.__module__ in _PLAIN and issubclass(cls, Mapping):
        return "Take a dict[...]."
    if cls.__module__ in _PLAIN and issubclass(cls, Iterable):
        return "Take a list[...]."
    return (
        "Take what makes one (text, numbers, an id) and make it in the handler, "
        "or take a dataclass, a msgspec.Struct or a pydantic model."
    )


def _tagged(kind: Any) -> str | None:
    """How the first union of classes in ``kind`` that JSON cannot tell apart is to be written, if there is one."""
    for union in _unions(kind, set()):
        records = [one for one in typing.get_args(union) if is_record(one)]
        names = " | ".join(one.__name__ for one in records)
        if len(records) < 2:
            continue
        if any(json.is_pydantic(one) for one in records):
            return (
                f"JSON does not say which of {names} it is. Take one model that holds it: "
                f"class Either(pydantic.RootModel[Annotated[{names}, pydantic.Field(discriminator='kind')]]), "
                "and give each a field such as kind: Literal['...']."
            )
        tags = "; ".join(f"class {one.__name__}(msgspec.Struct, tag=True)" for one in records)
        return f"JSON does not say which of {names} it is. Tag each: {tags}."
    return None


def _unions(kind: Any, seen: set[int]) -> Iterator[Any]:
    """Every union in ``kind``, the outermost first."""
    if id(kind) in seen:
        return
    seen.add(id(kind))
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        yield kind
    inner = typing.get_args(kind)
    if is_record(kind) and not json.is_pydantic(kind):
        inner = tuple(typing.get_type_hints(kind).values())
    for one in inner:
        yield from _unions(one, seen)


def _name(cls: type) -> str:
    return cls.__qualname__ if cls.__module__ in _PLAIN else f"{cls.__module__}.{cls.__qualname__}"
