"""The SQLite engine: what a URL names, and what the stores of one file in one process share."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from forebay.engine import Durability, EngineOptions, Ordering, Traits
from forebay.stores.signals import Signals
from forebay.stores.sqlite.checkup import Subject, checkup
from forebay.stores.sqlite.session import statements
from forebay.stores.sqlite.store import SqliteStore
from forebay.stores.sqlite.tally import Tallies

if TYPE_CHECKING:
    from forebay.model.checkup import Finding
    from forebay.model.when import Instant
    from forebay.support.clock import Clock

TRAITS: Final = Traits(
    engine="sqlite",
    durability=Durability.HOST,
    ordering=Ordering.FIFO,
    settles_atomically=True,
    priorities=True,
    delay=True,
    expiry=True,
    unique=True,
    fan_out=True,
    fences=True,
    dedupes=True,
    remembers=True,
    exact=True,
    virtual_clock=True,
    shared=True,
    limits=True,
    max_body=64 << 20,
)


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
        self.path = Path(path).absolute()
        self.options, self.create, self.network = options, create, network
        self.sql = statements()
        self._share()

    def _share(self) -> None:
        """What the stores of this process have in common."""
        self.process = os.getpid()
        self.signals = Signals()
        self.gate = threading.Lock()
        self.sockets: set[str] = set()
        self.tallies = Tallies()

    @property
    def traits(self) -> Traits:
        """What a SQLite store can do."""
        return TRAITS

    @property
    def url(self) -> str:
        """The file as a URL, with its absolute path."""
        return f"sqlite:///{self.path}"

    def connect(self, worker: str, clock: Clock) -> SqliteStore:
        """A store for the running loop, with a connection and a thread of its own once it is declared."""
        if self.process != os.getpid():
            # After a fork: the parent's locks may be held by threads that do not exist here.
            self._share()
        return SqliteStore(self, worker, clock)

    def checkup(self, now: Instant, *, deep: bool = False) -> tuple[Finding, ...]:
        """Look the file over without changing it; ``deep`` reads all of it, however large it is."""
        subject = Subject(self.path, self.options.timing.sweep, network=self.network, deep=deep)
        return checkup(subject, self.sql, now)
