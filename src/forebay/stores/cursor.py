"""Cursors of stores that number their entries: the place of the last record of the page before."""

from __future__ import annotations

from forebay.errors import InvalidOption


def read_cursor(cursor: str | None) -> int | None:
    """The sequence number in a cursor. Raises `InvalidOption` for one that is not ours."""
    if cursor is None:
        return None
    if not (cursor.isascii() and cursor.isdecimal() and len(cursor) < 19):
        raise InvalidOption(
            f"{cursor[:60]!r} is not a cursor: pass the `next` of the page before, unchanged."
        )
    return int(cursor)
