"""Identifiers: UUIDv7 message ids that sort by time, and random lease tokens."""

from __future__ import annotations

import os
import random
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

    __slots__ = ("_dice", "_last", "_lock", "_tail")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._dice = random.Random(os.urandom(32))  # ids are unique, not secret; tokens are
        self._last = 0
        self._tail = 0

    def message(self) -> MessageId:
        """A new message id."""
        with self._lock:
            now = time.time_ns() // 1_000_000
            if now > self._last:
                self._last = now
                self._tail = self._dice.getrandbits(71)
            else:
                self._tail += 1 + self._dice.getrandbits(24)
            head, tail = self._last, self._tail
        bits = head << 80 | 0x7 << 76 | (tail >> 62 & 0xFFF) << 64 | 0x2 << 62 | tail & 0x3FFF_FFFF_FFFF_FFFF
        text = f"{bits:032x}"
        return MessageId(f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}")


def new_token() -> Token:
    """A new lease token: 96 random bits."""
    return Token(os.urandom(12).hex())
