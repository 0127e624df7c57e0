"""One grammar for queue, topic, task and group names, and the matching of topic patterns.

A name is one or more segments joined by dots; a segment is letters, digits, ``_`` and ``-``, and does not begin with ``-``; at most 120
characters in all. So a name is safe as a Redis key part, a NATS subject, an AMQP routing key, a Kafka topic, a file name and a word in
a shell. A segment that begins with ``_`` is reserved for Forebay.

A pattern is a name in which ``*`` may stand for exactly one segment, and ``**``, last, for one or more.
"""

from __future__ import annotations

import re
from typing import Final

from forebay.errors import InvalidName, InvalidOption, quoted

LONGEST_NAME: Final = 120
LONGEST_ID: Final = 200
"""Characters of an id, and of a key."""
GRAMMAR: Final = (
    "letters, digits, '_' and '-' in segments joined by '.', no segment beginning with '-', "
    "at most 120 characters (like 'orders.placed')"
)
_SEGMENT: Final = r"[A-Za-z0-9_][A-Za-z0-9_-]*"
_NAME: Final = re.compile(rf"{_SEGMENT}(?:\.{_SEGMENT})*")
_PATTERN: Final = re.compile(rf"(?:{_SEGMENT}|\*)(?:\.(?:{_SEGMENT}|\*))*(?:\.\*\*)?|\*\*")


def check_name(name: object, what: str) -> str:
    """Return ``name`` if it fits the grammar; raise `InvalidName`, naming ``what``, if not."""
    if not isinstance(name, str) or len(name) > LONGEST_NAME or not _NAME.fullmatch(name):
        raise InvalidName(f"{what} {quoted(name)} is not a valid name. Use {GRAMMAR}.")
    return str.__str__(name)  # of a StrEnum, say: the plain text


def check_new_name(name: object, what: str) -> str:
    """`check_name`, and no segment may begin with ``_``: those names are Forebay's own."""
    checked = check_name(name, what)
    if checked.startswith("_") or "._" in checked:
        raise InvalidName(
            f"{what} {quoted(name)} begins a segment with '_', which is reserved. Choose another name (name=...)."
        )
    return checked


def check_text(value: object, what: str) -> str:
    """Return ``value`` if it can be a key: text that every engine can keep. Raise `InvalidOption`, naming ``what``, if not."""
    if not isinstance(value, str) or not value or len(value) > LONGEST_ID or not storable(value):
        raise InvalidOption(
            f"{what} must be Unicode text of 1 to {LONGEST_ID} characters, not {quoted(value)}."
        )
    return str.__str__(value)  # of a StrEnum, say: the plain text


def storable(text: str) -> bool:
    """Whether every engine can keep ``text``: no NUL, and no lone surrogates, which have no UTF-8."""
    return "\0" not in text and not any("\ud800" <= one <= "\udfff" for one in text)


def check_pattern(pattern: object, what: str) -> str:
    """Return ``pattern`` if it is a name or a topic pattern; raise `InvalidName` if not."""
    if not isinstance(pattern, str) or len(pattern) > LONGEST_NAME or not _PATTERN.fullmatch(pattern):
        raise InvalidName(
            f"{what} {quoted(pattern)} is not a valid topic pattern. "
            f"Use {GRAMMAR}; '*' stands for one segment and '**', last, for the rest."
        )
    return pattern


def is_pattern(name: str) -> bool:
    """Whether ``name`` holds a wildcard."""
    return "*" in name


def matches(pattern: str, topic: str) -> bool:
    """Whether ``topic`` is matched by ``pattern``.

    >>> matches("orders.*", "orders.placed"), matches("orders.*", "orders.eu.placed"), matches("orders.**", "orders.eu.placed")
    (True, False, True)
    """
    if not is_pattern(pattern):
        return pattern == topic
    wanted, given = pattern.split("."), topic.split(".")
    if wanted[-1] == "**":
        wanted = wanted[:-1]
        if len(given) <= len(wanted):
            return False
    elif len(given) != len(wanted):
        return False
    return all(w in ("*", g) for w, g in zip(wanted, given, strict=False))


def subscription_queue(pattern: str, group: str) -> str:
    """The queue on which ``group`` receives what matches ``pattern``.

    Wildcards become reserved segments, so no two pairs of group and literal topic pattern are confused by accident.

    >>> subscription_queue("orders.*", "billing")
    'billing.orders._any'
    """
    segments = ["_any" if s == "*" else "_rest" if s == "**" else s for s in pattern.split(".")]
    return check_name(".".join([group, *segments]), "subscription queue")
