"""The front of the shop: takes an order over HTTP and answers at once. All the slow work is somebody else's.

The answer is 202 only after ``publish`` has returned, which is when the order is safe on disk. When too many orders wait for billing it is
503, nobody has a copy of the order, and ``Retry-After`` says when to try again.
"""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated
from uuid import uuid4

import msgspec
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from examples.orders import shop
from examples.orders.events import OrderPlaced
from examples.orders.listen import serve
from forebay import App
from forebay.errors import QueueFull
from forebay.local import Background

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

app = App(name="front", timing=shop.TIMING)
background = Background(workers=1, full="drop_oldest")  # the access log may be lost; orders may not


@background.task(max_attempts=2, timeout=5.0)
def log_access(line: str) -> None:
    """Append a line to ``access.log``. A plain function runs in a thread: a slow disk keeps no customer waiting."""
    with (shop.folder() / "access.log").open("a", encoding="utf-8") as file:
        file.write(line + "\n")


class NewOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a customer sends."""

    email: Annotated[str, msgspec.Meta(pattern=r"^[^@\s,]+@[^@\s,]+$", max_length=200)]
    sku: str
    quantity: Annotated[int, msgspec.Meta(ge=1, le=5)] = 1


async def place(request: Request) -> JSONResponse:
    """``POST /orders``."""
    try:
        new = msgspec.json.decode(await request.body(), type=NewOrder)
    except msgspec.DecodeError as error:
        return JSONResponse({"error": f"This is not an order: {error}."}, 422)
    article = shop.CATALOGUE.get(new.sku)
    if article is None:
        return JSONResponse({"error": f"There is no {new.sku!r}; there is {', '.join(shop.CATALOGUE)}."}, 422)
    order_id = f"o-{uuid4().hex[:12]}"
    order = OrderPlaced(order_id, new.email, new.sku, new.quantity, new.quantity * article.price_cents)
    try:
        await app.publish("orders.placed", order, key=order_id)
    except QueueFull as full:
        await log_access.send(f"{datetime.now(UTC).isoformat()} POST /orders 503")
        return come_back(full)
    await log_access.send(f"{datetime.now(UTC).isoformat()} POST /orders 202 {order_id}")
    return JSONResponse(msgspec.to_builtins(order), 202)


def come_back(full: QueueFull) -> JSONResponse:
    """A problem as RFC 9457 describes it. The header takes whole seconds."""
    seconds = math.ceil(full.retry_after)
    problem = {
        "type": "about:blank",
        "title": "Service Unavailable",
        "status": 503,
        "detail": f"The shop has its hands full, and this order was not taken. Please try again in {seconds} s.",
    }
    headers = {"Retry-After": str(seconds)}
    return JSONResponse(problem, 503, headers, media_type="application/problem+json")


async def health(_: Request) -> JSONResponse:
    """``GET /health``."""
    return JSONResponse({"status": "open"})


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    async with app, background:
        yield


web = Starlette(
    routes=[Route("/orders", place, methods=["POST"]), Route("/health", health)],
    lifespan=lifespan,
)

if __name__ == "__main__":
    serve(web)
