"""Moving the write-ahead log into the database, in bounded steps, under the lock, by the thread that wrote it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import apsw

from forebay.errors import EngineUnavailable

if TYPE_CHECKING:
    from forebay.stores.sqlite.connection import Connection
    from forebay.stores.sqlite.lock import FileLock

STEP: Final = 1_000
"""Pages written since the last checkpoint that make the next one due."""
LARGE: Final = 4_096
"""Pages (16 MiB) in the log from which it is also cut, as soon as no reader is in the way."""


class Checkpoints:
    """The checkpoints of one connection. It knows of the log's length by its own commits."""

    def __init__(self, conn: Connection, lock: FileLock) -> None:
        self._conn, self._lock = conn, lock
        self._pages = self._moved = 0
        conn.set_wal_hook(self._written)

    def _written(self, conn: apsw.Connection, name: str, pages: int) -> int:
        self._pages = pages
        if pages < self._moved:
            # Somebody began the log anew.
            self._moved = 0
        return apsw.SQLITE_OK

    @property
    def due(self) -> bool:
        """Whether enough was written since the last one."""
        return self._pages - self._moved >= STEP

    def run_if_due(self) -> None:
        """Checkpoint if enough was written. It is upkeep: a failure is left for the next time."""
        if not self.due:
            return
        mode = apsw.SQLITE_CHECKPOINT_TRUNCATE if self._pages >= LARGE else apsw.SQLITE_CHECKPOINT_PASSIVE
        # Not due again before another step, even if a reader keeps this one from moving anything.
        self._moved = self._pages
        try:
            with self._lock.held():
                # Wait for no reader: the next step tries again.
                self._conn.set_busy_timeout(0)
                try:
                    pages, _ = self._conn.wal_checkpoint(mode=mode)
                finally:
                    self._conn.be_patient()
        except (apsw.Error, EngineUnavailable):
            return
        if pages <= 0:
            self._pages = self._moved = 0

    def close(self) -> None:
        """Close the connection, which checkpoints if it is the last; without the lock, leave that to the next one."""
        self._conn.set_wal_hook(None)
        try:
            with self._lock.held():
                self._conn.close()
        except EngineUnavailable:
            self._conn.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            self._conn.close()
