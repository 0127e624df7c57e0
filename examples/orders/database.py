"""A service's own small SQLite file. Forebay's file is not among them: that one is Forebay's alone."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Database:
    """One file, one connection, one lock: handlers in threads take turns."""

    __slots__ = ("_connection", "_lock")

    def __init__(self, path: Path, schema: str) -> None:
        self._lock = Lock()
        self._connection = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        # Survives the death of any process; a real shop would say FULL to survive a power cut as well.
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.executescript(schema)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All that happens in the block is stored, or nothing."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()


def rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    """What a query finds in somebody else's file, which is opened for reading only."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
        return connection.execute(sql).fetchall()
