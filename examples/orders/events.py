"""What the services tell each other. These two types are all they share."""

from __future__ import annotations

import msgspec


class OrderPlaced(msgspec.Struct, frozen=True):
    """A customer has ordered: topic ``orders.placed``."""

    order_id: str
    email: str
    sku: str
    quantity: int
    amount_cents: int


class OrderBilled(msgspec.Struct, frozen=True):
    """The payment provider has charged the customer: topic ``orders.billed``."""

    order_id: str
    email: str
    sku: str
    quantity: int
    amount_cents: int
    charge_id: str
