"""What the shop sells, where its files and neighbours are, and how soon a dead worker's orders come back."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from forebay import Timing
from forebay.model.when import SECOND

TIMING: Final = Timing(lease=4 * SECOND, heartbeat=1 * SECOND, sweep=1 * SECOND)
"""Seven times shorter than the defaults, so that the return of a killed worker's orders can be watched."""


MOST_WAITING: Final = 1_200
"""How many orders may wait for billing, a quarter of a minute's work; after that the front asks customers to come back later."""

MAILS: Final = 80
"""How many mails the mail server takes in a second."""

MAILS_AT_A_MOMENT: Final = 10
"""How many of them may begin at one moment, after a quiet time."""

MAILS_IN_HAND: Final = 20
"""How many the worker of receipts is sending at the same time."""

COUNTING: Final = "counting"
"""The queue of the stock counts: they come by the clock, not by orders, and go on as long as the shop is open."""


@dataclass(frozen=True, slots=True)
class Article:
    """Something the shop sells."""

    name: str
    price_cents: int
    in_stock: int


CATALOGUE: Final = MappingProxyType(
    {
        "lamp": Article("Desk lamp", 4_900, 200_000),
        "chair": Article("Chair", 12_900, 200_000),
        "kettle": Article("Kettle", 3_450, 200_000),
        "clock": Article("Wall clock", 2_250, 200_000),
        "rug": Article("Rug", 8_900, 200_000),
    }
)


def folder() -> Path:
    """Where the services keep their files."""
    return Path(os.environ["ORDERS_FOLDER"])


def payments_url() -> str:
    """Where the payment provider answers."""
    return os.environ["ORDERS_PAYMENTS_URL"]


def mail_port() -> int:
    """The loopback port of the mail server."""
    return int(os.environ["ORDERS_MAIL_PORT"])
