"""Stock: takes what was ordered off the shelf, in a database of its own; keeps the shop window up to date, and counts by the clock."""

from __future__ import annotations

from functools import cache

from examples.orders import shop
from examples.orders.database import Database
from examples.orders.events import OrderPlaced
from forebay import App, Context, Debounce

SCHEMA = """
    CREATE TABLE IF NOT EXISTS shelf (sku TEXT PRIMARY KEY, on_hand INTEGER NOT NULL CHECK (on_hand >= 0));
    CREATE TABLE IF NOT EXISTS taken (order_id TEXT PRIMARY KEY, sku TEXT NOT NULL, quantity INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS shown (sku TEXT PRIMARY KEY, on_hand INTEGER NOT NULL, refreshed INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS counted (tick TEXT PRIMARY KEY, pieces INTEGER NOT NULL);
"""

app = App(name="stock", timing=shop.TIMING)

ONCE_A_SECOND = Debounce("1s", longest="1s")
"""A burst of orders is one refresh, a second after the first of them. What is ordered while it runs begins the next one."""


@cache
def shelves() -> Database:
    """This process's connection to the stock database, which is filled from the catalogue the first time."""
    database = Database(shop.folder() / "stock.db", SCHEMA)
    with database.transaction() as db:
        articles = [(sku, article.in_stock) for sku, article in shop.CATALOGUE.items()]
        db.executemany("INSERT OR IGNORE INTO shelf (sku, on_hand) VALUES (?, ?)", articles)
    return database


@app.subscribe("orders.placed", group="stock", timeout="10s", backoff="250ms", backoff_cap="4s")
def take(order: OrderPlaced, ctx: Context) -> None:
    """An order that comes twice is taken once: its row and the shelf change in one transaction, or neither does."""
    ctx.send(refresh.options(debounce=ONCE_A_SECOND, key=order.sku).bind(order.sku))
    with shelves().transaction() as db:
        new = db.execute(
            "INSERT OR IGNORE INTO taken VALUES (?, ?, ?)", (order.order_id, order.sku, order.quantity)
        ).rowcount
        if new:
            db.execute("UPDATE shelf SET on_hand = on_hand - ? WHERE sku = ?", (order.quantity, order.sku))


@app.task(queue="window", backoff="250ms", backoff_cap="4s")
def refresh(sku: str) -> None:
    """Show in the shop window how many there are, as the search index of a real shop would."""
    with shelves().transaction() as db:
        db.execute(
            "INSERT INTO shown SELECT sku, on_hand, 1 FROM shelf WHERE sku = ?"
            " ON CONFLICT DO UPDATE SET on_hand = excluded.on_hand, refreshed = refreshed + 1",
            (sku,),
        )


@app.task(queue=shop.COUNTING, backoff="250ms", backoff_cap="4s")
def count(ctx: Context) -> None:
    """Count what is on the shelves and what was taken from them: together that is what there was in the beginning."""
    with shelves().transaction() as db:
        db.execute(
            "INSERT OR IGNORE INTO counted"
            " SELECT ?, (SELECT sum(on_hand) FROM shelf) + (SELECT coalesce(sum(quantity), 0) FROM taken)",
            (ctx.headers["forebay-tick"],),
        )


app.every("2s", count.bind(), name="stock-count", catch_up="all")
