"""Where a benchmark's files lie. What is measured is in `forebay.testing.measure`, which ``forebay bench`` uses as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.testing.measure import concurrent_sends, drain, send_many, single_sends

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["concurrent_sends", "drain", "on_disk", "send_many", "single_sends"]


def on_disk(folder: Path, name: str) -> str:
    """The URL of a new SQLite file."""
    return f"sqlite:///{folder / name}.db"
