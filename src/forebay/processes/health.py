"""Says whether a worker, or a supervisor, is well: over HTTP for a prober, or by a file that is touched while it is.

``GET /live`` answers 200 as long as the loop turns. ``GET /ready`` answers 200 while it works, 503 while it starts or stops. The body is
JSON. Nothing else is served, nothing is read but the request's head, and connections are few and short.
"""

from __future__ import annotations

import asyncio
import errno
import json
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from forebay.errors import ConfigError, InvalidOption, quoted
from forebay.model.when import SECOND
from forebay.support.logs import Log

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from forebay.support.clock import Clock

log = Log("forebay.health")

LOOPBACK: Final = "127.0.0.1"
PATIENCE: Final = 5.0
"""Seconds a prober may take to ask and to read."""
MOST: Final = 32
"""Connections at a time; more are closed unanswered."""
TOUCH: Final = SECOND
_PHRASES: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    503: "Service Unavailable",
}


@dataclass(frozen=True, slots=True)
class Health:
    """Whether it works now, and what else there is to say."""

    ready: bool
    facts: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Address:
    """Where health is served. Loopback unless a host is named; port 0 is any free one.

    >>> Address.parse("8080"), Address.parse("[::1]:8080")
    (Address(host='127.0.0.1', port=8080), Address(host='::1', port=8080))
    """

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """From ``HOST:PORT``, ``:PORT`` or ``PORT``. Raises `InvalidOption`."""
        host, _, port = text.rpartition(":")
        if not (port.isascii() and port.isdecimal() and len(port) <= 5 and int(port) <= 65_535):
            raise InvalidOption(f"health must be HOST:PORT with a port up to 65535, not {quoted(text)}.")
        return cls(host.strip("[]") or LOOPBACK, int(port))


@asynccontextmanager
async def served(address: Address, look: Callable[[], Health]) -> AsyncIterator[int]:
    """Serve health; yields the port. Raises `ConfigError` if the address cannot be had."""
    guests: dict[asyncio.StreamWriter, asyncio.Task[object] | None] = {}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(guests) >= MOST:
            writer.close()
            return
        guests[writer] = asyncio.current_task()
        try:
            with suppress(OSError, TimeoutError, asyncio.LimitOverrunError, asyncio.IncompleteReadError):
                async with asyncio.timeout(PATIENCE):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(_answer(head, look()))
                    await writer.drain()
        finally:
            guests.pop(writer, None)
            writer.close()

    try:
        server = await asyncio.start_server(answer, address.host, address.port, limit=8_192)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        why = "another process listens there" if taken else error.strerror or str(error)
        raise ConfigError(
            f"Health cannot be served on {address.host}:{address.port}: {why}. Give another address with --health."
        ) from error
    port: int = server.sockets[0].getsockname()[1]
    log.info("health.served", extra={"host": address.host, "port": port})
    try:
        yield port
    finally:
        server.close()
        answering = [task for task in guests.values() if task is not None]
        for guest in list(guests):
            guest.close()
        if answering:
            await asyncio.wait(answering, timeout=1)


@asynccontextmanager
async def marked(path: Path, look: Callable[[], Health], clock: Clock) -> AsyncIterator[None]:
    """Touch a file every second while ready; it is removed at the end. Raises `ConfigError` if it cannot be written."""
    _try(path)

    async def touch() -> None:
        while True:
            if look().ready:
                _touch(path)
            await clock.sleep(TOUCH)

    touching = asyncio.get_running_loop().create_task(touch())  # ends below
    try:
        yield
    finally:
        touching.cancel()
        await asyncio.wait([touching])
        _remove(path)


def _try(path: Path) -> None:
    try:
        if path.is_file() and path.stat().st_size:
            raise ConfigError(
                f"The health file {path} holds something, so it is another file: name one that is not there."
            )
        path.touch()
        path.unlink()
    except OSError as error:
        raise ConfigError(
            f"The health file {path} cannot be written: {error.strerror or error}. Give another with --health-file."
        ) from error


def _touch(path: Path) -> None:
    with suppress(OSError):  # it grows old, which is what it is for
        path.touch()


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _answer(head: bytes, health: Health) -> bytes:
    words = head.split(b"\r\n", 1)[0].split(b" ")
    if len(words) != 3:
        return _response(400, {"error": "this is not HTTP"})
    method, target = words[0], words[1].partition(b"?")[0]
    if target not in {b"/live", b"/ready"}:
        return _response(404, {"error": "there are /live and /ready"})
    if method not in {b"GET", b"HEAD"}:
        return _response(405, {"error": "GET only"})
    well = target == b"/live" or health.ready
    return _response(200 if well else 503, {"ready": health.ready, **health.facts}, body=method == b"GET")


def _response(status: int, document: Mapping[str, object], *, body: bool = True) -> bytes:
    content = json.dumps(document).encode() + b"\n"
    head = (
        f"HTTP/1.1 {status} {_PHRASES[status]}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (content if body else b"")
