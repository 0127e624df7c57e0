"""What a worker and its pool workers say to each other: frames of MessagePack, each behind its length. Never pickle."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from forebay.engine import Delivery
from forebay.model.message import Message
from forebay.model.outcome import Outcome
from forebay.model.query import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

POOL_LOG: Final = "FOREBAY_POOL_LOG"
"""The environment variable that says how a child is to log: the words of `Looks` of a worker that was started from the command line."""
LENGTH: Final = struct.Struct(">I")
LONGEST: Final = 256 << 20
"""Bytes of a frame: the largest body and a thousand follow-ups fit."""


class Address(msgspec.Struct, frozen=True, tag="address"):
    """Where a child finds the App: a variable ``name`` of ``module``, or of the program ``file``, with modules looked for in ``path``.

    ``modules``: the others that declare its handlers.
    """

    name: str
    module: str
    file: str | None
    path: tuple[str, ...]
    modules: tuple[str, ...] = ()


class Job(msgspec.Struct, frozen=True, tag="job"):
    """Something to try, without what only its engine understands (``native``)."""

    delivery: Delivery


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """Cut off what is being tried."""


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The child has the App and can work."""


class Unfit(msgspec.Struct, frozen=True, tag="unfit"):
    """The child cannot have the App, and ends."""

    why: str


class Tried(msgspec.Struct, frozen=True, tag="tried"):
    """What became of a job, and what it wants to send if it succeeded."""

    outcome: Outcome
    then: tuple[Message, ...] = ()


class Told(msgspec.Struct, frozen=True, tag="told"):
    """How far the job is."""

    progress: Progress


Order: TypeAlias = Address | Job | Stop
"""What a child is told."""
Report: TypeAlias = Ready | Unfit | Told | Tried
"""What a child says."""

_ENCODER: Final = msgspec.msgpack.Encoder()
read_order: Final[Callable[[bytes], Order]] = msgspec.msgpack.Decoder(Order).decode
read_report: Final[Callable[[bytes], Report]] = msgspec.msgpack.Decoder(Report).decode


def frame(value: Order | Report) -> bytes:
    """The bytes of one order or report."""
    body = _ENCODER.encode(value)
    return LENGTH.pack(len(body)) + body
