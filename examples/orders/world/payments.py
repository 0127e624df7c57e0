"""A payment provider: slow, limited, at times broken, and honest about money.

It has a number of desks, and no more charges are worked on at a time. Some requests are answered 500 before anything happened. Some are
charged, and the answer then takes longer than any client waits. Under one ``Idempotency-Key`` it charges once, however often it is asked.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Annotated, Final
from uuid import uuid4

import msgspec
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from examples.orders import shop
from examples.orders.database import Database
from examples.orders.listen import serve

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request

DESKS: Final = 20
LONGEST_LINE: Final = 100
SECONDS_A_CHARGE: Final = (0.1, 0.2)
FAILS: Final = 0.04
STALLS: Final = 0.015
STALL_SECONDS: Final = 4.0

SCHEMA: Final = """
    CREATE TABLE IF NOT EXISTS charge (
        key TEXT PRIMARY KEY, order_id TEXT NOT NULL, amount_cents INTEGER NOT NULL, charge_id TEXT NOT NULL
    );
    CREATE TABLE IF NOT EXISTS tally (what TEXT PRIMARY KEY, times INTEGER NOT NULL);
"""


class Charge(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    order_id: str
    amount_cents: Annotated[int, msgspec.Meta(gt=0)]


@dataclass(frozen=True, slots=True)
class Receipt:
    charge_id: str
    order_id: str
    amount_cents: int
    repeated: bool


class Ledger:
    """Every charge, under its key; and how often each thing has happened."""

    __slots__ = ("_database",)

    def __init__(self, path: Path) -> None:
        self._database = Database(path, SCHEMA)

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def charge(self, key: str, charge: Charge) -> Receipt:
        """Charge, or find what was charged under ``key`` before."""
        with self._database.transaction() as db:
            row = db.execute(
                "SELECT charge_id, order_id, amount_cents FROM charge WHERE key = ?", (key,)
            ).fetchone()
            if row is not None:
                charge_id, order_id, amount_cents = row
                return Receipt(charge_id, order_id, amount_cents, repeated=True)
            receipt = Receipt(f"ch_{uuid4().hex[:12]}", charge.order_id, charge.amount_cents, repeated=False)
            values = (key, receipt.order_id, receipt.amount_cents, receipt.charge_id)
            db.execute(
                "INSERT INTO charge (key, order_id, amount_cents, charge_id) VALUES (?, ?, ?, ?)", values
            )
            return receipt

    def count(self, what: str) -> None:
        """One more of ``what``."""
        with self._database.transaction() as db:
            db.execute("INSERT INTO tally VALUES (?, 1) ON CONFLICT DO UPDATE SET times = times + 1", (what,))


class Provider:
    """Answers ``POST /charges``."""

    __slots__ = ("_chance", "_desks", "_in_line", "_ledger")

    def __init__(self, ledger: Ledger, chance: Random) -> None:
        self._ledger = ledger
        self._chance = chance
        self._desks = asyncio.Semaphore(DESKS)
        self._in_line = 0

    async def charges(self, request: Request) -> JSONResponse:
        """Wait for a desk, then charge."""
        key = request.headers.get("Idempotency-Key")
        if not key:
            return JSONResponse(
                {"error": "Send an Idempotency-Key, so that a repeated request is not a second charge."}, 400
            )
        try:
            charge = msgspec.json.decode(await request.body(), type=Charge)
        except msgspec.DecodeError as error:
            return JSONResponse({"error": str(error)}, 422)
        if self._in_line >= LONGEST_LINE:
            self._ledger.count("refused")
            return JSONResponse({"error": "Too many requests are waiting; come back later."}, 503)
        self._in_line += 1
        try:
            async with self._desks:
                answer = await self._at_desk(key, charge)
        finally:
            self._in_line -= 1
        if self._chance.random() < STALLS:
            self._ledger.count("stalled")
            await asyncio.sleep(STALL_SECONDS)
        return answer

    async def _at_desk(self, key: str, charge: Charge) -> JSONResponse:
        await asyncio.sleep(self._chance.uniform(*SECONDS_A_CHARGE))
        if self._chance.random() < FAILS:
            self._ledger.count("failed")
            return JSONResponse({"error": "Something went wrong on our side; nothing was charged."}, 500)
        receipt = self._ledger.charge(key, charge)
        if (receipt.order_id, receipt.amount_cents) != (charge.order_id, charge.amount_cents):
            return JSONResponse({"error": f"Key {key} was used for another charge."}, 422)
        if receipt.repeated:
            self._ledger.count("repeated")
        return JSONResponse({"charge_id": receipt.charge_id, "repeated": receipt.repeated})


def main() -> None:
    ledger = Ledger(shop.folder() / "payments.db")
    provider = Provider(ledger, Random(int(os.environ["ORDERS_SEED"])))
    serve(Starlette(routes=[Route("/charges", provider.charges, methods=["POST"])]))


if __name__ == "__main__":
    main()
