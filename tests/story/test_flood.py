"""More orders than billing can take: some customers are asked to come back, nothing of theirs is kept, and who was told 202 is billed."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import closing
from random import Random
from typing import TYPE_CHECKING

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from examples.orders import books, front
from examples.orders.database import rows
from examples.orders.services import billing
from examples.orders.world import payments
from forebay import App, QueueOptions, State, WorkerOptions
from forebay.testing.clock import eventually

if TYPE_CHECKING:
    from pathlib import Path

QUEUE = "billing.orders.placed"
LIMIT = 20
ORDERS = 60


def provider(ledger: payments.Ledger) -> httpx.AsyncClient:
    """The payment provider, at its best, in this process."""
    desks = payments.Provider(ledger, Calm())
    web = Starlette(routes=[Route("/charges", desks.charges, methods=["POST"])])
    return httpx.AsyncClient(base_url="http://payments", transport=httpx.ASGITransport(web))


class Calm(Random):
    """Nothing goes wrong, and nothing takes long."""

    def random(self) -> float:
        return 0.99

    def uniform(self, a: float, b: float) -> float:
        return 0.0


async def order(http: httpx.AsyncClient, n: int) -> httpx.Response:
    return await http.post("/orders", json={"email": f"c{n}@mail.example", "sku": "lamp"})


@pytest.mark.timeout(30)
def test_a_flood_is_met_with_503_and_every_order_taken_is_billed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORDERS_FOLDER", str(tmp_path))
    monkeypatch.setenv("ORDERS_SEED", "1")
    url = books.store(tmp_path)
    monkeypatch.setattr(front, "app", App(url, name="front"))
    shop = App(url, name="billing", queues={QUEUE: QueueOptions(limit=LIMIT)})
    shop.subscribe("orders.placed", group="billing")(billing.bill)

    async def story() -> None:
        paying = provider(ledger)
        monkeypatch.setattr(billing, "provider", lambda: paying)
        transport = httpx.ASGITransport(front.web)
        async with (
            shop,
            front.app,
            front.background,
            paying,
            httpx.AsyncClient(base_url="http://front", transport=transport) as http,
        ):
            answers = await asyncio.gather(*(order(http, n) for n in range(ORDERS)))

            assert Counter(answer.status_code for answer in answers) == {202: LIMIT, 503: ORDERS - LIMIT}
            refused = next(answer for answer in answers if answer.status_code == 503)
            assert 1 <= int(refused.headers["Retry-After"]) <= 60
            assert refused.headers["Content-Type"] == "application/problem+json"
            assert refused.json()["status"] == 503
            assert refused.json()["title"] == "Service Unavailable"
            assert "try again in" in refused.json()["detail"]

            # Customers come back as long as they are asked to, while billing works.
            taken = [answer for answer in answers if answer.status_code == 202]
            async with asyncio.TaskGroup() as group:
                worker = shop.worker(WorkerOptions(concurrency=5))
                working = group.create_task(worker.run())
                taken += [await _taken(http, n) for n in range(ORDERS - LIMIT)]
                await eventually(lambda: _billed(shop, ORDERS), what="all is billed")
                worker.stop()
                await working
            billed = {key for (key,) in rows(tmp_path / "payments.db", "SELECT order_id FROM charge")}
            assert billed == {answer.json()["order_id"] for answer in taken}
            assert len(billed) == ORDERS

    with closing(payments.Ledger(tmp_path / "payments.db")) as ledger:
        asyncio.run(story())


async def _taken(http: httpx.AsyncClient, n: int) -> httpx.Response:
    """Come back until the order is taken."""
    answers: list[httpx.Response] = []

    async def came() -> bool:
        answers.append(await order(http, n))
        assert answers[-1].status_code in {202, 503}
        return answers[-1].status_code == 202

    await eventually(came, what="the order is taken")
    return answers[-1]


async def _billed(app: App, number: int) -> bool:
    (queue,) = [one for one in (await app.count()).queues if one.queue == QUEUE]
    return queue.states.get(State.SUCCEEDED, 0) == number
