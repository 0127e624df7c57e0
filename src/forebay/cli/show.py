"""Pages of records, for ``task list`` and ``dead list``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from forebay.cli.following import repeated
from forebay.cli.loading import opened
from forebay.cli.output import document, json_line, note
from forebay.cli.records import full, listing
from forebay.cli.touch import PAGE
from forebay.model.query import Query
from forebay.support.clock import SystemClock

if TYPE_CHECKING:
    from forebay.app import App
    from forebay.model.query import Selector, TaskRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """How much to show, from where on, and as what."""

    limit: int
    cursor: str | None
    body: bool
    as_json: bool
    watch: str | None = None


def show_list(url: str | None, which: Selector, how: Listing) -> None:
    """Print what ``which`` selects, newest first."""
    with opened(url) as app:
        repeated(how.watch, partial(_look, app, which, how))


def _look(app: App, which: Selector, how: Listing) -> None:
    records, more = _collect(app, which, how)
    if how.as_json:
        (document if how.watch is None else json_line)([full(record, body=how.body) for record in records])
    else:
        listing(records, SystemClock().now())
    if more is not None and how.watch is None:
        note(f"There is more: --cursor {more}")


def _collect(app: App, which: Selector, how: Listing) -> tuple[list[TaskRecord], str | None]:
    records: list[TaskRecord] = []
    cursor = how.cursor
    while True:
        page = app.sync(app.find(Query(which=which, cursor=cursor, size=min(how.limit - len(records), PAGE))))
        records += page.records
        cursor = page.next
        if cursor is None or len(records) >= how.limit:
            return records, cursor
