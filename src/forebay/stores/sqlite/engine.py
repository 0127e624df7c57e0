"""The SQLite engine: what a URL names, and what the stores of one file in one process share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from forebay.engine import EngineOptions
from forebay.stores.sqlite.checkup import Subject, checkup
from forebay.stores.sqlite.shared import TRAITS, Shared
from forebay.stores.sqlite.store import SqliteStore

if TYPE_CHECKING:
    import os

    from forebay.engine import Traits
    from forebay.model.checkup import Finding
    from forebay.model.when import Instant
    from forebay.stores.signals import Signals
    from forebay.support.clock import Clock


class SqliteEngine:
    """Messages in one file on a local disk. ``network`` allows a network file system, if only one host ever opens the file.

    >>> SqliteEngine("/tmp/forebay.db").url
    'sqlite:////tmp/forebay.db'
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        options: EngineOptions = EngineOptions(),  # noqa: B008  # frozen value
        *,
        create: bool = True,
        network: bool = False,
    ) -> None:
        self._shared = Shared(path=Path(path).absolute(), options=options, create=create, network=network)

    @property
    def traits(self) -> Traits:
        """What a SQLite store can do."""
        return TRAITS

    @property
    def signals(self) -> Signals:
        """What wakes those who wait in this process."""
        return self._shared.signals

    @property
    def url(self) -> str:
        """The file as a URL, with its absolute path."""
        return f"sqlite:///{self._shared.path}"

    def connect(self, worker: str, clock: Clock) -> SqliteStore:
        """A store for the running loop, with a connection and a thread of its own once it is declared."""
        self._shared = self._shared.here()
        return SqliteStore(self._shared, worker, clock)

    def checkup(self, now: Instant, *, deep: bool = False) -> tuple[Finding, ...]:
        """Look the file over without changing it; ``deep`` reads all of it, however large it is."""
        shared = self._shared
        subject = Subject(shared.path, shared.options.timing.sweep, network=shared.network, deep=deep)
        return checkup(subject, shared.sql, now)
