"""Billing: charges each order at the payment provider, and says so once it is done.

The provider fails, stalls and can take only so much. None of that is handled here: an exception is a retry, and what cannot be taken
now waits in the queue. The queue has a limit, so that no order waits for longer than a customer would: the front then says so (front.py).
"""

from __future__ import annotations

from functools import cache

import httpx

from examples.orders import shop
from examples.orders.events import OrderBilled, OrderPlaced
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


@app.subscribe("orders.placed", group="billing", timeout="10s", backoff="250ms", backoff_cap="4s")
async def bill(order: OrderPlaced, ctx: Context) -> None:
    """The order id is the idempotency key: whoever tries again, after whatever happened, does not charge twice."""
    answer = await provider().post(
        "/charges",
        json={"order_id": order.order_id, "amount_cents": order.amount_cents},
        headers={"Idempotency-Key": order.order_id},
    )
    answer.raise_for_status()
    charge_id = answer.json()["charge_id"]
    # Leaves in the transaction that settles this order: billed and told, or neither.
    ctx.publish("orders.billed", OrderBilled(order.order_id, order.email, order.amount_cents, charge_id))
