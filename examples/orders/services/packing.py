"""Packing: each order that is paid becomes a parcel, by a flow of its own.

Its pieces are picked side by side, packed once all are there, and handed to the carrier.
"""

from __future__ import annotations

from functools import cache

from examples.orders import shop
from examples.orders.database import Database
from examples.orders.events import OrderBilled
from forebay import App, Context

SCHEMA = """
    CREATE TABLE IF NOT EXISTS parcel (order_id TEXT PRIMARY KEY, pieces TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS handed_over (order_id TEXT PRIMARY KEY);
"""

app = App(name="packing", timing=shop.TIMING)


@cache
def room() -> Database:
    """This process's connection to the list of parcels."""
    return Database(shop.folder() / "parcels.db", SCHEMA)


@app.task(queue="parcels")
async def pick(sku: str, number: int) -> str:
    """Fetch one piece; returns its label."""
    return f"{sku}-{number}"


@app.task(queue="parcels", backoff="250ms", backoff_cap="4s")
def pack(pieces: list[str], order_id: str) -> str:
    """Put what was picked into one parcel. Packed twice it is the same parcel."""
    with room().transaction() as db:
        db.execute("INSERT OR IGNORE INTO parcel VALUES (?, ?)", (order_id, " ".join(pieces)))
    return order_id


@app.task(queue="parcels", backoff="250ms", backoff_cap="4s")
def hand_over(order_id: str) -> None:
    """Give the parcel to the carrier."""
    with room().transaction() as db:
        db.execute("INSERT OR IGNORE INTO handed_over VALUES (?)", (order_id,))


@app.subscribe("orders.billed", group="packing", timeout="10s", backoff="250ms", backoff_cap="4s")
async def prepare(order: OrderBilled, ctx: Context) -> None:
    """Send the flow: all of it with this handler's success, or nothing. ``gather=True`` hands results on: the first argument."""
    flow = app.flow(f"parcel-{order.order_id}")
    picked = [flow.add(pick.bind(order.sku, number)) for number in range(1, order.quantity + 1)]
    packed = flow.add(pack.bind(order.order_id), after=picked, gather=True)
    flow.add(hand_over.bind(), after=packed, gather=True)
    ctx.send(flow)
