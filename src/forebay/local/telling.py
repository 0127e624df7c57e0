"""A word to the logger ``forebay.local`` that decides nothing: an application's filter that raises loses its line, and no work."""

from __future__ import annotations

import logging
import sys
import traceback
from contextlib import suppress

log = logging.getLogger("forebay.local")


def tell(level: int, event: str, fields: dict[str, object], error: BaseException | None = None) -> None:
    """Log an event with its fields, and the traceback of ``error``. What the application's logging raises goes to stderr."""
    try:
        log.log(level, event, exc_info=error, extra=fields)
    except Exception:  # noqa: BLE001  # as said
        with suppress(Exception):
            sys.stderr.write(f"forebay: {event} could not be logged:\n{traceback.format_exc()}")
