"""Identifiers: UUIDv7 message ids that sort by time, and random lease tokens."""

from __future__ import annotations

import os
import threading
import time
from typing import NewType

from forebay.model.message import MessageId

Token = NewType("Token", str)
"""A random word a worker chooses before it asks for work: its proof of the lease, and the fence against everyone who lost theirs."""


class Ids:
    """Makes UUIDv7 ids (RFC 9562, section 5.7; the random part counts up within a millisecond, section 6.2 method 2).

    Ids of one instance strictly increase. Safe to call from any thread.

    >>> ids = Ids()
    >>> first, second = ids.message(), ids.message()
    >>> len(first), first < second
    (36, True)
    """

    __slots__ = ("_last", "_lock", "_tail")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0
        self._tail = 0

    def message(self) -> MessageId:
        """A new message id."""
        with self._lock:
            now = time.time_ns() // 1_000_000
            if now > self._last:
                self._last = now
                self._tail = int.from_bytes(os.urandom(9), "big") >> 1
            else:
                self._tail += 1 + int.from_bytes(os.urandom(3), "big")
            head, tail = self._last, self._tail
        low = f"{tail & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000:016x}"
        high = f"{head:012x}"
        return MessageId(f"{high[:8]}-{high[8:]}-7{(tail >> 62) & 0xFFF:03x}-{low[:4]}-{low[4:]}")


def new_token() -> Token:
    """A new lease token: 96 random bits."""
    return Token(os.urandom(12).hex())
