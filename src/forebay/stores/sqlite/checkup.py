"""Looking a file over from outside: is it ours, sound, private, on a good disk, and does anybody look after it. Changes nothing in it."""

from __future__ import annotations

import os
import stat
import threading
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import apsw

from forebay.errors import EngineError, EngineRefused, EngineUnavailable
from forebay.model.checkup import Finding, Grade
from forebay.model.when import SECOND
from forebay.stores.sqlite.connection import APPLICATION, SETTINGS, migrations
from forebay.stores.sqlite.listener import WakeDirectory
from forebay.stores.sqlite.lock import FileLock
from forebay.stores.sqlite.place import NETWORK, check_place, filesystem
from forebay.stores.sqlite.translate import translate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from forebay.model.when import Instant, Micros

MIB: Final = 1 << 20
LEAST_ROOM: Final = 64 * MIB
"""Bytes free on the disk below which the next burst may not be stored."""
LITTLE_ROOM: Final = 1024 * MIB
LONG_LOG: Final = 64 * MIB
"""Bytes of write-ahead log that checkpoints do not let it reach, unless a reader is in their way."""
QUICK_SIZE: Final = 256 * MIB
"""Bytes of database that are read through without being asked to."""
PATIENCE: Final = 2.0
"""Seconds to wait for the lock: no transaction of ours takes as long."""
AHEAD: Final = 5 * SECOND
"""How far a message may seem to come from the future."""
SOUND: Final = 3_051_003
"""The first SQLite without the WAL-reset fault, as SQLite numbers itself."""
FULL: Final = 2
"""What ``PRAGMA synchronous`` says for FULL."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is looked over. ``network``: a network file system was allowed; ``deep``: however long it takes."""

    path: Path
    sweep: Micros
    network: bool
    deep: bool

    def beside(self, ending: str) -> Path:
        """A file that lies beside the database."""
        return self.path.with_name(f"{self.path.name}{ending}")


def checkup(subject: Subject, sql: Mapping[str, str], now: Instant) -> tuple[Finding, ...]:
    """Every check in turn; where one fails that others stand on, those are left out and one line says so."""
    found = [_library(apsw.sqlite_lib_version()), *_outside(subject)]
    barred = any(one.grade is Grade.FAIL and one.name in ("file", "file system") for one in found)
    if barred or not subject.path.exists():
        return (*found, Finding("contents", Grade.SKIPPED, "the file was not opened"))
    try:
        with translate(os.fspath(subject.path)), closing(_opened(subject.path)) as conn:
            found.extend(_inside(subject, conn, sql, now))
    except EngineError as error:
        found.append(_refused("contents", error))
    except apsw.Error as error:
        # What the wall lets through as a fault of ours is one of the file's here: somebody has changed its tables.
        found.append(
            Finding(
                "contents",
                Grade.FAIL,
                f"the tables are not as they should be ({error})",
                "Restore the file from a backup.",
            )
        )
    return tuple(found)


# -- from outside


def _library(version: str) -> Finding:
    major, minor, patch = (int(part) for part in version.split(".")[:3])
    if major * 1_000_000 + minor * 1_000 + patch >= SOUND:
        return Finding("sqlite", Grade.OK, version)
    return Finding(
        "sqlite",
        Grade.WARN,
        f"{version} can lose pages when a log is begun anew; our lock is in the way of that, other programs' is not",
        "Install apsw 3.51.3 or newer.",
    )


def _outside(subject: Subject) -> Iterator[Finding]:
    """What `stat` tells."""
    try:
        check_place(subject.path, create=True, network=True)
    except EngineRefused as error:
        yield _refused("file", error)
        return
    try:
        seen = subject.path.stat()
    except FileNotFoundError:
        yield Finding(
            "file",
            Grade.WARN,
            f"{subject.path} is not there yet",
            "Nothing to do if nothing was sent yet: the app's first send, or its worker, makes it. Else say which file with --url.",
        )
        yield from (_filesystem(subject), _room(subject.path))
        return
    yield Finding("file", Grade.OK, f"{subject.path}, {_size(seen.st_size)}")
    yield _mode(subject.path, stat.S_IMODE(seen.st_mode))
    yield _owner(subject.path, seen.st_uid)
    yield _filesystem(subject)
    yield _room(subject.path)
    yield _log(subject)
    yield _lock(subject)
    yield _signals(subject)


def _filesystem(subject: Subject) -> Finding:
    kind = filesystem(subject.path)
    if kind is None:
        return Finding("file system", Grade.SKIPPED, "this system has no table of mounts")
    if kind not in NETWORK:
        return Finding("file system", Grade.OK, kind)
    text = f"{kind} is a network file system, where SQLite can lose data"
    if subject.network:
        return Finding(
            "file system", Grade.WARN, f"{text}; the URL allows it", "Let only one host ever open the file."
        )
    return Finding(
        "file system", Grade.FAIL, text, "Move the file to a local disk, or use an engine with a server."
    )


def _room(path: Path) -> Finding:
    kept = os.statvfs(path.parent)
    free = kept.f_bavail * kept.f_frsize
    text = f"{_size(free)} free"
    if free >= LITTLE_ROOM:
        return Finding("disk", Grade.OK, text)
    return Finding(
        "disk", Grade.FAIL if free < LEAST_ROOM else Grade.WARN, text, f"Make room where {path.parent} lies."
    )


def _mode(path: Path, mode: int) -> Finding:
    if not mode & 0o077:
        return Finding("mode", Grade.OK, f"{mode:04o}")
    return Finding(
        "mode",
        Grade.WARN,
        f"{mode:04o}: others may reach into the messages",
        f"chmod 600 {path}, if no other user's process shares it.",
    )


def _owner(path: Path, owner: int) -> Finding:
    if owner == os.geteuid():
        return Finding("owner", Grade.OK, f"user {owner}, as this process")
    return Finding(
        "owner",
        Grade.WARN,
        f"user {owner}, but this process is user {os.geteuid()}",
        f"Run as the user of the workers, or chown {path} and the files beside it.",
    )


def _log(subject: Subject) -> Finding:
    try:
        size = subject.beside("-wal").stat().st_size
    except FileNotFoundError:
        size = 0
    if size <= LONG_LOG:
        return Finding("log", Grade.OK, f"{_size(size)} of write-ahead log")
    return Finding(
        "log",
        Grade.WARN,
        f"{_size(size)} of write-ahead log: something keeps it from being cut",
        "Look for a program that reads this file in one long transaction, such as an open shell or a backup, and end it.",
    )


def _lock(subject: Subject) -> Finding:
    path = subject.beside(".lock")
    if not path.exists():
        return Finding("lock", Grade.OK, "nobody has needed it yet")
    try:
        with translate(os.fspath(path)):
            lock = FileLock(os.fspath(path), threading.Lock(), PATIENCE)
        try:
            with lock.held():
                return Finding("lock", Grade.OK, "free when asked for")
        finally:
            lock.close()
    except EngineUnavailable as error:
        return _refused("lock", error)


def _signals(subject: Subject) -> Finding:
    path = subject.beside(".wake")
    if not path.is_dir():
        return Finding("signals", Grade.OK, "nobody has needed them yet")
    try:
        folder = WakeDirectory(path)
    except OSError as error:
        return Finding(
            "signals",
            Grade.WARN,
            f"{path} cannot be opened ({error.strerror}): work is found by polling alone",
            f"Give this user the right to {path}.",
        )
    with closing(folder):
        deaf, of = folder.deaf()
    if not deaf:
        return Finding("signals", Grade.OK, f"{of} listening")
    return Finding(
        "signals",
        Grade.WARN,
        f"{deaf} of {of} sockets belong to processes that were killed",
        "See why workers were killed; the next message sent clears the sockets away.",
    )


# -- from inside


def _opened(path: Path) -> apsw.Connection:
    """A connection that cannot write, and so neither checkpoints nor makes a file that is not there."""
    conn = apsw.Connection(os.fspath(path), flags=apsw.SQLITE_OPEN_READONLY)
    conn.set_busy_timeout(int(PATIENCE * 1_000))
    return conn


def _inside(
    subject: Subject, conn: apsw.Connection, sql: Mapping[str, str], now: Instant
) -> Iterator[Finding]:
    ours = _format(conn, len(migrations()))
    yield ours
    if ours.grade is Grade.FAIL:
        return
    mode = conn.pragma("journal_mode")
    yield (
        Finding("journal", Grade.OK, "wal")
        if mode == "wal"
        else Finding(
            "journal",
            Grade.WARN,
            f"{mode}, not wal: another program has changed it, or the file is empty",
            "Nothing to do: the next worker turns it on.",
        )
    )
    yield _durability(conn)
    yield _integrity(subject, conn)
    if ours.grade is Grade.OK:
        yield _leases(conn.execute(sql["checkup_leases"], {"before": now - 3 * subject.sweep}).get)
        yield _clock(conn.execute(sql["checkup_newest"]).get, now)
        yield from _flows(conn.execute(sql["checkup_flows"]).get)


def _format(conn: apsw.Connection, newest: int) -> Finding:
    owner, version = conn.pragma("application_id"), conn.pragma("user_version")
    tables = conn.execute("SELECT count(*) FROM sqlite_schema").get
    if owner == APPLICATION and version == newest:
        return Finding("format", Grade.OK, f"Forebay's, schema version {version}")
    if owner == APPLICATION and version > newest:
        return Finding(
            "format", Grade.FAIL, f"schema version {version}, but this Forebay knows up to {newest}",
            "Upgrade Forebay here to the version of the workers.",
        )  # fmt: skip
    if owner == APPLICATION or not (owner or version or tables):
        return Finding(
            "format", Grade.WARN, f"schema version {version}, and {newest} is the newest",
            "Nothing to do: the next worker brings it up to date.",
        )  # fmt: skip
    return Finding(
        "format", Grade.FAIL, "this is a database of another program", "Choose another path for Forebay's own file."
    )  # fmt: skip


def _durability(conn: apsw.Connection) -> Finding:
    """Whether this library does as our connections tell it."""
    conn.execute(SETTINGS)
    if (said := conn.pragma("synchronous")) == FULL:
        return Finding("synchronous", Grade.OK, "full: what is accepted survives the loss of power")
    return Finding(
        "synchronous", Grade.FAIL, f"{said}, though {FULL} (full) was set", "Install apsw from its wheel."
    )


def _integrity(subject: Subject, conn: apsw.Connection) -> Finding:
    size = subject.path.stat().st_size
    if size > QUICK_SIZE and not subject.deep:
        return Finding(
            "integrity", Grade.SKIPPED, f"{_size(size)} take a while to read", "--deep reads them all."
        )
    said = conn.execute("PRAGMA quick_check(1)").get
    if said == "ok":
        return Finding("integrity", Grade.OK, "read through, sound")
    return Finding(
        "integrity",
        Grade.FAIL,
        str(said).replace("\n", " "),
        "Stop the workers, keep a copy of all the files, and restore from a backup or with `.recover` of the sqlite3 shell.",
    )


def _leases(overdue: int) -> Finding:
    if not overdue:
        return Finding("leases", Grade.OK, "none is over")
    return Finding(
        "leases",
        Grade.WARN,
        f"{overdue:,} over: the workers are gone, and nobody takes their messages back",
        "Start a worker: any worker on this engine hands their messages out again.",
    )


def _flows(stuck: int) -> Iterator[Finding]:
    """A line where one is not as it should be: most files have no flows."""
    if stuck:
        yield Finding(
            "flows",
            Grade.FAIL,
            f"{stuck:,} run, though all their steps are over: another program has changed the file, or it is a fault of ours",
            "Restore the file from a backup, or report it; `forebay flow show` has the steps.",
        )


def _clock(newest: Instant | None, now: Instant) -> Finding:
    if newest is None or newest <= now + AHEAD:
        return Finding("clock", Grade.OK, "no message comes from the future")
    return Finding(
        "clock",
        Grade.WARN,
        f"messages were stored {(newest - now) / SECOND:,.0f} s ahead of now: this host's clock was set back",
        "Set the clock right, and let it be kept so (NTP); delays and leases follow it.",
    )


def _refused(name: str, error: EngineError) -> Finding:
    """Most of our sentences say what it is, then after the last colon what to do."""
    what, colon, todo = str(error).rpartition(": ")
    if not colon:
        return Finding(name, Grade.FAIL, todo, "Give this user the right to it, or choose another path.")
    return Finding(name, Grade.FAIL, what, f"{todo[:1].upper()}{todo[1:]}")


def _size(octets: int) -> str:
    return f"{octets / MIB / 1024:,.1f} GiB" if octets >= 1024 * MIB else f"{octets / MIB:,.1f} MiB"
