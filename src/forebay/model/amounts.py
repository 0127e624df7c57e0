"""Counts and sizes as values: read from what a user or a setting says, and refused outside their range."""

from __future__ import annotations

import re
from typing import Final

from forebay.errors import InvalidOption, quoted

MOST: Final = 1_000_000_000
"""Nothing that is counted here goes further, unless it says so."""

_SIZE: Final = re.compile(r"([0-9]{1,15}) ?([KMG]?)(?:i?B)?", re.IGNORECASE)


def check_count(value: object, what: str, lowest: int, highest: int = MOST) -> int:
    """Return ``value`` if it is a whole number in the range; raise `InvalidOption`, naming ``what``, if not."""
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise InvalidOption(f"{what} must be a whole number from {lowest} to {highest}, not {quoted(value)}.")
    return int(value)


def byte_size(value: int | str, what: str, lowest: int = 0) -> int:
    """Read a number of bytes, or text such as ``"512M"``, ``"64 KiB"``, ``"2g"``: K, M and G are powers of 1,024.

    >>> byte_size("512M", "max_memory")
    536870912

    Raises `InvalidOption`, naming ``what``, for anything else and for less than ``lowest``.
    """
    found = None if isinstance(value, bool) else _SIZE.fullmatch(_text(value).strip())
    size = -1 if found is None else int(found[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[found[2].upper()]
    if size < lowest:
        few = f" of at least {lowest}" if lowest else ""
        raise InvalidOption(
            f"{what} must be a number of bytes{few}, such as 65536, 512M or 2G, not {quoted(value)}."
        )
    return size


def whole_number(text: str, what: str, lowest: int = 1) -> int:
    """Read a count out of text, as settings and the command line hold it. Raises `InvalidOption`, naming ``what``."""
    digits = text if text.isascii() and text.isdecimal() and len(text) < 20 else ""
    return check_count(int(digits) if digits else text, what, lowest)


def _text(value: object) -> str:
    match value:
        case str():
            return value
        case int() if 0 <= value < 1 << 60:
            return str(value)
        case _:
            return ""
