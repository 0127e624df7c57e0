"""The demo as a newcomer starts it, only smaller: real processes, a real burst, a worker killed by SIGKILL, and the books.

The books are a checker, so they are checked themselves: on a good shop, and on shops in which one thing is wrong.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import msgspec
import pytest

from examples.orders import books, shop
from examples.orders.database import rows
from examples.orders.events import OrderBilled, OrderPlaced
from examples.orders.gauges import GROUPS
from examples.orders.services import billing, packing, receipts, stock
from examples.orders.world import mail, payments, printer
from forebay.model.query import Counts, QueueCounts
from forebay.model.state import State

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
MAIL = "INSERT INTO mail (message_id, order_id, recipient, bytes, at) VALUES"
CLAIMS = (
    books.ACCEPTED,
    books.BILLED,
    books.INVOICED,
    books.STOCK,
    books.SHOWN,
    books.COUNTED,
    books.PACKED,
    books.MAILED,
    books.PACED,
    books.NOTED,
    books.SETTLED,
)


# -- the demo


@pytest.mark.timeout(120)
def test_the_demo_ends_by_itself_with_the_books_in_order(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "examples.orders", "--plain", "--orders", "200", "--seconds", "6"]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "COLUMNS": "100"}

    ended = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )

    told = f"{ended.stdout}\n{ended.stderr}"
    assert ended.returncode == 0, told
    assert ended.stderr == "", told
    lines = ended.stdout.splitlines()
    for claim in CLAIMS:
        assert [line.split()[0] for line in lines if claim in line] == ["ok"], told
    assert any("SIGKILL to billing-1" in line for line in lines), told
    assert "Where to look next" in lines, told
    assert list(tmp_path.iterdir()) == [], "the demo leaves nothing behind"


# -- the services, each on a stage


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the services keep their files for the time of a test."""
    monkeypatch.setenv("ORDERS_FOLDER", str(tmp_path))
    yield tmp_path
    for opened in (stock.shelves, packing.room):
        if opened.cache_info().currsize:
            opened().close()
            opened.cache_clear()


def test_a_paper_jam_charges_nobody_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def charged(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers["Idempotency-Key"])
        return httpx.Response(200, json={"charge_id": f"ch_{len(asked)}"})

    printed: list[tuple[str, str]] = []
    jams = [True, True]

    def invoice(order_id: str, charge_id: str) -> int:
        if jams and jams.pop():
            raise printer.PaperJam(order_id)
        printed.append((order_id, charge_id))
        return len(printed)

    transport = httpx.MockTransport(charged)
    monkeypatch.setattr(
        billing, "provider", lambda: httpx.AsyncClient(transport=transport, base_url="http://p")
    )
    monkeypatch.setattr(billing, "invoice", invoice)

    with billing.app.testing() as t:
        billing.app.publish_sync("orders.placed", OrderPlaced("o-1", "a@mail.example", "lamp", 2, 9_800))
        t.run_until_idle()

        assert asked == ["o-1"]
        assert printed == [("o-1", "ch_1")]
        billed = OrderBilled("o-1", "a@mail.example", "lamp", 2, 9_800, "ch_1")
        t.assert_published("orders.billed", billed, times=1)
        assert [step.state for step in t.steps if step.name == "orders.placed"] == [
            "retrying",
            "retrying",
            "succeeded",
        ]


def test_an_order_that_is_billed_twice_is_one_parcel(folder: Path) -> None:
    order = OrderBilled("o-1", "a@mail.example", "rug", 3, 26_700, "ch")

    with packing.app.testing() as t:
        packing.app.publish_sync("orders.billed", order)
        packing.app.publish_sync("orders.billed", order)
        t.run_all()

        t.assert_flow("parcel-o-1", "succeeded", pack="succeeded", hand_over="succeeded")
        assert sum(step.name == "pick" for step in t.steps) == 3
    assert rows(folder / "parcels.db", "SELECT * FROM parcel") == [("o-1", "rug-1 rug-2 rug-3")]


def test_many_orders_are_one_refresh_of_the_window(folder: Path) -> None:
    with stock.app.testing() as t:
        for number in range(20):
            stock.app.publish_sync(
                "orders.placed", OrderPlaced(f"o-{number}", "a@mail.example", "rug", 1, 8_900)
            )
        t.run_all()
        t.advance("5s")
        t.run_all()

        assert sum(step.name == "refresh" for step in t.steps) == 1
        assert sum(step.name == "count" for step in t.steps) >= 2
    left = shop.CATALOGUE["rug"].in_stock - 20
    assert rows(folder / "stock.db", "SELECT on_hand FROM shown") == [(left,)]


# -- the books


@dataclass(frozen=True, slots=True)
class Shop:
    """The files of a shop that has had three orders."""

    folder: Path

    def change(self, file: str, sql: str, *values: str | float) -> None:
        with closing(sqlite3.connect(self.folder / file)) as db, db:
            db.execute(sql, values)

    def wrong(self, **states: int) -> list[str]:
        """The claims that do not hold."""
        return [line.claim for line in books.judged(self.folder, _counts(**states)) if not line.holds]


def _counts(**states: int) -> Counts:
    """Three orders, of six pieces in all; ``states`` are those of billing."""
    found = {State(state): n for state, n in ({"succeeded": 3} | states).items()}
    groups = {name: {State.SUCCEEDED: 3} for name in GROUPS} | {"billing": found}
    queues = [QueueCounts(queue=f"{name}.q", group=name, states=states) for name, states in groups.items()]
    queues.append(QueueCounts(queue="parcels", states={State.SUCCEEDED: 6 + 2 * 3}))
    queues.append(QueueCounts(queue=shop.COUNTING, states={State.RUNNING: 1}))
    return Counts(now=0, queues=tuple(queues), counters={})


@pytest.fixture
def good(tmp_path: Path) -> Shop:
    orders = [books.Accepted(f"o-{n}", f"{n}@mail.example", "lamp", n, n * 4_900) for n in (1, 2, 3)]
    (tmp_path / "accepted.jsonl").write_bytes(
        b"".join(msgspec.json.encode(order) + b"\n" for order in orders)
    )
    (tmp_path / "analytics.csv").write_text("".join(f"o-{n},lamp,{n},{n * 4_900}\r\n" for n in (1, 2, 3)))
    for file, schema in (
        ("payments", payments.SCHEMA),
        ("stock", stock.SCHEMA),
        ("mail", mail.SCHEMA),
        ("receipts", receipts.SCHEMA),
        ("invoices", printer.SCHEMA),
        ("parcels", packing.SCHEMA),
    ):
        with closing(sqlite3.connect(tmp_path / f"{file}.db")) as db:
            db.executescript(schema)
    made = Shop(tmp_path)
    for order in orders:
        made.change(
            "payments.db",
            "INSERT INTO charge VALUES (?, ?, ?, 'ch')",
            order.order_id,
            order.order_id,
            order.amount_cents,
        )
        made.change(
            "stock.db", "INSERT INTO taken VALUES (?, ?, ?)", order.order_id, order.sku, order.quantity
        )
        made.change("mail.db", f"{MAIL} (?, ?, ?, 9, 1)", f"<{order.quantity}>", order.order_id, order.email)
        made.change("invoices.db", "INSERT INTO invoice VALUES (?, ?, 'ch')", order.quantity, order.order_id)
        pieces = " ".join(f"lamp-{n}" for n in range(1, order.quantity + 1))
        made.change("parcels.db", "INSERT INTO parcel VALUES (?, ?)", order.order_id, pieces)
        made.change("parcels.db", "INSERT INTO handed_over VALUES (?)", order.order_id)
    for sku, article in shop.CATALOGUE.items():
        made.change(
            "stock.db", "INSERT INTO shelf VALUES (?, ?)", sku, article.in_stock - (6 if sku == "lamp" else 0)
        )
    made.change("stock.db", "INSERT INTO shown SELECT sku, on_hand, 2 FROM shelf WHERE sku = 'lamp'")
    there = sum(article.in_stock for article in shop.CATALOGUE.values())
    for second in (10, 12, 14):
        made.change("stock.db", "INSERT INTO counted VALUES (?, ?)", f"2030-01-01T00:00:{second}Z", there)
    return made


def test_the_books_of_a_good_shop_are_right(good: Shop) -> None:
    assert good.wrong() == []


def test_a_second_copy_of_a_mail_or_a_line_is_no_fault(good: Shop) -> None:
    good.change(
        "mail.db",
        f"{MAIL} ('<1>', 'o-1', '1@mail.example', 9, 1)",
    )
    with (good.folder / "analytics.csv").open("a") as file:
        file.write("o-1,lamp,1,4900\r\n")

    assert good.wrong() == []


@pytest.mark.parametrize(
    ("file", "sql", "claim"),
    [
        pytest.param("invoices.db", "DELETE FROM invoice WHERE number = 2", books.INVOICED, id="no invoice"),
        pytest.param(
            "invoices.db",
            "UPDATE invoice SET number = 9 WHERE number = 3",
            books.INVOICED,
            id="a number left out",
        ),
        pytest.param(
            "invoices.db",
            "UPDATE invoice SET charge_id = 'x' WHERE number = 3",
            books.INVOICED,
            id="another charge",
        ),
        pytest.param("stock.db", "UPDATE shown SET on_hand = 1", books.SHOWN, id="an old window"),
        pytest.param("stock.db", "DELETE FROM shown", books.SHOWN, id="an empty window"),
        pytest.param(
            "stock.db", "DELETE FROM counted WHERE tick LIKE '%:12Z'", books.COUNTED, id="a count left out"
        ),
        pytest.param("stock.db", "DELETE FROM counted", books.COUNTED, id="never counted"),
        pytest.param(
            "stock.db", "UPDATE counted SET pieces = pieces - 1", books.COUNTED, id="a piece is gone"
        ),
        pytest.param("parcels.db", "DELETE FROM parcel WHERE order_id = 'o-1'", books.PACKED, id="no parcel"),
        pytest.param(
            "parcels.db",
            "UPDATE parcel SET pieces = 'lamp-1 lamp-1' WHERE order_id = 'o-2'",
            books.PACKED,
            id="a piece twice",
        ),
        pytest.param("parcels.db", "DELETE FROM handed_over", books.PACKED, id="parcels left behind"),
        pytest.param(
            "payments.db",
            "INSERT INTO charge VALUES ('again', 'o-1', 4900, 'ch_9')",
            books.BILLED,
            id="billed twice",
        ),
        pytest.param(
            "payments.db", "DELETE FROM charge WHERE order_id = 'o-1'", books.BILLED, id="not billed"
        ),
        pytest.param(
            "payments.db",
            "UPDATE charge SET amount_cents = 1 WHERE order_id = 'o-1'",
            books.BILLED,
            id="billed wrongly",
        ),
        pytest.param(
            "payments.db",
            "INSERT INTO charge VALUES ('o-9', 'o-9', 1, 'ch_9')",
            books.BILLED,
            id="billed out of the blue",
        ),
        pytest.param(
            "stock.db",
            "UPDATE shelf SET on_hand = on_hand - 1 WHERE sku = 'rug'",
            books.STOCK,
            id="taken from a shelf twice",
        ),
        pytest.param("stock.db", "DELETE FROM taken WHERE order_id = 'o-1'", books.STOCK, id="not taken"),
        pytest.param("stock.db", "DROP TABLE taken", books.STOCK, id="no ledger"),
        pytest.param("mail.db", "DELETE FROM mail WHERE order_id = 'o-1'", books.MAILED, id="no mail"),
        pytest.param(
            "mail.db",
            "UPDATE mail SET recipient = 'x@mail.example' WHERE order_id = 'o-1'",
            books.MAILED,
            id="mail to a stranger",
        ),
        pytest.param(
            "mail.db",
            "UPDATE mail SET message_id = '<1>' WHERE order_id = 'o-2'",
            books.MAILED,
            id="two mails, one id",
        ),
        pytest.param(
            "mail.db",
            f"{MAIL} ('<9>', 'o-1', '1@mail.example', 9, 1)",
            books.MAILED,
            id="a second mail",
        ),
    ],
)
def test_one_fault_is_found_where_it_is(good: Shop, file: str, sql: str, claim: str) -> None:
    good.change(file, sql)

    assert good.wrong() == [claim]


def test_a_mail_server_that_was_overrun_is_found(good: Shop) -> None:
    most = shop.MAILS + shop.MAILS_AT_A_MOMENT + shop.MAILS_IN_HAND
    for n in range(most - 3):  # copies, which are no fault in themselves; three are there
        good.change("mail.db", f"{MAIL} ('<1>', 'o-1', '1@mail.example', 9, ?)", 1 + n / most / 2)
    assert good.wrong() == []

    good.change("mail.db", f"{MAIL} ('<1>', 'o-1', '1@mail.example', 9, 1.9)")

    assert good.wrong() == [books.PACED]


def test_a_lost_line_is_found(good: Shop) -> None:
    (good.folder / "analytics.csv").write_text("o-1,lamp,1,4900\r\n")

    assert good.wrong() == [books.NOTED]


@pytest.mark.parametrize(
    "states", [{"succeeded": 2}, {"dead": 1}, {"ready": 1}, {"running": 1}, {"succeeded": 4}]
)
def test_what_is_lost_or_left_over_is_found(good: Shop, states: dict[str, int]) -> None:
    assert good.wrong(**states) == [books.SETTLED]


def test_an_order_accepted_twice_is_found(good: Shop) -> None:
    accepted = good.folder / "accepted.jsonl"
    accepted.write_bytes(accepted.read_bytes() + accepted.read_bytes().splitlines(keepends=True)[0])

    assert books.ACCEPTED in good.wrong()
