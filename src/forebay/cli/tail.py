"""Messages as they end, for ``forebay task tail``: what finished since the look before, read in full, and only what is new in it shown."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import click
import msgspec

from forebay.cli.following import SHORTEST, Plain
from forebay.cli.loading import opened
from forebay.cli.output import STYLES, clean, is_colourful, json_line, moment, note, say
from forebay.cli.records import brief, full
from forebay.model.query import LONGEST_PAGE, Query
from forebay.model.when import SECOND, micros
from forebay.support.clock import SystemClock

if TYPE_CHECKING:
    from forebay.app import App
    from forebay.cli.following import Pauses
    from forebay.model.message import EntryId
    from forebay.model.query import Selector, TaskRecord
    from forebay.model.when import Instant, Micros
    from forebay.support.clock import Clock

OVERLAP: Final = 2 * SECOND
"""How far behind the beginning of the look before a look begins: an end is seen a little after its moment, when its transaction is over."""

REMEMBERED: Final = 40_000
"""Ends that are known to have been shown, beside those of the last look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """How ends are followed: as what they are shown, and after how many it is enough."""

    limit: int | None
    interval: str
    body: bool
    as_json: bool


@dataclass(slots=True)
class Ends:
    """What was seen to end. A message that is run again ends again: each end is one of its own.

    ``since``: what ended before this moment of the store's clock is not looked for. ``ahead``: by how much that clock is before ours.
    """

    app: App
    which: Selector
    since: Instant
    clock: Clock
    ahead: Micros = 0
    known: dict[tuple[EntryId, Instant], None] = field(default_factory=dict)
    offset: Micros | None = None
    """By how much the store's clock was before the monotonic one at the look before."""

    def look(self) -> list[TaskRecord]:
        """The ends since the look before, in their order.

        A look begins where the one before it began, less some overlap, so that it sees what ended while that one was reading. A clock that
        is set back takes the beginning with it, by as much.
        """
        began = self.clock.now() + self.ahead
        was, self.offset = self.offset, began - self.clock.monotonic()
        back = 0 if was is None else max(was - self.offset, 0)
        which = msgspec.structs.replace(self.which, finished_since=min(self.since - back, began - OVERLAP))
        found: list[TaskRecord] = []
        cursor: str | None = None
        while True:
            page = self.app.sync(self.app.find(Query(which=which, cursor=cursor, size=LONGEST_PAGE)))
            found += page.records
            cursor = page.next
            if cursor is None:
                break
        self.since = began - OVERLAP
        fresh = {}
        for record in found:
            end = record.id, record.finished or 0
            if end not in self.known:
                self.known[end], fresh[end] = None, record
        # Those that the next look may read again have to be known then; the others only if the clock is set back.
        while len(self.known) > REMEMBERED and (first := next(iter(self.known)))[1] < self.since:
            del self.known[first]
        return sorted(fresh.values(), key=lambda record: (record.finished or 0, record.id))


def follow(url: str | None, which: Selector, how: Following) -> None:
    """Show ends from now on, until there were enough or somebody interrupts, which is the usual way out."""
    # Read before anything is opened: a wrong one is told at once.
    micros(how.interval, "--interval")
    with opened(url) as app, suppress(KeyboardInterrupt):
        # The store's own clock: nobody's host may have another one.
        clock = SystemClock()
        now = app.sync(app.count()).now
        ends = Ends(app, which, now - OVERLAP, clock, ahead=now - clock.now())
        ends.look()  # what has ended already
        note("Waiting for messages to end; Ctrl-C leaves.")
        watch(ends, Plain(), how)


def watch(ends: Ends, between: Pauses, how: Following) -> None:
    """Look, show and wait."""
    shown = 0
    while True:
        began = ends.clock.monotonic()
        fresh = ends.look()
        took = ends.clock.monotonic() - began
        for record in fresh[: None if how.limit is None else how.limit - shown]:
            _show(record, how)
        shown += len(fresh)
        if how.limit is not None and shown >= how.limit:
            return
        # As long as the look took, not several times as long: what ends meanwhile has to be read too.
        if not between.wait(max(micros(how.interval, "--interval"), SHORTEST, took)):
            return


def _show(record: TaskRecord, how: Following) -> None:
    if how.as_json:
        json_line(full(record, body=how.body))
        return
    state = f"{record.state.value:<9}"
    shown = click.style(state, **STYLES[record.state.value]) if is_colourful() else state
    words = (moment(record.finished), shown, record.queue, record.message.name, clean(record.id))
    say("  ".join((*words, clean(brief(record, record.finished or 0)))).rstrip())
