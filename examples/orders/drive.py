"""The customers: a steady stream of orders, and one burst. What the shop has accepted (answered 202) goes to a file: the truth.

A customer who is asked to come back later (503) does so, after the time he was told and a little more: they do not all come at once.
Tells the parent process what it does on standard output: ``burst``, ``peak`` (half of it has been sent), ``over``, and ``calm`` with the
median of how long a customer waited for the order to be taken, in milliseconds, in the stream and in the burst, and how many had to
come again.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from random import Random
from statistics import median
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from examples.orders import shop

if TYPE_CHECKING:
    from io import TextIOWrapper

BURST_SHARE: Final = 5 / 8
BURST_RATE: Final = 1_000
"""A second."""
LINES: Final = 50
"""How many orders can be on their way at once; more wait at home."""
PATIENCE: Final = 20
"""How often a customer comes before he goes elsewhere."""
BURST_BEGINS: Final = 0.2
"""Part of the time that passes before the burst."""


@dataclass(frozen=True, slots=True)
class Due:
    """One order to come: when, in seconds from the start, whether with the burst, and what is said just before it."""

    at: float
    crowded: bool = False
    word: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """How many orders come steadily, over how many seconds, and how many at once."""

    steady: int
    burst: int
    seconds: float

    @classmethod
    def of(cls, orders: int, seconds: float) -> Plan:
        """Share ``orders`` out: five in eight come in the burst."""
        burst = round(orders * BURST_SHARE)
        return cls(orders - burst, burst, seconds)

    def due(self) -> list[Due]:
        """Every order to come, in order of time."""
        begin = self.seconds * BURST_BEGINS
        words = {0: "burst", self.burst // 2: "peak", self.burst - 1: "over"}
        stream = [Due(n * self.seconds / self.steady) for n in range(self.steady)]
        burst = [Due(begin + n / BURST_RATE, crowded=True, word=words.get(n)) for n in range(self.burst)]
        return sorted(stream + burst, key=lambda order: order.at)


class Refused(Exception):
    """The shop has not taken an order."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the shop said. ``retry_after``: in how many seconds to come back, if it said so."""

    status: int
    body: bytes
    retry_after: float | None


class Line:
    """One open connection to the shop, for one order at a time.

    A general HTTP client costs more than the shop does, and this one shares the machine with it.
    """

    __slots__ = ("_host", "_reader", "_writer")

    def __init__(self, host: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._host, self._reader, self._writer = host, reader, writer

    @classmethod
    async def to(cls, url: str) -> Line:
        """Connect."""
        address = urlsplit(url)
        return cls(address.netloc, *await asyncio.open_connection(address.hostname, address.port))

    async def post(self, path: str, body: bytes) -> Answer:
        """Send, and wait for the answer."""
        head = f"POST {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        await self._writer.drain()
        status, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        fields = {name.lower(): value for name, _, value in (line.partition(":") for line in lines)}
        answer = await self._reader.readexactly(int(fields["content-length"]))
        again = fields.get("retry-after")
        return Answer(int(status.split()[1]), answer, None if again is None else float(again))

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


class Customers:
    """Order at the times of the plan, whether or not earlier orders have been answered."""

    __slots__ = ("_accepted", "_again", "_chance", "_crowded", "_lines", "_quiet")

    def __init__(self, lines: asyncio.LifoQueue[Line], accepted: TextIOWrapper, chance: Random) -> None:
        self._lines = lines
        self._accepted = accepted
        self._chance = chance
        self._quiet: list[float] = []
        self._crowded: list[float] = []
        self._again = 0

    async def follow(self, plan: Plan) -> None:
        """Send everything; returns when everything has been answered."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        async with asyncio.TaskGroup() as group:
            for number, due in enumerate(plan.due()):
                if (early := start + due.at - loop.time()) > 0:
                    await asyncio.sleep(early)
                if due.word:
                    print(due.word, flush=True)
                group.create_task(
                    self._order(number, start + due.at, self._crowded if due.crowded else self._quiet)
                )
        medians = (f"{median(waits) * 1_000:.0f}" for waits in (self._quiet, self._crowded))
        print("calm", *medians, self._again, flush=True)

    async def _order(self, number: int, due: float, waits: list[float]) -> None:
        order: dict[str, object] = {
            "email": f"customer-{number}@mail.example",
            "sku": self._chance.choice(list(shop.CATALOGUE)),
            "quantity": self._chance.randint(1, 5),
        }
        answer = await self._ask(order)
        for _ in range(PATIENCE - 1):
            if answer.status != HTTPStatus.SERVICE_UNAVAILABLE or answer.retry_after is None:
                break
            self._again += 1
            await asyncio.sleep(answer.retry_after * self._chance.uniform(1, 2))
            answer = await self._ask(order)
        if answer.status != HTTPStatus.ACCEPTED:
            raise Refused(f"{answer.status} {answer.body.decode()}")
        waits.append(asyncio.get_running_loop().time() - due)
        self._accepted.write(f"{answer.body.decode()}\n")

    async def _ask(self, order: dict[str, object]) -> Answer:
        line = await self._lines.get()
        answer = await line.post("/orders", msgspec.json.encode(order))
        self._lines.put_nowait(line)
        return answer


async def run(url: str, plan: Plan, accepted: Path, seed: int) -> None:
    lines = asyncio.LifoQueue[Line]()
    opened = [await Line.to(url) for _ in range(LINES)]
    for line in opened:
        lines.put_nowait(line)
    with accepted.open("a", encoding="utf-8", buffering=1) as file:
        await Customers(lines, file, Random(seed)).follow(plan)
    for line in opened:
        line.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m examples.orders.drive", description="Send orders to the shop."
    )
    parser.add_argument("--front", required=True, metavar="URL", help="where the shop answers")
    parser.add_argument(
        "--accepted", required=True, type=Path, metavar="FILE", help="where accepted orders are written down"
    )
    parser.add_argument("--orders", type=int, default=800, help="how many (800)")
    parser.add_argument("--seconds", type=float, default=10, help="over how long (10)")
    parser.add_argument("--seed", type=int, default=1, help="what is ordered depends on it (1)")
    given = parser.parse_args()
    try:
        asyncio.run(run(given.front, Plan.of(given.orders, given.seconds), given.accepted, given.seed))
    except* (OSError, EOFError, Refused) as group:
        first = group.exceptions[0]
        sys.exit(f"{type(first).__name__}: {first} (and {len(group.exceptions) - 1} more)")


if __name__ == "__main__":
    main()
