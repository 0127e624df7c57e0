"""What the stores of one file have in common in one process."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from forebay.engine import Durability, Ordering, Traits
from forebay.stores.signals import Signals
from forebay.stores.sqlite.session import statements
from forebay.stores.sqlite.tally import Tallies

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from forebay.engine import EngineOptions

TRAITS: Final = Traits(
    engine="sqlite",
    durability=Durability.HOST,
    ordering=Ordering.FIFO,
    settles_atomically=True,
    priorities=True,
    delay=True,
    expiry=True,
    unique=True,
    scopes=True,
    fan_out=True,
    fences=True,
    dedupes=True,
    remembers=True,
    exact=True,
    virtual_clock=True,
    shared=True,
    limits=True,
    flows=True,
    lines=True,
    max_body=64 << 20,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """The file and how it is used; and, for those who use it, signals, the lock between threads, and what is known of limits."""

    path: Path
    options: EngineOptions
    create: bool
    network: bool
    sql: Mapping[str, str] = field(default_factory=statements)
    process: int = field(default_factory=os.getpid)
    signals: Signals = field(default_factory=Signals)
    gate: threading.Lock = field(default_factory=threading.Lock)
    sockets: set[str] = field(default_factory=set)
    tallies: Tallies = field(default_factory=Tallies)

    def here(self) -> Shared:
        """What holds in this process. In a fork it is new: the parent's locks may be held by threads that do not exist there."""
        if self.process == os.getpid():
            return self
        return Shared(
            path=self.path, options=self.options, create=self.create, network=self.network, sql=self.sql
        )
