"""Modules that declare an App's handlers: found by name or by pattern, and imported once. The App says which; who imports is Python."""

from __future__ import annotations

import re
import threading
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Final

from forebay.errors import IncludeFailed, InvalidOption
from forebay.model.names import is_pattern, matches

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import ModuleType

_MODULES: Final = re.compile(r"[^\W\d]\w*(?:\.(?:[^\W\d]\w*|\*))*(?:\.\*\*)?")


class Included:
    """The modules an App includes. Safe from any thread."""

    def __init__(self, app: str) -> None:
        self._app = app
        self._lock = threading.RLock()
        self._waiting: list[str] = []
        self._busy, self._complete = False, True
        self.modules: set[str] = set()
        """Those that are imported."""

    def add(self, modules: Iterable[str]) -> None:
        """Include more. Raises `InvalidOption` for what cannot be the name of a module."""
        if isinstance(modules, str):
            raise InvalidOption(f"include takes a list of modules: write include=[{modules!r}].")
        for module in modules:
            if not _MODULES.fullmatch(str(module)):
                raise InvalidOption(
                    f"include: {module!r} is no module: write 'shop.tasks', 'shop.*.tasks' for one in each package of shop, or "
                    "'shop.tasks.**' for all below."
                )
            self._waiting.append(module)
            self._complete = False

    def load(self) -> None:
        """Import what was not yet imported. A module that asks for it while it is imported itself is not waited for.

        Raises `IncludeFailed`; whoever asks again is told again.
        """
        if self._complete:
            return
        with self._lock:
            if self._busy:
                return
            self._busy = True
            try:
                while self._waiting:
                    self._load(self._waiting[0])
                    del self._waiting[0]
                self._complete = True
            finally:
                self._busy = False

    def _load(self, pattern: str) -> None:
        if not is_pattern(pattern):
            self._import(pattern)
            return
        package = self._import(pattern.partition(".*")[0], counts=False)
        found = sorted(name for name in _below(package) if matches(pattern, name))
        if not found:
            raise IncludeFailed(
                f"App {self._app!r} includes {pattern!r}, and there is no such module.", module=pattern
            )
        for name in found:
            self._import(name)

    def _import(self, name: str, *, counts: bool = True) -> ModuleType:
        try:
            module = import_module(name)
        except (Exception, SystemExit) as error:  # whatever a user's module raises
            why = f"{type(error).__name__}: {error}"
            raise IncludeFailed(
                f"App {self._app!r} includes {name!r}, which cannot be imported: {why}", module=name
            ) from error
        if counts:
            self.modules.add(name)
        return module


def _below(package: ModuleType) -> Iterator[str]:
    """The modules in a package, at any depth; none of them is imported. A folder needs no ``__init__.py`` to be a package."""
    folders = [(package.__name__, [Path(place) for place in getattr(package, "__path__", ())])]
    for name, places in folders:
        modules = {found.name for found in iter_modules(map(str, places))} - {"__main__"}
        inside = [path for place in places if place.is_dir() for path in place.iterdir() if path.is_dir()]
        packages = {path.name for path in inside if path.name.isidentifier()} - {"__pycache__"}
        yield from (f"{name}.{module}" for module in modules)
        folders += [(f"{name}.{each}", [place / each for place in places]) for each in packages]
