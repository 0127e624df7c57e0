"""Health over HTTP and by a file: what is answered, what is refused, what cannot be."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from pathlib import Path

import pytest

from forebay.errors import ConfigError, InvalidOption
from forebay.processes.health import MOST, Address, Health, marked, served
from forebay.support.clock import SystemClock
from forebay.testing.clock import eventually
from tests.runtime.kit import story

ANY = Address("127.0.0.1", 0)


def well() -> Health:
    return Health(ready=True, facts={"condition": "working"})


def unwell() -> Health:
    return Health(ready=False, facts={"condition": "starting"})


async def asked(port: int, head: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head + b"\r\n\r\n")
        return await reader.read()
    except ConnectionResetError:  # it was shown the client before it had finished
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("head", "look", "status"),
    [
        (b"GET /ready HTTP/1.1\r\nHost: here", well, b"200"),
        (b"GET /ready?x=1 HTTP/1.1", well, b"200"),
        (b"HEAD /ready HTTP/1.1", unwell, b"503"),
        (b"GET /ready HTTP/1.1", unwell, b"503"),
        (b"GET /live HTTP/1.1", unwell, b"200"),
        (b"GET / HTTP/1.1", well, b"404"),
        (b"POST /ready HTTP/1.1", well, b"405"),
        (b"\xff\x00", well, b"400"),
    ],
)
def test_what_is_answered(head: bytes, look: object, status: bytes) -> None:
    @story
    async def tell() -> None:
        assert callable(look)
        async with served(ANY, look) as port:
            answer = await asked(port, head)
        first, _, rest = answer.partition(b"\r\n")
        assert first.split()[1] == status
        assert (rest.partition(b"\r\n\r\n")[2] == b"") is head.startswith(b"HEAD")

    tell()


@story
async def test_a_head_that_is_too_long_and_too_many_guests_are_let_go() -> None:
    async with served(ANY, well) as port:
        assert await asked(port, b"GET /ready HTTP/1.1\r\nX: " + b"x" * 100_000) == b""
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MOST)]
        assert await asked(port, b"GET /ready HTTP/1.1") == b""
        for _, writer in silent:
            writer.close()

        async def served_again() -> bool:
            return b"200 OK" in await asked(port, b"GET /ready HTTP/1.1")

        await eventually(served_again)


@story
async def test_an_address_that_is_taken_is_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}: another process listens there"):
            async with served(Address("127.0.0.1", port), well):
                pass


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("8080", "127.0.0.1", 8080), (":8080", "127.0.0.1", 8080), ("[::]:1", "::", 1), ("box:0", "box", 0)],
)
def test_an_address_is_on_loopback_unless_it_says_otherwise(text: str, host: str, port: int) -> None:
    assert Address.parse(text) == Address(host, port)


@pytest.mark.parametrize("text", ["", "here", "here:", "here:x", "here:65536", "-1", "1:" + "9" * 5_000])
def test_an_address_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidOption, match="health must be HOST:PORT"):
        Address.parse(text)


@story
async def test_a_file_is_there_while_it_is_well() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "beat"
        health = unwell()
        async with marked(path, lambda: health, SystemClock()):
            assert not path.exists()
            health = well()
            await eventually(path.exists)
        assert not path.exists()


@story
async def test_a_file_that_cannot_be_a_health_file_is_refused_and_left_alone() -> None:
    with tempfile.TemporaryDirectory() as folder:
        precious = Path(folder) / "precious"
        precious.write_text("data")
        for path in (precious, Path(folder), Path(folder) / "nowhere" / "beat"):
            with pytest.raises(ConfigError, match="health file"):
                async with marked(path, well, SystemClock()):
                    pass
        assert precious.read_text() == "data"


@story
async def test_who_has_not_asked_yet_does_not_hold_up_the_end() -> None:
    async with served(ANY, well) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(0)  # noqa: TID251  # let it be greeted
    writer.close()
