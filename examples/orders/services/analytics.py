"""Analytics: a line per order in a CSV file."""

from __future__ import annotations

import csv
import io
import os

from examples.orders import shop
from examples.orders.events import OrderPlaced
from forebay import App

app = App(name="analytics", timing=shop.TIMING)


@app.subscribe("orders.placed", group="analytics", timeout="10s", backoff="250ms", backoff_cap="4s")
def note(order: OrderPlaced) -> None:
    """Append a line in one write, so that lines never mix.

    A crash just after it means that the line comes twice: whoever reads the file counts an order id once.
    """
    line = io.StringIO()
    csv.writer(line).writerow([order.order_id, order.sku, order.quantity, order.amount_cents])
    file = os.open(shop.folder() / "analytics.csv", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, line.getvalue().encode())
    finally:
        os.close(file)
