"""From what stands on the command line to an App: a user's own for a worker, a bare one on a URL for looking and steering."""

from __future__ import annotations

import difflib
import logging
import sys
import traceback
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from forebay.errors import ConfigError, EngineRefused, ForebayError, IncludeFailed, Unsupported
from forebay.support.masking import masked, without_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType, TracebackType

    from forebay.app import App

LONGEST_TRACE: Final = 12
"""Frames of a user's own traceback that are shown when an import raises: the last ones, where the fault is."""


class BadApp(ConfigError):
    """APP on the command line does not lead to an App that can work."""


def load(spec: str, include: Sequence[str] = ()) -> App:
    """The App that ``module:attribute`` names, with all its handlers, imported with the current directory on the path.

    ``include``: modules that declare handlers, beside those that the App itself includes. Raises `BadApp`.
    """
    module_name, path = parted(spec)
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    app = _app(spec, _attribute(spec, _imported(module_name, here), path))
    app.include(*include)
    try:
        routes = app.routes()
    except IncludeFailed as error:
        raise BadApp(_explained(error.module, error.__cause__ or error, here)) from error
    if not routes and app.bus is None and not app.plant().schedules.plans:
        raise BadApp(
            f"{spec} declares no handlers, so a worker would have nothing to do: use @app.task or @app.subscribe before it starts. "
            "Handlers in other modules are found with App(include=[...]) or --include MODULE."
        )
    return app


def parted(spec: str) -> tuple[str, str]:
    """The module and the attribute that ``spec`` names. Raises `BadApp`."""
    if "://" in spec:
        raise BadApp(
            f"APP names a module, and {without_secrets(spec)!r} is a URL: write shop:app, and set the URL with FOREBAY_URL."
        )
    module_name, separator, path = spec.partition(":")
    if "/" in module_name or module_name.endswith(".py"):
        near = ".".join(Path(module_name).with_suffix("").parts).strip("./")
        raise BadApp(f"APP names a module, not a file: write {near}:{path or 'app'} instead of {spec}.")
    if not separator or not all(part.isidentifier() for part in f"{module_name}.{path}".split(".")):
        raise BadApp(f"APP {masked(spec)!r} is not module:attribute: for `app` in shop.py write shop:app.")
    return module_name, path


def _imported(name: str, here: str) -> ModuleType:
    try:
        return import_module(name)
    except (Exception, SystemExit) as error:  # whatever a user's module raises is theirs to see
        raise BadApp(_explained(name, error, here)) from error


def _explained(name: str, error: BaseException, here: str) -> str:
    """Why a module could not be imported."""
    match error:
        case ModuleNotFoundError(name=str(absent)) if name == absent or name.startswith(f"{absent}."):
            return _missing(name, absent, here)
        case IncludeFailed():
            return str(error)
        case ForebayError():
            return f"Importing {name} failed{_place(error.__traceback__)}: {type(error).__name__}: {error}"
        case _:
            return _raised(name, error)


def _missing(name: str, absent: str, here: str) -> str:
    if name == absent:
        return f"There is no module {name!r}: looked in {here} and on the Python path. Run from the folder that holds it."
    if find_spec(absent.rpartition(".")[0] or name.partition(".")[0]) is not None:
        return f"There is no module {absent!r} on the way to {name!r}: check the spelling."
    return f"There is no package {absent!r} for {name!r}: looked in {here} and on the Python path."


def _raised(name: str, error: BaseException) -> str:
    """What a module raised, beginning at its own frames: the machinery of imports above them tells nothing."""
    own = error.__traceback__
    while own is not None and (
        _is_ours(own) or own.tb_frame.f_code.co_filename.startswith("<frozen importlib")
    ):
        own = own.tb_next
    kept = traceback.TracebackException(type(error), error, own, compact=True)
    kept.__cause__ = kept.__context__ = None
    kept.stack = traceback.StackSummary.from_list(list(kept.stack)[-LONGEST_TRACE:])
    shown = "".join(kept.format()).rstrip()
    return f"Importing {name} raised {type(error).__name__}:\n{shown}"


def _place(trace: TracebackType | None) -> str:
    """Where in the user's own file an error of ours was raised."""
    frames = [
        frame
        for frame in traceback.walk_tb(trace)
        if frame[0].f_globals.get("__name__", "").partition(".")[0] != "forebay"
    ]
    frames = [frame for frame in frames if not frame[0].f_code.co_filename.startswith("<frozen importlib")]
    if not frames:
        return ""
    frame, line = frames[-1]
    return f" at {Path(frame.f_code.co_filename).name} line {line}"


def _is_ours(trace: TracebackType) -> bool:
    name: str = trace.tb_frame.f_globals.get("__name__", "")
    return name in (__name__, "importlib")


def _attribute(spec: str, module: ModuleType, path: str) -> object:
    found: object = module
    for part in path.split("."):
        known = dir(found)
        if part not in known:
            raise BadApp(f"{spec}: {_owner(found)} has no {part!r}. {_hint(part, known, module)}")
        found = getattr(found, part)
    return found


def _owner(value: object) -> str:
    return f"module {value.__name__}" if isinstance(value, type(sys)) else type(value).__name__


def _hint(part: str, known: list[str], module: ModuleType) -> str:
    from forebay.app import App  # a worker's start, not help

    apps = [name for name, value in vars(module).items() if isinstance(value, App)]
    if apps:
        return f"Its Apps are: {', '.join(f'{module.__name__}:{name}' for name in apps)}."
    near = difflib.get_close_matches(part, known, n=1)
    return f"Did you mean {near[0]!r}?" if near else "It holds no App at all: make one with app = App()."


def _app(spec: str, found: object) -> App:
    from forebay.app import App  # a worker's start, not help

    if not isinstance(found, App):
        raise BadApp(f"{spec} is {_kind(found)}, not an App: name the variable that holds App(...).")
    return found


def _kind(value: object) -> str:
    if isinstance(value, type(sys)):
        return "a module"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return (
        "a function" if callable(value) and hasattr(value, "__code__") else f"of type {type(value).__name__}"
    )


@contextmanager
def opened(url: str | None, *, create: bool = False) -> Iterator[App]:
    """An App without handlers on an engine that is there already, for ``app.sync(...)``. Opens with the first call.

    Raises `ConfigError` for a URL that cannot be, `EngineRefused` for a database file that does not exist (unless ``create``).
    """
    from forebay.app import App  # not for help
    from forebay.support.settings import read

    said = read("url", url)
    app = App(said)
    if app.engine.traits.engine == "memory":
        raise Unsupported(
            "memory:// lives inside one process, and this one has just begun: give --url or FOREBAY_URL of an engine that others can open."
        )
    path = database_path(said)
    if path is not None and not path.exists() and not create:
        lock = path.with_name(f"{path.name}.lock")
        if lock.exists() and lock.stat().st_size:
            raise EngineRefused(
                f"There is no database file {path}, but there was one, as {lock} says: put it back, or say which file with --url."
            )
        raise EngineRefused(
            f"There is no database file {path}: nothing was sent from here yet. "
            "Go to the folder of your app, or say which file with --url sqlite:///path.db."
        )
    # What goes wrong is said by the command, in a sentence; without a handler Python would write the bare names of log events as well.
    silent = logging.NullHandler()
    log = logging.getLogger("forebay")
    log.addHandler(silent)
    try:
        with app:
            yield app
    finally:
        log.removeHandler(silent)


def database_path(url: str) -> Path | None:
    """The file an SQLite URL means, absolute; None for other engines."""
    parts = urlsplit(url)
    return (Path.cwd() / unquote(parts.path)[1:]) if parts.scheme.lower() == "sqlite" else None
