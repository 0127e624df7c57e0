"""Hurry-up signals between processes: datagrams into a private directory beside the file. They carry no truth and may be lost.

Each store that listens has a socket there. ``r-<pid>-<random>`` wants to know of ready work, ``f-...`` of finished messages, ``c-...``
of running ones that are asked to stop and ``n-...`` of changed notes; those three exist only while somebody waits for them. Whoever
committed something tells all the others; nobody waits for anybody.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from forebay.engine import Cancels, Finished, Noted, Ready
from forebay.model.message import EntryId

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from forebay.engine import Topic
    from forebay.stores.signals import Signals

LONGEST_PATH: Final = 70
"""Bytes of the directory's path in an address, which has room for 107: some to spare for the name."""
LONGEST_TEXT: Final = 4_096
"""Bytes of queue names or ids in one datagram; more is told as "any"."""
FEW: Final = 4
"""Datagrams that every kernel keeps for one socket, and drops none."""
SHORTEST_ID: Final = 8
"""Bytes: of more ids than would fit at this length no text is made."""
STEADY: Final = 50_000_000
"""Nanoseconds after a change of the directory from which on its stamp, which is as coarse as the kernel's tick, tells of the next one."""
_ANY: Final = b"*"
_BURST: Final = 64
"""Datagrams read in one go. The kernel keeps fewer for one socket."""


class WakeDirectory:
    """The directory of one database, as one store sees it. Opened when the store is; used by its loop and its database thread."""

    def __init__(self, path: Path) -> None:
        path.mkdir(mode=0o700, exist_ok=True)
        self._path = path
        # An address is at most 108 bytes long, so a long path is reached by way of the open directory, where the system has that.
        self._folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        near = os.fspath(path)
        if len(os.fsencode(near)) > LONGEST_PATH:
            near = f"/proc/self/fd/{self._folder}"
        self._near = near if Path(near).exists() else None
        self._listed: list[str] = []
        self._stamp = 0
        self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sender.setblocking(False)

    def tell(self, news: Iterable[Topic], ours: set[str]) -> None:
        """Tell all sockets but ``ours``. Never waits; a full socket has been told already."""
        if self._near is None:
            return
        news = set(news)
        queues = _joined(topic.queue for topic in news if isinstance(topic, Ready))
        notes = _joined(topic.kind for topic in news if isinstance(topic, Noted))
        ends, cancels = [topic for topic in news if isinstance(topic, Finished)], Cancels() in news
        for name in self._names():
            if name in ours:
                continue
            if name.startswith("r-") and queues:
                self._send(name, queues)
            elif name.startswith("f-") and ends:
                self._send(name, _ended(ends))
            elif name.startswith("c-") and cancels:
                self._send(name, _ANY)
            elif name.startswith("n-") and notes:
                self._send(name, notes)

    def _names(self) -> list[str]:
        """Who listens; nobody where this process has no descriptor left to look with. They poll as well.

        Asked after every commit, so the directory is only read again when its stamp says that it has changed.
        """
        try:
            stamp = os.fstat(self._folder).st_mtime_ns
            if stamp != self._stamp:
                steady = time.time_ns() - stamp > STEADY
                self._listed = os.listdir(self._folder)  # noqa: PTH208  # by descriptor
                self._stamp = stamp if steady else 0
        except OSError:
            return []
        return self._listed

    def _send(self, name: str, text: bytes) -> None:
        try:
            self._sender.sendto(text, f"{self._near}/{name}")
        except ConnectionRefusedError:
            # Its process is gone. Names are random, so nobody can have taken this one since.
            with suppress(OSError):
                os.unlink(name, dir_fd=self._folder)
        except OSError:
            return

    def bind(self, name: str) -> socket.socket | None:
        """A new socket of that name; None if its path is too long, the file system has no sockets or the process no descriptors."""
        if self._near is None:
            return None
        try:
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        except OSError:
            return None
        listener.setblocking(False)
        try:
            listener.bind(f"{self._near}/{name}")
        except OSError:
            listener.close()
            return None
        return listener

    def deaf(self) -> tuple[int, int]:
        """How many of the sockets here nobody has open any more, and of how many. Changes nothing."""
        names = [name for name in os.listdir(self._folder) if name.startswith(tuple(_TOPICS))]  # noqa: PTH208  # by descriptor
        return sum(not self._hears(name) for name in names), len(names)

    def _hears(self, name: str) -> bool:
        if self._near is None:
            return True
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(f"{self._near}/{name}")
            except ConnectionRefusedError:
                return False
            except OSError:
                return True
        return True

    def unbind(self, name: str, listener: socket.socket) -> None:
        """Close a socket and take its name away."""
        with suppress(OSError):
            os.unlink(name, dir_fd=self._folder)
        listener.close()

    def close(self) -> None:
        """Let go of the directory. It stays, for the other processes."""
        self._sender.close()
        os.close(self._folder)


def _ended(ends: list[Finished]) -> bytes:
    """Whose ends they are, or "any": where that is not known, or they are too many for one datagram."""
    if (
        not all(topic.ids for topic in ends)
        or SHORTEST_ID * sum(len(topic.ids) for topic in ends) > LONGEST_TEXT
    ):
        return _ANY
    text = "\n".join(key for topic in ends for key in topic.ids).encode("utf-8", "replace")
    return text if len(text) <= LONGEST_TEXT else _ANY


def _joined(names: Iterable[str]) -> bytes:
    """Names as one datagram, or "any" where they are too many for one."""
    text = "\n".join(names).encode()
    return text if len(text) <= LONGEST_TEXT else _ANY


_TOPICS: Final[dict[str, type]] = {"r-": Ready, "f-": Finished, "c-": Cancels, "n-": Noted}
"""How the names of the sockets begin that hear of a topic."""


def _kind(topic: Topic) -> str:
    """How the names of the sockets begin that hear of it."""
    return next(start for start, kind in _TOPICS.items() if isinstance(topic, kind))


class Listener:
    """One socket of a store, and the loop that reads it while somebody waits. Turns datagrams into signals.

    Between waits the socket is not read: a busy store costs its senders one refused call, and itself nothing.
    """

    def __init__(self, folder: WakeDirectory, signals: Signals, ours: set[str]) -> None:
        self._folder, self._signals, self._ours = folder, signals, ours
        self._loop = asyncio.get_running_loop()
        self._sockets: dict[str, socket.socket] = {}
        self._topics: Counter[Topic] = Counter()

    @contextmanager
    def open(self, topics: Collection[Topic]) -> Iterator[None]:
        """Listen for ``topics`` meanwhile."""
        heard, kinds = set(map(_kind, self._topics)), set(map(_kind, topics))
        self._topics.update(topics)
        for kind in kinds - heard:
            self._start(kind)
        try:
            yield
        finally:
            self._topics.subtract(topics)
            self._topics = +self._topics  # those that nobody waits for any more are left out
            for kind in kinds.difference(map(_kind, self._topics)):
                self._stop(kind)

    def topics(self) -> list[Topic]:
        """What is being waited for."""
        return list(self._topics)

    def _start(self, kind: str) -> None:
        name = next((name for name in self._sockets if name.startswith(kind)), None)
        if name is None:
            name = f"{kind}{os.getpid()}-{os.urandom(6).hex()}"
            listener = self._folder.bind(name)
            if listener is None:
                return
            self._ours.add(name)
            self._sockets[name] = listener
        self._hear(self._sockets[name], kind)
        self._loop.add_reader(self._sockets[name], self._hear, self._sockets[name], kind)

    def _stop(self, kind: str) -> None:
        for name, listener in list(self._sockets.items()):
            if name.startswith(kind):
                self._loop.remove_reader(listener)
                # Telling of finished messages is work for every settle of every process: not unless somebody waits.
                if kind != "r-":
                    self._unbind(name)

    def _hear(self, listener: socket.socket, kind: str) -> None:
        texts: list[bytes] = []
        with suppress(OSError):
            while len(texts) < _BURST:
                texts.append(listener.recv(LONGEST_TEXT + 1))
        if len(texts) > FEW or _ANY in texts:
            # So many may have been as many as fit, and then others were dropped.
            self._signals.notify(self.topics())
            return
        names = [name for text in texts for name in text.decode("utf-8", "replace").split("\n")]
        if kind != "f-":
            self._signals.notify(map(Noted if kind == "n-" else Ready, names))
        elif names:
            self._signals.notify([Finished(frozenset(map(EntryId, names)))])

    def _unbind(self, name: str) -> None:
        self._folder.unbind(name, self._sockets.pop(name))
        self._ours.discard(name)

    def close(self) -> None:
        """Take the sockets away. Whoever still waits goes on by polling."""
        for name, listener in list(self._sockets.items()):
            self._loop.remove_reader(listener)
            self._unbind(name)
