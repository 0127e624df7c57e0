"""Stock: takes what was ordered off the shelf, in a database of its own."""

from __future__ import annotations

from functools import cache

from examples.orders import shop
from examples.orders.database import Database
from examples.orders.events import OrderPlaced
from forebay import App

SCHEMA = """
    CREATE TABLE IF NOT EXISTS shelf (sku TEXT PRIMARY KEY, on_hand INTEGER NOT NULL CHECK (on_hand >= 0));
    CREATE TABLE IF NOT EXISTS taken (order_id TEXT PRIMARY KEY, sku TEXT NOT NULL, quantity INTEGER NOT NULL);
"""

app = App(name="stock", timing=shop.TIMING)


@cache
def shelves() -> Database:
    """This process's connection to the stock database, which is filled from the catalogue the first time."""
    database = Database(shop.folder() / "stock.db", SCHEMA)
    with database.transaction() as db:
        articles = [(sku, article.in_stock) for sku, article in shop.CATALOGUE.items()]
        db.executemany("INSERT OR IGNORE INTO shelf (sku, on_hand) VALUES (?, ?)", articles)
    return database


@app.subscribe("orders.placed", group="stock", timeout="10s", backoff="250ms", backoff_cap="4s")
def take(order: OrderPlaced) -> None:
    """An order that comes twice is taken once: its row and the shelf change in one transaction, or neither does."""
    with shelves().transaction() as db:
        new = db.execute(
            "INSERT OR IGNORE INTO taken VALUES (?, ?, ?)", (order.order_id, order.sku, order.quantity)
        ).rowcount
        if new:
            db.execute("UPDATE shelf SET on_hand = on_hand - ? WHERE sku = ?", (order.quantity, order.sku))
