"""A mail server on loopback. Keeps every mail it has accepted, and tells some senders to come back later, as mail servers do."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from email import message_from_bytes
from random import Random
from typing import TYPE_CHECKING, Final

from aiosmtpd.smtp import SMTP

from examples.orders import shop
from examples.orders.database import Database
from examples.orders.listen import inherited

if TYPE_CHECKING:
    from aiosmtpd.smtp import Envelope, Session

LATER: Final = 0.01
SCHEMA: Final = """
    CREATE TABLE IF NOT EXISTS mail (
        seq INTEGER PRIMARY KEY, message_id TEXT NOT NULL, order_id TEXT NOT NULL, recipient TEXT NOT NULL, bytes INTEGER NOT NULL,
        at REAL NOT NULL
    );
    CREATE TABLE IF NOT EXISTS tally (what TEXT PRIMARY KEY, times INTEGER NOT NULL);
"""


class Mailroom:
    """Stores a row per mail, the second copy of a mail as well: who reads the rows can see what was sent twice."""

    __slots__ = ("_chance", "_database")

    def __init__(self, database: Database, chance: Random) -> None:
        self._database = database
        self._chance = chance

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802  aiosmtpd's name
        """Answer one mail; it is stored before it is accepted."""
        if self._chance.random() < LATER:
            with self._database.transaction() as db:
                db.execute(
                    "INSERT INTO tally VALUES ('later', 1) ON CONFLICT DO UPDATE SET times = times + 1"
                )
            return "451 4.3.0 Busy, please try again later"
        content = envelope.content or b""
        mail = message_from_bytes(content if isinstance(content, bytes) else content.encode())
        names = mail["Message-ID"] or "", mail["X-Order-Id"] or "", ",".join(envelope.rcpt_tos)
        with self._database.transaction() as db:
            db.execute(
                "INSERT INTO mail (message_id, order_id, recipient, bytes, at) VALUES (?, ?, ?, ?, ?)",
                (*names, len(content), time.monotonic()),
            )
        return "250 2.0.0 OK"


async def run() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    mailroom = Mailroom(Database(shop.folder() / "mail.db", SCHEMA), Random(int(os.environ["ORDERS_SEED"])))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(mailroom, hostname="mail.example", loop=loop), sock=inherited()
    )
    await stop.wait()
    server.close()


if __name__ == "__main__":
    asyncio.run(run())
