"""One lock for one file, among all threads and processes of the host.

It is held around every write transaction, checkpoint and close. So no two connections ever write or checkpoint at once, which is what
the write-ahead log of older SQLite versions could not bear, and waiting is a queue within a process and a short poll between processes,
rather than SQLite's own long sleeps. It lies on a file at the side: opening and closing the database file itself would drop SQLite's
own locks on it.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from forebay.errors import EngineUnavailable
from forebay.model.when import SECOND

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forebay.engine import Timing

OPENING: Final = 30.0
"""Seconds to wait for the lock when the file is opened: whoever has it may be bringing the schema up to date."""
_LEAST, _MOST = 1.0, 5.0
_FIRST_NAP: Final = 0.000_1
_LONGEST_NAP: Final = 0.000_5


def patience(timing: Timing) -> float:
    """Seconds that a transaction waits for others: less than a heartbeat, so that a renewal fails while there is time for the next.

    Not less than a second, whatever the heartbeat: a disk may well take that long.
    """
    return min(max(_LEAST, timing.heartbeat / SECOND / 2), _MOST)


class FileLock:
    """The lock of one store. ``gate`` is shared by all stores of an engine. ``patience``: seconds to wait for others."""

    def __init__(self, path: str, gate: threading.Lock, patience: float = _MOST) -> None:
        self._path, self._gate, self._patience = path, gate, patience
        self._never = threading.Event()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    @contextmanager
    def held(self, *, patience: float | None = None) -> Iterator[None]:
        """Hold the lock. Raises `EngineUnavailable` if others keep it longer than ``patience`` seconds, or than the lock's own."""
        patience = self._patience if patience is None else patience
        deadline = time.monotonic() + patience
        if not self._gate.acquire(timeout=patience):
            raise self._late(patience)
        try:
            self._take(deadline, patience)
            try:
                yield
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)
        finally:
            self._gate.release()

    @property
    def marked(self) -> bool:
        """Whether there was a database before. While it is held."""
        return os.fstat(self._file).st_size > 0

    def mark(self) -> None:
        """Remember that there is a database, for `check_place` to see. While it is held."""
        if not self.marked:
            os.write(self._file, b"The lock of the database beside it. Not empty: that was made.\n")

    def _take(self, deadline: float, patience: float) -> None:
        nap = _FIRST_NAP
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise self._late(patience) from None
                # flock() knows no timeout; naps this short cost less than the commits they wait for.
                self._never.wait(nap)
                nap = min(nap * 1.5, _LONGEST_NAP)
            except OSError as error:
                raise EngineUnavailable(
                    f"{self._path} cannot be locked ({error.strerror}): check the file system it is on."
                ) from error
            else:
                return

    def _late(self, patience: float) -> EngineUnavailable:
        return EngineUnavailable(
            f"Another process has held {self._path} for {patience:g} s: nothing was changed. Try again; if that does not help, look for"
            " one that is stopped or stuck."
        )

    def close(self) -> None:
        """Let go of the side file. It stays: removing it would let two processes hold two locks of one name."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
