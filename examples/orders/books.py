"""The books: what the customers were promised, held against what everybody wrote down on his own.

Nothing here asks the services. The truth is the file of accepted orders; the others are the payment provider's ledger, the stock database,
the mail server's store, the CSV file, and Forebay's own count.

    python -m examples.orders.books FOLDER
"""

from __future__ import annotations

import asyncio
import csv
import sqlite3
import sys
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from examples.orders import shop
from examples.orders.database import rows
from examples.orders.gauges import GROUPS
from forebay import App
from forebay.model.state import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebay.model.query import Counts

ACCEPTED: Final = "orders accepted over HTTP"
BILLED: Final = "each billed once, at its price"
INVOICED: Final = "one invoice each, without a gap"
STOCK: Final = "stock is what is left"
SHOWN: Final = "so says the shop window"
COUNTED: Final = "counted every 2 s, none missed"
PACKED: Final = "one parcel each, all pieces in"
MAILED: Final = "one mail each"
PACED: Final = f"{shop.MAILS} a second, {shop.MAILS_AT_A_MOMENT} at one moment"
NOTED: Final = "one line each in the CSV file"
SETTLED: Final = "nothing lost, nothing left over"


class Accepted(msgspec.Struct, frozen=True):
    """One order that was answered 202."""

    order_id: str
    email: str
    sku: str
    quantity: int
    amount_cents: int


@dataclass(frozen=True, slots=True)
class Line:
    """One claim, what was found, and whether they agree. ``aside`` explains; it is not judged."""

    claim: str
    found: str
    holds: bool
    aside: str = ""


async def audit(folder: Path) -> list[Line]:
    """Check every claim. Works on a running shop too, once nothing waits."""
    async with App(store(folder), name="books") as app:
        return judged(folder, await app.count())


def judged(folder: Path, counts: Counts) -> list[Line]:
    """Every claim, given what Forebay counts."""
    accepted = truth(folder)
    checks = (
        (BILLED, _billed),
        (INVOICED, _invoiced),
        (STOCK, _stock),
        (SHOWN, _shown),
        (COUNTED, _counted),
        (PACKED, _packed),
        (MAILED, _mailed),
        (PACED, _paced),
        (NOTED, _noted),
    )
    return [
        _accepted(accepted),
        *(_checked(claim, check, folder, accepted) for claim, check in checks),
        _settled(counts, accepted),
    ]


def _checked(
    claim: str, check: Callable[[Path, list[Accepted]], Line], folder: Path, accepted: list[Accepted]
) -> Line:
    try:
        return check(folder, accepted)
    except (OSError, sqlite3.Error) as error:
        return Line(claim, "cannot be read", holds=False, aside=str(error))


def store(folder: Path) -> str:
    """The URL of Forebay's file."""
    return f"sqlite:///{quote(str(folder.resolve() / 'forebay.db'))}"


def truth(folder: Path) -> list[Accepted]:
    """The accepted orders."""
    lines = (folder / "accepted.jsonl").read_bytes().splitlines()
    return [msgspec.json.decode(line, type=Accepted) for line in lines]


def payments(folder: Path) -> dict[str, int]:
    """How often each thing has happened at the payment provider."""
    return _tally(
        folder / "payments.db",
        "SELECT what, times FROM tally UNION ALL SELECT 'charged', count(*) FROM charge",
    )


def mail(folder: Path) -> dict[str, int]:
    """How often each thing has happened at the mail server."""
    return _tally(
        folder / "mail.db", "SELECT what, times FROM tally UNION ALL SELECT 'accepted', count(*) FROM mail"
    )


def _tally(path: Path, sql: str) -> dict[str, int]:
    return {str(what): int(str(times)) for what, times in rows(path, sql)}


def _accepted(accepted: list[Accepted]) -> Line:
    ids = {order.order_id for order in accepted}
    return Line(ACCEPTED, f"{len(accepted):,}", bool(accepted) and len(ids) == len(accepted))


def _billed(folder: Path, accepted: list[Accepted]) -> Line:
    charges = rows(folder / "payments.db", "SELECT order_id, amount_cents FROM charge")
    times = Counter(str(order_id) for order_id, _ in charges)
    wanted = {(order.order_id, order.amount_cents) for order in accepted}
    wrong = len(wanted.symmetric_difference((str(order_id), int(str(cents))) for order_id, cents in charges))
    twice = sum(n > 1 for n in times.values())
    happened = payments(folder)
    aside = (
        f"{happened.get('failed', 0):,} failed, {happened.get('stalled', 0):,} stalled, "
        f"{happened.get('repeated', 0):,} repeated"
    )
    return Line(
        BILLED,
        _tell(len(charges), twice=twice, wrong=wrong),
        not twice and not wrong,
        aside,
    )


def _invoiced(folder: Path, accepted: list[Accepted]) -> Line:
    invoices = rows(folder / "invoices.db", "SELECT number, order_id, charge_id FROM invoice ORDER BY number")
    charges = set(rows(folder / "payments.db", "SELECT order_id, charge_id FROM charge"))
    charged = {order_id for order_id, _ in charges}
    wrong = len({order_id for _, order_id, _ in invoices} ^ {order.order_id for order in accepted})
    wrong += sum(row[1] in charged and row[1:] not in charges for row in invoices)
    gaps = [number for number, *_ in invoices] != list(range(1, len(accepted) + 1))
    jams = _tally(folder / "invoices.db", "SELECT what, times FROM tally").get("jammed", 0)
    aside = f"{jams:,} paper jams"
    return Line(INVOICED, _tell(len(invoices), wrong=wrong), not wrong and not gaps, aside)


def _stock(folder: Path, accepted: list[Accepted]) -> Line:
    path = folder / "stock.db"
    ordered = Counter[str]()
    for order in accepted:
        ordered[order.sku] += order.quantity
    on_hand = _tally(path, "SELECT sku, on_hand FROM shelf")
    off = sum(on_hand.get(sku) != article.in_stock - ordered[sku] for sku, article in shop.CATALOGUE.items())
    taken = {str(order_id) for (order_id,) in rows(path, "SELECT order_id FROM taken")}
    wrong = len(taken ^ {order.order_id for order in accepted})
    found = (
        f"{sum(ordered.values()):,} pieces are gone"
        if not off
        else f"{off} of {len(on_hand)} shelves are off"
    )
    return Line(STOCK, found, not off and not wrong)


def _shown(folder: Path, accepted: list[Accepted]) -> Line:
    path = folder / "stock.db"
    on_hand = _tally(path, "SELECT sku, on_hand FROM shelf")
    shown = _tally(path, "SELECT sku, on_hand FROM shown")
    off = sum(shown.get(sku) != on_hand.get(sku) for sku in {order.sku for order in accepted})
    refreshed = sum(_tally(path, "SELECT sku, refreshed FROM shown").values())
    aside = f"refreshed {refreshed:,} times for {len(accepted):,} orders"
    return Line(SHOWN, f"{off} articles are off" if off else "all articles", not off, aside)


def _counted(folder: Path, _: list[Accepted]) -> Line:
    counts = rows(folder / "stock.db", "SELECT tick, pieces FROM counted ORDER BY tick")
    ticks = [datetime.fromisoformat(str(tick)) for tick, _ in counts]
    missed = sum(later - earlier != timedelta(seconds=2) for earlier, later in pairwise(ticks))
    there = sum(article.in_stock for article in shop.CATALOGUE.values())
    off = sum(pieces != there for _, pieces in counts)
    return Line(COUNTED, _tell(len(ticks), missed=missed, off=off), bool(ticks) and not missed and not off)


def _packed(folder: Path, accepted: list[Accepted]) -> Line:
    path = folder / "parcels.db"
    parcels = {(str(order_id), str(pieces)) for order_id, pieces in rows(path, "SELECT * FROM parcel")}
    wanted = {
        (order.order_id, " ".join(f"{order.sku}-{n}" for n in range(1, order.quantity + 1)))
        for order in accepted
    }
    handed = {str(order_id) for (order_id,) in rows(path, "SELECT order_id FROM handed_over")}
    wrong, here = len(parcels ^ wanted), len(handed ^ {order.order_id for order in accepted})
    return Line(PACKED, _tell(len(parcels), wrong=wrong, here=here), not wrong and not here)


def _mailed(folder: Path, accepted: list[Accepted]) -> Line:
    mails = rows(folder / "mail.db", "SELECT message_id, order_id, recipient FROM mail")
    kept = {str(message_id): (str(order_id), str(recipient)) for message_id, order_id, recipient in mails}
    wrong = len(set(kept.values()) ^ {(order.order_id, order.email) for order in accepted})
    again = len(mails) - len(kept)
    aside = f"{len(mails):,} came, {again:,} repeats by Message-ID"
    return Line(MAILED, _tell(len(kept), wrong=wrong), not wrong and len(kept) == len(accepted), aside)


def _paced(folder: Path, _: list[Accepted]) -> Line:
    times = sorted(float(str(at)) for (at,) in rows(folder / "mail.db", "SELECT at FROM mail"))
    most = max((bisect_left(times, at + 1) - n for n, at in enumerate(times)), default=0)
    # The rate is of mails that begin. Those that were on their way already arrive in the same second.
    able = shop.MAILS + shop.MAILS_AT_A_MOMENT + shop.MAILS_IN_HAND
    return Line(PACED, f"{most:,} in the busiest second", most <= able)


def _noted(folder: Path, accepted: list[Accepted]) -> Line:
    with (folder / "analytics.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.reader(file))
    distinct = {tuple(line) for line in lines}
    wanted = {(o.order_id, o.sku, str(o.quantity), str(o.amount_cents)) for o in accepted}
    wrong = len(distinct ^ wanted)
    aside = f"{len(lines):,} came, {len(lines) - len(distinct):,} repeats"
    return Line(NOTED, _tell(len(distinct), wrong=wrong), not wrong, aside)


def _settled(counts: Counts, accepted: list[Accepted]) -> Line:
    orders, pieces = len(accepted), sum(order.quantity for order in accepted)
    wanted = Counter(dict.fromkeys(GROUPS, orders) | {"parcels": pieces + 2 * orders})
    done, rest = Counter[str](), Counter[State]()
    for queue in counts.queues:
        states = Counter(queue.states)
        done[queue.group or queue.queue] += states.pop(State.SUCCEEDED, 0)
        if queue.queue != shop.COUNTING:
            rest.update(states)
    off = [name for name, n in wanted.items() if done[name] != n]
    found = f"{done.total():,} handled" + "".join(f", {n:,} {state}" for state, n in rest.items() if n)
    aside = f"{done['parcels']:,} in flows, {counts.counters.get('crashed', 0)} handed out again"
    return Line(SETTLED, found, not off and not rest.total(), aside)


def _tell(found: int, **faults: int) -> str:
    return f"{found:,}" + "".join(f", {n:,} {what}" for what, n in faults.items() if n)


def drawn(lines: list[Line]) -> Table:
    """The table of the books."""
    table = Table(
        title="The books",
        title_justify="left",
        title_style="bold",
        box=None,
        padding=(0, 2, 0, 0),
        show_header=False,
    )
    table.add_column(width=4)
    table.add_column(no_wrap=True)
    table.add_column()
    for line in lines:
        table.add_row("[green]ok[/]" if line.holds else "[bold red]FAIL[/]", line.claim, _found(line))
    return table


def _found(line: Line) -> Text:
    aside = f"\n{line.aside}" if line.aside else ""
    return Text.assemble((line.found, "" if line.holds else "bold red"), (aside, "dim"))


def main() -> None:
    if len(sys.argv) != 2 or not (folder := Path(sys.argv[1])).is_dir():
        sys.exit("Say which folder: python -m examples.orders.books FOLDER")
    lines = asyncio.run(audit(folder))
    Console().print(drawn(lines))
    sys.exit(0 if all(line.holds for line in lines) else 1)


if __name__ == "__main__":
    main()
