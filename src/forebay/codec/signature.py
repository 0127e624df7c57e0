"""What a handler takes: its parameters, compiled once at declaration into one decoder, so that no signature is inspected at run time.

The body of a task is a JSON object of its parameters by name. A sender that does not have the code may send an array (positional
arguments), or an object that has the positional ones under ``*`` and the named ones beside it; so goes also every call to a function that
takes any keywords (``**rest``), where a name of ours could be mistaken for one of the caller's.
"""

from __future__ import annotations

import collections
import collections.abc
import difflib
import inspect
import types
import typing
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import msgspec
import msgspec.inspect
from msgspec.structs import asdict, astuple

from forebay.codec import json
from forebay.codec.faithful import equal, first_change
from forebay.codec.kinds import check_kind
from forebay.errors import ConfigError, InvalidArguments, InvalidOption, NotSerialisable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_ONE: Final = (*_POSITIONAL, inspect.Parameter.KEYWORD_ONLY)
"""Parameters of one value."""
_BY_NAME: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_ITSELF: Final = (str, int, float, bool)
"""What JSON has; where another type is annotated, it is the JSON form of that."""
_NO_LIST: Final = object()
_STAR: Final = "*"
_BLANKS: Final = b" \t\r\n"
_SENT: Final = list[msgspec.Raw] | dict[str, msgspec.Raw]


class Arguments(msgspec.Struct, frozen=True):
    """What a body holds, ready for the call."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Signature:
    """The parameters of a task, without its context.

    >>> def greet(name: str, times: int = 1) -> str: ...
    >>> signature = Signature.of(greet, context=object)
    >>> signature.encode(("Ada",), {})
    b'{"name":"Ada"}'
    >>> signature.decode(b'{"name":"Ada","times":2}')
    Arguments(args=(), kwargs={'name': 'Ada', 'times': 2})
    """

    def __init__(
        self, name: str, parameters: Sequence[inspect.Parameter], *, context: str | None, returns: Any
    ) -> None:
        self.name, self.context, self.returns = name, context, returns
        self.parameters = {p.name: p for p in parameters}
        self._inspected = inspect.Signature(list(parameters))
        self._simple = all(p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for p in parameters)
        self._names = tuple(p.name for p in parameters if p.kind in _POSITIONAL)
        self._splat = next((p.name for p in parameters if p.kind is inspect.Parameter.VAR_POSITIONAL), None)
        self._rest = next((p.name for p in parameters if p.kind is inspect.Parameter.VAR_KEYWORD), None)
        self._by_name = {p.name for p in parameters if p.kind in _BY_NAME}
        self._struct = _struct(name, parameters)
        self._decoder = json.decoder(self._struct)
        self._narrowed: dict[str, Signature] = {}

    @staticmethod
    def of(function: Callable[..., object], *, context: type) -> Signature:
        """Compile the signature of ``function``. Raises `ConfigError` for annotations that cannot be read at run time."""
        name = getattr(function, "__name__", repr(function))
        hints = hints_of(function, name)
        found, wanted = None, []
        for parameter in inspect.signature(function).parameters.values():
            annotation = hints.get(parameter.name, Any)
            if context in typing.get_args(annotation):
                raise InvalidOption(
                    f"{name}: annotate {parameter.name!r} as {context.__name__} alone; every try has one."
                )
            if annotation is context:
                if found is not None or parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
                    raise InvalidOption(
                        f"{name} may take its context once, and not as a positional-only parameter."
                    )
                found = parameter.name
            else:
                wanted.append(parameter.replace(annotation=annotation))
        return Signature(
            name,
            wanted,
            context=found,
            returns=result_of(hints.get("return", Any), f"{name}() cannot be a handler"),
        )

    @staticmethod
    def of_items(function: Callable[..., object], *, context: type) -> Signature:
        """The signature for sending one item to a ``function`` that takes a list of them (and of contexts, if it wants them).

        Raises `InvalidOption` for a function that does not, `ConfigError` for annotations that cannot be read at run time.
        """
        name = getattr(function, "__name__", repr(function))
        hints = hints_of(function, name)
        found, items = None, []
        for parameter in inspect.signature(function).parameters.values():
            kind = _item(hints.get(parameter.name, Any))
            if kind is context and found is None:
                found = parameter.name
            else:
                items.append((parameter, kind))
        if len(items) != 1 or items[0][1] is _NO_LIST or items[0][0].kind not in _BY_NAME:
            raise InvalidOption(
                f"{name}() is to be called with a batch: it takes one parameter annotated list[...], and if it wants them "
                f"the contexts, list[{context.__name__}]."
            )
        parameter, kind = items[0]
        one = parameter.replace(annotation=kind, default=inspect.Parameter.empty)
        returns = _item(hints.get("return", Any))
        return Signature(
            name,
            [one],
            context=found,
            returns=Any if returns is _NO_LIST else result_of(returns, f"{name}() cannot be a handler"),
        )

    def encode(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> bytes:
        """The body for a call. Checks number, names and types of the arguments as the worker will.

        Raises `InvalidArguments` if they do not fit, `NotSerialisable`, naming the argument, if one cannot be written as JSON.
        """
        if plain := self._simple and not kwargs and len(args) == len(self._names):
            named = dict(zip(self._names, args, strict=True))
        else:
            named = self.bind(args, kwargs)
        body = encode_named(self.name, named)
        sent = Unseen(self.name).encode(args, kwargs) if self._rest else body
        try:
            read = self._decoder.decode(body)
        except (msgspec.ValidationError, NotImplementedError, TypeError, ValueError) as error:
            raise InvalidArguments(f"{self.name}() does not take these arguments: {error}") from error
        try:
            alike = astuple(read) == args if plain else asdict(read) == named
        except Exception:  # noqa: BLE001  # a user's type may raise anything when it is compared
            alike = False
        if not alike:
            self._check_changes(named, read)
        return sent

    def decode(self, body: bytes) -> Arguments:
        """The arguments of a body. Raises `msgspec.DecodeError`, `msgspec.ValidationError`, RecursionError or TypeError.

        A body is an object of arguments by name, an array of them by position, or both: an object with the array under ``*``.
        """
        if self._rest or b'"*"' in body or body.lstrip(_BLANKS).startswith(b"["):
            body = json.encode(self._bind_sent(body))
        return self._arguments(self._decoder.decode(body))

    def result_change(self, value: object, body: bytes) -> str | None:
        """What whoever reads a result by its annotation would see otherwise than it was returned, in words; None if nothing.

        What does not fit the annotation at all is for the reader to hear of.
        """
        if self.returns is Any or type(value) in _ITSELF:
            return None
        try:
            read = self._result_decoder.decode(body)
        except Exception:  # noqa: BLE001  # whatever it is, a validator of the user's too, it is for the reader
            return None
        return (
            None
            if equal(value, read)
            else first_change(value, read, msgspec.inspect.type_info(self.returns), "it")
        )

    @cached_property
    def _result_decoder(self) -> msgspec.json.Decoder[Any]:
        return json.decoder(self.returns)

    def lacks(self, args: Sequence[object], kwargs: Mapping[str, object]) -> str | None:
        """The one parameter that this call leaves out and that must be given, if all others are given.

        >>> def resize(image: bytes, size: int) -> None: ...
        >>> Signature.of(resize, context=object).lacks((), {"size": 3})
        'image'
        """
        must = [name for name, p in self.parameters.items() if _must(p)]
        try:
            given = self.bound(args, kwargs)
            if sum(name not in given for name in must) != 1:
                return None
            free = next(name for name in must if name not in kwargs)
            self.without(free).bind(args, kwargs)
        except InvalidArguments:
            return None
        return free

    def given(self, body: bytes) -> Mapping[str, object]:
        """The arguments that a body names."""
        return _sent(body)[1]

    def free(self, kwargs: Mapping[str, object]) -> str:
        """The parameter that is given the results of other tasks, in a call that has ``kwargs`` besides: the first that must be given and
        is not, else the first that is not. Raises `InvalidArguments` if all are given.
        """
        left = [name for name, p in self.parameters.items() if name not in kwargs and p.kind in _ONE]
        name = next((name for name in left if _must(self.parameters[name])), left[0] if left else None)
        if name is None:
            raise InvalidArguments(
                f"{self.name}{self._inspected} has no parameter left for the results of the steps before it: leave one out of bind()."
            )
        return name

    def without(self, name: str) -> Signature:
        """The same function, called without one of its parameters."""
        if name not in self._narrowed:
            rest = [p for p in self.parameters.values() if p.name != name]
            self._narrowed[name] = Signature(self.name, rest, context=self.context, returns=self.returns)
        return self._narrowed[name]

    def with_results(self, body: bytes, results: bytes) -> bytes:
        """The body of a call with the results of other tasks, as JSON, in the place that it has left free for them.

        >>> def resize(image: str, size: int) -> None: ...
        >>> Signature.of(resize, context=object).with_results(b'{"size":3}', b'"cat"')
        b'{"image":"cat","size":3}'

        Raises `InvalidArguments` if there is none, and what `decode` raises.
        """
        args, kwargs = _sent(body)
        name = self.free(kwargs)
        named = {**self.without(name).bind(args, kwargs), name: msgspec.Raw(results)}
        ordered = {key: named[key] for key in self.parameters if key in named}
        if self._simple:
            return json.write(ordered)
        if self._splat in ordered:
            ordered[self._splat] = tuple(ordered[self._splat])
        whole = inspect.BoundArguments(self._inspected, collections.OrderedDict(ordered))
        return Unseen(self.name).encode(whole.args, whole.kwargs)

    def takes(self, name: str) -> bool:
        """Whether a call may name this argument."""
        return self._rest is not None or name in self._by_name

    def check_named(self, names: Iterable[str]) -> None:
        """Raise `InvalidOption`, with the nearest valid name, for one that is no parameter."""
        for name in names:
            if not self.takes(name):
                near = difflib.get_close_matches(name, self.parameters, n=1, cutoff=0.5)
                hint = (
                    f"did you mean {near[0]!r}?"
                    if near
                    else f"it has {', '.join(self.parameters) or 'none'}."
                )
                raise InvalidOption(f"{self.name} has no parameter {name!r}: {hint}")

    def bound(self, args: Iterable[object], kwargs: Mapping[str, object]) -> dict[str, object]:
        """Arguments by the names of their parameters, as many as are given. Raises `InvalidArguments` for those that do not fit."""
        try:
            return dict(self._inspected.bind_partial(*args, **kwargs).arguments)
        except TypeError as error:
            raise InvalidArguments(
                f"{self.name}{self._inspected} does not take these arguments: {error}."
            ) from error

    def _check_changes(self, sent: Mapping[str, object], seen: msgspec.Struct) -> None:
        """Raise `InvalidArguments` for an argument that JSON changes, where it is not annotated that anything will do."""
        for key, value in sent.items():
            if equal(value, other := getattr(seen, key)):
                continue
            if change := first_change(value, other, self._kinds[key], key):
                raise InvalidArguments(
                    f"{self.name}() does not take these arguments: {change}. Send what is annotated, or annotate what is sent."
                )

    @cached_property
    def _kinds(self) -> dict[str, msgspec.inspect.Type]:
        """What is annotated, by parameter."""
        whole = msgspec.inspect.type_info(self._struct)
        return (
            {one.name: one.type for one in whole.fields}
            if isinstance(whole, msgspec.inspect.StructType)
            else {}
        )

    def bind(self, args: Iterable[object], kwargs: Mapping[str, object]) -> dict[str, Any]:
        """Arguments by the names of their parameters. Raises `InvalidArguments` if they do not fit, or some are missing."""
        try:
            bound = self._inspected.bind(*args, **kwargs).arguments
        except TypeError as error:
            shown = str(self._inspected)
            raise InvalidArguments(f"{self.name}{shown} does not take these arguments: {error}.") from error
        if self._splat in bound:
            bound[self._splat] = list(bound[self._splat])  # as it is read
        return bound

    def _bind_sent(self, body: bytes) -> dict[str, object]:
        """Every argument of the call by its parameter's name, unread: they are read once, by the types of the signature."""
        return self.bind(*_sent(body))

    def _arguments(self, read: msgspec.Struct) -> Arguments:
        values = asdict(read)
        if self._simple:
            return Arguments((), values)
        args = tuple(
            values.pop(name)
            for name in self._names
            if self._splat or self.parameters[name].kind is inspect.Parameter.POSITIONAL_ONLY
        )
        args += tuple(values.pop(self._splat)) if self._splat else ()
        rest = values.pop(self._rest) if self._rest else {}
        return Arguments(args, {**values, **rest})


def _sent(body: bytes) -> tuple[list[msgspec.Raw], dict[str, msgspec.Raw]]:
    """The arguments of a body by position and by name, unread. Raises msgspec's errors."""
    sent: list[msgspec.Raw] | dict[str, msgspec.Raw] = json.decode(body, _SENT)
    if isinstance(sent, list):
        return sent, {}
    return json.decode(bytes(sent.pop(_STAR, b"[]")), list[msgspec.Raw]), sent


def _must(parameter: inspect.Parameter) -> bool:
    """Whether every call gives it."""
    return parameter.default is inspect.Parameter.empty and parameter.kind in _ONE


def _item(annotation: Any) -> Any:  # type forms
    """What a list is a list of; `_NO_LIST` for anything else."""
    if annotation is list:
        return Any
    if typing.get_origin(annotation) in (list, collections.abc.Sequence):
        return typing.get_args(annotation)[0]
    return _NO_LIST


def encode_named(name: str, named: Mapping[str, object]) -> bytes:
    """A JSON object of arguments. Raises `NotSerialisable`, naming the argument at fault."""
    try:
        return json.encode(named)
    except json.NotFinite as error:
        raise NotSerialisable(f"{name}(): argument {error}.") from error
    except (TypeError, ValueError, RecursionError, NotImplementedError) as error:
        for key, value in named.items():
            try:
                json.encode(value)
            except (TypeError, ValueError, RecursionError, NotImplementedError) as cause:
                raise NotSerialisable(
                    f"{name}(): argument {key!r} cannot be written as JSON: {cause}"
                ) from cause
        raise NotSerialisable(f"{name}(): the arguments cannot be written as JSON: {error}") from error


@dataclass(frozen=True, slots=True)
class Unseen:
    """Stands for the signature of a task whose code the sender does not have: takes anything, checks nothing."""

    name: str
    returns: Any = Any

    def lacks(self, args: Sequence[object], kwargs: Mapping[str, object]) -> None:
        """Nothing that is known of."""

    def check_named(self, names: Iterable[str]) -> None:
        """Nothing is known of its parameters."""

    def encode(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> bytes:
        """The body for a call. Raises `NotSerialisable`."""
        if not args:
            return encode_named(self.name, kwargs)
        if kwargs:
            return encode_named(self.name, {_STAR: list(args), **kwargs})
        try:
            return json.encode(args)
        except (TypeError, ValueError, RecursionError, NotImplementedError):
            return encode_named(self.name, {str(place): value for place, value in enumerate(args, 1)})


def _struct(name: str, parameters: Iterable[inspect.Parameter]) -> type[msgspec.Struct]:
    fields: list[tuple[str, Any, Any] | tuple[str, Any]] = []
    for parameter in parameters:
        kind: Any = parameter.annotation
        match parameter.kind:
            case inspect.Parameter.VAR_POSITIONAL:
                fields.append((parameter.name, list[kind], msgspec.field(default_factory=list)))
            case inspect.Parameter.VAR_KEYWORD:
                fields.append((parameter.name, dict[str, kind], msgspec.field(default_factory=dict)))
            case _ if parameter.default is inspect.Parameter.empty:
                fields.append((parameter.name, kind))
            case _:
                fields.append(
                    (parameter.name, kind, msgspec.field(default_factory=_constant(parameter.default)))
                )
        # What has a default may be for callers who are here: a session, a client of theirs.
        sent = parameter.default is inspect.Parameter.empty
        check_kind(kind, f"{name}() cannot be a handler: its parameter {parameter.name!r}", sent=sent)
    return msgspec.defstruct(f"{name}_arguments", fields, kw_only=True, forbid_unknown_fields=True)


def result_of(annotation: Any, what: str) -> Any:  # type forms
    """What a result is read as: the words a handler may return to steer (``str | Retry``) are no results, nor are the
    exceptions a batch handler may answer with. Raises `ConfigError` for one that JSON cannot carry.
    """
    if typing.get_origin(annotation) in (collections.abc.Coroutine, collections.abc.Awaitable):
        return result_of(
            typing.get_args(annotation)[-1], what
        )  # of a plain function around a coroutine function
    if annotation in (object, typing.NoReturn, typing.Never):
        return Any
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    kinds = tuple(
        kind
        for kind in (typing.get_args(annotation) if union else (annotation,))
        if not (isinstance(kind, type) and issubclass(kind, BaseException))
    )
    returns = typing.Union[kinds] if kinds else Any  # noqa: UP007  # built when running
    check_kind(returns, f"{what}: its result")
    return returns


def _constant(value: object) -> Callable[[], object]:
    return lambda: value


def hints_of(function: Callable[..., object], name: str) -> dict[str, Any]:
    """The annotations of a function. Raises `ConfigError` for those that cannot be read at run time."""
    try:
        closure = _closure(function) if inspect.isfunction(function) else {}
        return typing.get_type_hints(function, localns=closure, include_extras=True)
    except (NameError, AttributeError, SyntaxError, TypeError) as error:
        raise ConfigError(
            f"The annotations of {name}() cannot be read at run time: {error}. "
            "Define what they name in a module, or import it outside 'if TYPE_CHECKING'."
        ) from error


def _closure(function: types.FunctionType) -> dict[str, Any]:
    """What the function sees of the one it is defined in. A name that has no value yet, its own when it is being decorated, is left out."""
    known = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):
            known[name] = cell.cell_contents
    return known
