"""The printer of invoices: numbers them without a gap, as tax offices want it, and jams now and then.

It prints one invoice for an order, however often it is asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from random import Random

    from examples.orders.database import Database

JAMS: Final = 0.03

SCHEMA: Final = """
    CREATE TABLE IF NOT EXISTS invoice (number INTEGER PRIMARY KEY, order_id TEXT NOT NULL UNIQUE, charge_id TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS tally (what TEXT PRIMARY KEY, times INTEGER NOT NULL);
"""


class PaperJam(Exception):
    """Nothing was printed."""


class Printer:
    """Knows what it has printed."""

    __slots__ = ("_chance", "_database")

    def __init__(self, database: Database, chance: Random) -> None:
        self._database = database
        self._chance = chance

    def invoice(self, order_id: str, charge_id: str) -> int:
        """The number of the order's invoice, which is printed unless it has been. Raises `PaperJam`."""
        if self._chance.random() < JAMS:
            with self._database.transaction() as db:
                db.execute(
                    "INSERT INTO tally VALUES ('jammed', 1) ON CONFLICT DO UPDATE SET times = times + 1"
                )
            raise PaperJam(f"the invoice of {order_id} is stuck")
        with self._database.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO invoice SELECT coalesce(max(number), 0) + 1, ?, ? FROM invoice",
                (order_id, charge_id),
            )
            row = db.execute("SELECT number FROM invoice WHERE order_id = ?", (order_id,)).fetchone()
            return int(row[0])
