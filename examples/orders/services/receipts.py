"""Receipts: one mail for each order that was billed.

Mail has no idempotency key, so this service keeps a ledger of what it has sent. Between the moment the mail server says 250 and the moment
the ledger knows, a crash still means a second copy: no program can close that gap. So both copies carry one Message-ID, by which mail
systems recognise them.

The mail server takes so many a second. A rule of the queue keeps to it, whatever the number of workers: what would be too much waits there.
"""

from __future__ import annotations

import smtplib
from email.message import EmailMessage
from functools import cache

from examples.orders import shop
from examples.orders.database import Database
from examples.orders.events import OrderBilled
from forebay import App, QueueOptions

SCHEMA = "CREATE TABLE IF NOT EXISTS sent (order_id TEXT PRIMARY KEY)"

app = App(
    name="receipts",
    timing=shop.TIMING,
    queues={"receipts.orders.billed": QueueOptions(rate=f"{shop.MAILS}/s", burst=shop.MAILS_AT_A_MOMENT)},
)


@cache
def ledger() -> Database:
    """This process's connection to the list of receipts that were sent."""
    return Database(shop.folder() / "receipts.db", SCHEMA)


def receipt(order: OrderBilled) -> EmailMessage:
    """The mail. Its Message-ID is made from the order, so that it is the same in every copy."""
    mail = EmailMessage()
    mail["From"] = "The shop <shop@shop.example>"
    mail["To"] = order.email
    mail["Subject"] = f"Your order {order.order_id}"
    mail["Message-ID"] = f"<receipt.{order.order_id}@shop.example>"
    mail["X-Order-Id"] = order.order_id
    mail.set_content(
        f"Thank you. We have charged {order.amount_cents / 100:.2f} (reference {order.charge_id}).\n"
    )
    return mail


@app.subscribe("orders.billed", group="receipts", timeout="10s", backoff="250ms", backoff_cap="4s")
def thank(order: OrderBilled) -> None:
    """A plain function: it runs in a thread, so the blocking smtplib is at home here."""
    with ledger().transaction() as db:
        if db.execute("SELECT 1 FROM sent WHERE order_id = ?", (order.order_id,)).fetchone():
            return
    # A name of its own spares smtplib a look-up of this host's.
    with smtplib.SMTP("127.0.0.1", shop.mail_port(), local_hostname="shop.example", timeout=5) as server:
        server.send_message(receipt(order))
    with ledger().transaction() as db:
        db.execute("INSERT OR IGNORE INTO sent (order_id) VALUES (?)", (order.order_id,))
