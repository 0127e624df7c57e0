"""How a message's history is told, to whoever waits for it and on the command line: the same words and the same numbers.

An *attempt* is a try that counts against ``max_attempts``. What is put off, handed back, lost with its worker or refused unread is none.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from forebay.model.state import Event
from forebay.model.verdict import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from forebay.model.query import TaskRecord, Try

WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        Event.DONE: "done",
        Event.RETRY: "failed",
        Event.SNOOZE: "put off",
        Event.RELEASE: "handed back",
        Event.LOSE: "lost with its worker",
        Event.BURY: "dead",
        Event.CANCEL: "cancelled",
        Event.EXPIRE: "expired",
    }
)
"""How a try ended, in a person's words."""
_UNREAD: Final = frozenset(
    {Reason.UNDECODABLE, Reason.ARGUMENTS, Reason.UNKNOWN_NAME, Reason.TOO_LARGE, Reason.CRASHED}
)
"""Reasons for which a message is dead without an attempt, or another one."""


def word(one: Try) -> str:
    """How a try ended."""
    return WORDS.get(one.verdict, one.verdict)


def numbered(record: TaskRecord) -> list[tuple[int | None, Try]]:
    """Each try with the number of the attempt that it spent; None where it spent none, or one of before the message was redriven."""
    left = record.attempts
    found: list[tuple[int | None, Try]] = []
    for one in reversed(record.tries):
        number = left if left and _spent(one, record) else None
        left -= number is not None
        found.append((number, one))
    return found[::-1]


def _spent(one: Try, record: TaskRecord) -> bool:
    if one.verdict != Event.BURY:
        return one.verdict in (Event.DONE, Event.RETRY)
    if record.reason is Reason.DEADLINE:
        return one.error is None or one.error.type != "Deadline"
    return one is not record.tries[-1] or record.reason not in _UNREAD


def attempts(record: TaskRecord) -> str:
    """How many attempts were spent, of how many, and what else happened.

    >>> from forebay.model.message import Message
    >>> from forebay.model.query import TaskRecord
    >>> from forebay.model.state import State
    >>> bill = Message(id="1", name="bill", queue="mail", body=b"{}", max_attempts=3)
    >>> attempts(TaskRecord(id="1", message=bill, queue="mail", state=State.DEAD, created=0, attempts=3, crashes=1))
    '3 of 3, 1 lost with its worker'
    """
    of = f" of {record.message.max_attempts}" if record.message.max_attempts else ""
    more = [f"{record.crashes} lost with its worker"] if record.crashes else []
    more += [f"{record.releases} handed back"] if record.releases else []
    return ", ".join([f"{record.attempts}{of}", *more])
