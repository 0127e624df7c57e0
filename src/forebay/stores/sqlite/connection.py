"""Opening the file: ours or not, which version, and the settings every connection has. The caller holds the lock."""

from __future__ import annotations

import os
import sys
from importlib import resources
from typing import Final

import apsw

from forebay.errors import EngineRefused

APPLICATION: Final = 0x46_42_41_59
"""The application id in the header of our files: "FBAY"."""
SETTINGS: Final = """
PRAGMA synchronous = FULL;
PRAGMA mmap_size = 0;
PRAGMA temp_store = MEMORY;
PRAGMA cache_size = -16000;
PRAGMA journal_size_limit = 16777216;
PRAGMA trusted_schema = OFF;
"""
"""What every connection is told."""


class Connection(apsw.Connection):
    """A connection that knows which process opened which file. ``patience``: seconds to wait for a program that does not know our lock,
    such as SQLite's shell.
    """

    def __init__(self, path: str, patience: float, flags: int = apsw.SQLITE_OPEN_READWRITE) -> None:
        super().__init__(path, flags=flags, statementcachesize=100)
        self.process, self.file = os.getpid(), os.stat(path)  # noqa: PTH116  # as os.path.samestat wants it
        self._patience = int(patience * 1_000)
        self.be_patient()

    def be_patient(self) -> None:
        """Wait for others again, after `set_busy_timeout` has said otherwise."""
        self.set_busy_timeout(self._patience)

    def check_file(self, path: str) -> None:
        """Raise `EngineRefused` if ``path`` is another file by now, or none: what is stored here would be found by nobody."""
        try:
            same = os.path.samestat(os.stat(path), self.file)  # noqa: PTH116  # as os.path.samestat wants it
        except FileNotFoundError:
            same = False
        except OSError:
            # It cannot be looked at, which says nothing about what it is.
            return
        if not same:
            raise EngineRefused(
                f"{path} was moved, deleted or replaced while it was open: put it back, or restart what has it open."
            )


def connect(path: str, patience: float = 1.0, *, create: bool = True) -> Connection:
    """Open the file, create it if there is none and that is wanted, and bring its schema up to date.

    Raises `EngineRefused` for a file not ours, FileNotFoundError for none.
    """
    if create:
        _create(path)
    _check_process(path)
    conn = Connection(path, patience)
    try:
        version = _check(conn, path)
        # Checkpoints are the thread's business, under the lock.
        conn.wal_autocheckpoint(0)
        # Plans do not depend on values; else SQLite would plan anew at each use of a partial index, for a tenth of a millisecond.
        conn.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        conn.execute(SETTINGS)
        if sys.platform == "darwin":
            conn.execute("PRAGMA fullfsync = 1; PRAGMA checkpoint_fullfsync = 1")
        if conn.pragma("journal_mode", "wal") != "wal":
            raise EngineRefused(
                f"{path} cannot have a write-ahead log on this file system: choose a local disk."
            )
        _migrate(conn, version)
    except BaseException:
        conn.close()
        raise
    return conn


def connect_to_look(path: str, patience: float) -> Connection:
    """A connection that cannot write, to a file that this process has open already."""
    conn = Connection(path, patience, apsw.SQLITE_OPEN_READONLY)
    try:
        conn.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        conn.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        conn.execute(
            "PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -4000; PRAGMA trusted_schema = OFF"
        )
    except BaseException:
        conn.close()
        raise
    return conn


def _create(path: str) -> None:
    """Make an empty file that only its owner can read. It is new, so no connection has locks on it that closing it could drop."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return


def _check_process(path: str) -> None:
    """Raise `EngineRefused` if the parent process had the file open when this process was forked from it.

    SQLite then takes the parent's locks for this process's own, which they are not: when the parent closes the file, its log is removed
    under our feet, and what is committed after that is lost without a word.
    """
    file = os.stat(path)  # noqa: PTH116  # as os.path.samestat wants it
    for other in apsw.connections():
        if (
            isinstance(other, Connection)
            and other.process != os.getpid()
            and os.path.samestat(other.file, file)
        ):
            raise EngineRefused(
                f"{path} was open when this process was forked, and SQLite cannot be used across a fork: open the App after the fork"
                ", close it before, or start processes by 'spawn'."
            )


def _check(conn: apsw.Connection, path: str) -> int:
    """The schema version of the file, 0 for an empty one."""
    if conn.readonly("main"):
        raise EngineRefused(
            f"{path} cannot be written: give this user the right to write the file and its directory."
        )
    owner, version = conn.pragma("application_id"), conn.pragma("user_version")
    tables = conn.execute("SELECT count(*) FROM sqlite_schema").get
    if owner != APPLICATION and (owner or version or tables):
        raise EngineRefused(
            f"{path} is a database of another program: choose another path for Forebay's own file."
        )
    newest = len(migrations())
    if version > newest:
        raise EngineRefused(
            f"{path} has schema version {version}, and this version of Forebay knows up to {newest}: upgrade Forebay,"
            " or choose another path."
        )
    return int(version)


def migrations() -> list[str]:
    """The steps from an empty file to the newest schema, in order. Files are only ever added."""
    folder = resources.files(__package__).joinpath("schema")
    files = sorted(
        (file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name
    )
    return [file.read_text("utf-8") for file in files]


def _migrate(conn: apsw.Connection, version: int) -> None:
    steps = migrations()
    if version == len(steps):
        return
    with conn:
        for step in steps[version:]:
            conn.execute(step)
        conn.pragma("application_id", APPLICATION)
        conn.pragma("user_version", len(steps))
