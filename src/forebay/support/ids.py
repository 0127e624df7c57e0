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

    __slots__ = ("_dice", "_head", "_last", "_lock", "_tail")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._dice = random.Random(os.urandom(32))  # ids are unique, not secret; tokens are
        self._last = self._tail = 0
        self._head = ""

    def message(self) -> MessageId:
        """A new message id."""
        with self._lock:
            now = time.time_ns() // 1_000_000
            if now > self._last:
                self._last = now
                self._head = f"{now >> 16:08x}-{now & 0xFFFF:04x}-7{self._dice.getrandbits(12):03x}-"
                # The variant's bits, then 61 random ones below a free one: counting up does not reach it within a millisecond.
                self._tail = 0x8000_0000_0000_0000 | self._dice.getrandbits(61)
            else:
                self._tail += 1 + self._dice.getrandbits(24)
            head, tail = self._head, f"{self._tail:x}"
        return MessageId(f"{head}{tail[:4]}-{tail[4:]}")


def new_token() -> Token:
    """A new lease token: 96 random bits."""
    return Token(os.urandom(12).hex())
