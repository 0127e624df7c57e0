"""Billing: charges each order at the payment provider, prints its invoice, and says so once both are done.

The provider fails, stalls and can take only so much; the printer jams. None of that is handled here: an exception is a retry, and what
cannot be taken now waits in the queue. The queue has a limit, so that no order waits for longer than a customer would: the front then
says so (front.py).
"""

from __future__ import annotations

import os
from functools import cache
from random import Random

import httpx

from examples.orders import shop
from examples.orders.database import Database
from examples.orders.events import OrderBilled, OrderPlaced
from examples.orders.world.printer import SCHEMA, Printer
from forebay import App, Context, QueueOptions

app = App(
    name="billing",
    timing=shop.TIMING,
    queues={"billing.orders.placed": QueueOptions(limit=shop.MOST_WAITING)},
)


@cache
def provider() -> httpx.AsyncClient:
    """This process's connections to the payment provider, who gets 1.5 seconds to answer."""
    return httpx.AsyncClient(base_url=shop.payments_url(), timeout=1.5, trust_env=False)


@cache
def printer() -> Printer:
    """The printer of invoices."""
    return Printer(Database(shop.folder() / "invoices.db", SCHEMA), Random(int(os.environ["ORDERS_SEED"])))


async def charge(order: OrderPlaced) -> str:
    """Charge the customer; returns the id of the charge.

    The order id is the idempotency key. A step is not done again once its result is saved; whoever is killed, or waits in vain, between
    the charge and that moment asks again, and then it is the provider who knows that this was paid.
    """
    answer = await provider().post(
        "/charges",
        json={"order_id": order.order_id, "amount_cents": order.amount_cents},
        headers={"Idempotency-Key": order.order_id},
    )
    answer.raise_for_status()
    return str(answer.json()["charge_id"])


def invoice(order_id: str, charge_id: str) -> int:
    """Print the invoice; returns its number. A plain function: as a step, it runs in a thread."""
    return printer().invoice(order_id, charge_id)


@app.subscribe("orders.placed", group="billing", timeout="10s", backoff="250ms", backoff_cap="4s")
async def bill(order: OrderPlaced, ctx: Context) -> None:
    """Two durable steps: when the printer jams, or this process dies, the next try goes on with the charge that was saved."""
    charge_id = await ctx.step("charge", charge, order)
    await ctx.step("invoice", invoice, order.order_id, charge_id)
    # Leaves in the transaction that settles this order: billed and told, or neither.
    ctx.publish(
        "orders.billed",
        OrderBilled(order.order_id, order.email, order.sku, order.quantity, order.amount_cents, charge_id),
    )
