"""What makes two failures the same one. Pure: where an error was raised is handed in as words."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

DEEPEST: Final = 3
"""Frames that count."""
LONGEST: Final = 2_048
"""Characters of a message that count."""

# No word that has a digit in it says what went wrong. (Each part begins only where a word does, or takes all it can and gives nothing
# back, so that no text takes longer than it is long.)
_VARIES: Final = re.compile(
    r"""
    (?<!\w)[bfru]?(?: '[^'\n]*'(?!\w) | "[^"\n]*" | `[^`\n]*` )             # quotes
  | (?<![\w.+~%-])(?:[\w.+~%-]|:(?=[/\\]))*+[/\\@][^\s'"`(),;<>\[\]{}]*     # paths, URLs, addresses
  | (?<![\w-])-?[^\W\d]*+(?:-[^\W\d]+)*+-?\d(?:[\w+-]|[.,:](?=\w))*         # numbers, times, ids
    """,
    re.VERBOSE,
)
_SEVERAL: Final = re.compile(r"\*(?:[\s,;]+\*)+")


def template(message: str) -> str:
    """A message with numbers, ids, paths and what stands in quotes taken out.

    >>> template("order 7 of 'ada@example.org' is not in /srv/orders.db")
    'order * of * is not in *'
    """
    return _SEVERAL.sub("*", _VARIES.sub("*", message[:LONGEST]))


def fingerprint(kind: str, message: str, frames: Iterable[str] = ()) -> str:
    """Sixteen hexadecimal digits: equal for failures of the same type and `template` that were raised in the same place.

    ``frames`` are ``module:function``, the innermost first; no line numbers, so that a fingerprint outlives an edit above it.

    >>> fingerprint("KeyError", "'a7'") == fingerprint("KeyError", "'b8'")
    True
    """
    known = "\n".join((kind, template(message), *list(frames)[:DEEPEST]))
    return blake2b(known.encode("utf-8", "backslashreplace"), digest_size=8).hexdigest()
