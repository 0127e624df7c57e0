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

import msgspec
import pytest

from examples.orders import books, shop
from examples.orders.services import receipts, stock
from examples.orders.world import mail, payments
from forebay.model.query import Counts, QueueCounts
from forebay.model.state import State

ROOT = Path(__file__).parents[2]
MAIL = "INSERT INTO mail (message_id, order_id, recipient, bytes) VALUES"
CLAIMS = (books.ACCEPTED, books.BILLED, books.STOCK, books.MAILED, books.NOTED, books.SETTLED)


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


# -- the books


@dataclass(frozen=True, slots=True)
class Shop:
    """The files of a shop that has had three orders."""

    folder: Path

    def change(self, file: str, sql: str, *values: str | int) -> None:
        with closing(sqlite3.connect(self.folder / file)) as db, db:
            db.execute(sql, values)

    def wrong(self, **states: int) -> list[str]:
        """The claims that do not hold."""
        return [line.claim for line in books.judged(self.folder, _counts(**states)) if not line.holds]


def _counts(**states: int) -> Counts:
    found = {State(state): n for state, n in ({"succeeded": 12} | states).items()}
    return Counts(now=0, queues=(QueueCounts(queue="billing.orders.placed", states=found),), counters={})


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
        made.change("mail.db", f"{MAIL} (?, ?, ?, 9)", f"<{order.quantity}>", order.order_id, order.email)
    for sku, article in shop.CATALOGUE.items():
        made.change(
            "stock.db", "INSERT INTO shelf VALUES (?, ?)", sku, article.in_stock - (6 if sku == "lamp" else 0)
        )
    return made


def test_the_books_of_a_good_shop_are_right(good: Shop) -> None:
    assert good.wrong() == []


def test_a_second_copy_of_a_mail_or_a_line_is_no_fault(good: Shop) -> None:
    good.change(
        "mail.db",
        f"{MAIL} ('<1>', 'o-1', '1@mail.example', 9)",
    )
    with (good.folder / "analytics.csv").open("a") as file:
        file.write("o-1,lamp,1,4900\r\n")

    assert good.wrong() == []


@pytest.mark.parametrize(
    ("file", "sql", "claim"),
    [
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
        pytest.param("stock.db", "DROP TABLE shelf", books.STOCK, id="no shelves"),
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
            f"{MAIL} ('<9>', 'o-1', '1@mail.example', 9)",
            books.MAILED,
            id="a second mail",
        ),
    ],
)
def test_one_fault_is_found_where_it_is(good: Shop, file: str, sql: str, claim: str) -> None:
    good.change(file, sql)

    assert good.wrong() == [claim]


def test_a_lost_line_is_found(good: Shop) -> None:
    (good.folder / "analytics.csv").write_text("o-1,lamp,1,4900\r\n")

    assert good.wrong() == [books.NOTED]


@pytest.mark.parametrize(
    "states", [{"succeeded": 11}, {"dead": 1}, {"ready": 1}, {"running": 1}, {"succeeded": 13}]
)
def test_what_is_lost_or_left_over_is_found(good: Shop, states: dict[str, int]) -> None:
    assert good.wrong(**states) == [books.SETTLED]


def test_an_order_accepted_twice_is_found(good: Shop) -> None:
    accepted = good.folder / "accepted.jsonl"
    accepted.write_bytes(accepted.read_bytes() + accepted.read_bytes().splitlines(keepends=True)[0])

    assert books.ACCEPTED in good.wrong()
