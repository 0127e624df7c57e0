"""What a function's result is, beyond the process that called it: written once, and read as the function is annotated."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

import msgspec

from forebay.codec import json
from forebay.codec.faithful import equal, first_change
from forebay.codec.signature import hints_of, result_of
from forebay.errors import NotSerialisable, name_of, quoted, text_of
from forebay.model.message import JSON

if TYPE_CHECKING:
    from collections.abc import Callable


class ResultType:
    """How results of one type are written and read.

    >>> numbers = ResultType(list[int])
    >>> numbers.read(numbers.write([1, 2]))
    [1, 2]
    """

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self._decoder = json.decoder(kind)

    @staticmethod
    def of(function: Callable[..., object]) -> ResultType:
        """What ``function`` is annotated to return; anything, if it is not. Raises `ConfigError` for what JSON cannot carry."""
        plain = bare(function)
        if not inspect.isroutine(plain):
            return ResultType(Any)
        name = getattr(plain, "__name__", repr(plain))
        return ResultType(result_of(hints_of(plain, name).get("return", Any), f"{name}() cannot be a step"))

    def write(self, value: object) -> bytes:
        """JSON that reads back as ``value``. Raises `NotSerialisable` where there is none, and says what would be changed."""
        try:
            body = json.encode(value)
        except Exception as error:  # a user's type may raise anything while it is written
            raise NotSerialisable(f"it cannot be written as JSON: {text_of(error)}") from error
        try:
            read = self._decoder.decode(body)
        except Exception as error:  # as above, while it is read
            raise NotSerialisable(
                f"it is {quoted(value)}, and not what is annotated: {text_of(error)}"
            ) from error
        if not equal(value, read) and (change := self._change(value, read)) is not None:
            raise NotSerialisable(
                f"{change}: annotate what the function returns, with a type that JSON can carry"
            )
        return body

    def read(self, body: bytes, content_type: str = JSON) -> Any:
        """The value that was written; of another content type, its bytes. Raises `NotSerialisable` for what is of another type now."""
        if content_type != JSON:
            return body
        try:
            return self._decoder.decode(body)
        except Exception as error:  # a user's type may raise anything while it is read
            raise NotSerialisable(f"{name_of(error)}: {text_of(error)}") from error

    def _change(self, value: object, read: object) -> str | None:
        if self._kind is Any:
            return f"it is {quoted(value)} and would be seen as {quoted(read)}"
        return first_change(value, read, msgspec.inspect.type_info(self._kind), "it")


def bare(function: Callable[..., object]) -> Callable[..., object]:
    """The function behind wrappers and partial calls."""
    while isinstance(function, functools.partial):
        function = inspect.unwrap(function.func)
    plain: Callable[..., object] = inspect.unwrap(function)
    return plain
