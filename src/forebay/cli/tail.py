"""Messages as they end, for ``forebay task tail``: pages of the newest, looked at again and again, and only what is new in them shown."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import click
import msgspec

from forebay.cli.following import SHARE, SHORTEST, Plain
from forebay.cli.loading import opened
from forebay.cli.output import STYLES, clean, is_colourful, json_line, moment, note, say
from forebay.cli.records import brief, full
from forebay.model.query import LONGEST_PAGE, Query
from forebay.model.state import State
from forebay.model.when import micros
from forebay.support.clock import SystemClock

if TYPE_CHECKING:
    from forebay.app import App
    from forebay.cli.following import Pauses
    from forebay.model.message import EntryId
    from forebay.model.query import Selector, TaskRecord
    from forebay.model.when import Instant

SUCCESS: Final = frozenset({State.SUCCEEDED})
"""Looked for apart from the rest, so that a failure after many tries is not hidden behind thousands that were sent later and are done."""
MOST_PAGES: Final = 10
"""Pages in one look. Only while all of a page is new does it go on to the next."""
REMEMBERED: Final = 4 * MOST_PAGES * LONGEST_PAGE
"""Ends that are known to have been shown: twice what one look reads, so that deleting some uncovers none that was shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """How ends are followed: as what they are shown, and after how many it is enough."""

    limit: int | None
    interval: str
    body: bool
    as_json: bool


@dataclass(slots=True)
class Ends:
    """What was seen to end, since when. A message that is run again ends again: each end is one of its own."""

    app: App
    which: Selector
    since: Instant
    known: dict[tuple[EntryId, Instant], None] = field(default_factory=dict)

    def look(self) -> tuple[list[TaskRecord], bool]:
        """The ends since the look before, in their order, and whether there were more than one look reads."""
        fresh: list[TaskRecord] = []
        more = False
        for states in filter(None, (self.which.states & SUCCESS, self.which.states - SUCCESS)):
            found, left = self._newest(msgspec.structs.replace(self.which, states=states))
            fresh += found
            more = more or left
        while len(self.known) > REMEMBERED:
            del self.known[next(iter(self.known))]
        return sorted(fresh, key=lambda record: record.finished or 0), more

    def _newest(self, which: Selector) -> tuple[list[TaskRecord], bool]:
        fresh: list[TaskRecord] = []
        cursor: str | None = None
        for _ in range(MOST_PAGES):
            page = self.app.sync(self.app.find(Query(which=which, cursor=cursor, size=LONGEST_PAGE)))
            found = [record for record in page.records if self._is_new(record)]
            fresh += found
            cursor = page.next
            if cursor is None or len(found) < len(page.records):
                return fresh, False
        return fresh, True

    def _is_new(self, record: TaskRecord) -> bool:
        if record.finished is None or record.finished < self.since:
            return False
        end = (record.id, record.finished)
        if end in self.known:
            return False
        self.known[end] = None
        return True


def follow(url: str | None, which: Selector, how: Following) -> None:
    """Show ends from now on, until there were enough or somebody interrupts, which is the usual way out."""
    # Read before anything is opened: a wrong one is told at once.
    micros(how.interval, "--interval")
    with opened(url) as app, suppress(KeyboardInterrupt):
        # The store's own clock: nobody's host may have another one.
        ends = Ends(app, which, app.sync(app.count()).now)
        note("Waiting for messages to end; Ctrl-C leaves.")
        watch(ends, Plain(), how)


def watch(ends: Ends, between: Pauses, how: Following) -> None:
    """Look, show and wait."""
    clock, shown = SystemClock(), 0
    while True:
        began = clock.monotonic()
        fresh, more = ends.look()
        took = clock.monotonic() - began
        for record in fresh[: None if how.limit is None else how.limit - shown]:
            _show(record, how)
        shown += len(fresh)
        if how.limit is not None and shown >= how.limit:
            return
        if more:
            note(f"More ended than are read in one look: only the newest {MOST_PAGES * LONGEST_PAGE:,} are shown.")  # fmt: skip
        if not between.wait(max(micros(how.interval, "--interval"), SHORTEST, SHARE * took)):
            return


def _show(record: TaskRecord, how: Following) -> None:
    if how.as_json:
        json_line(full(record, body=how.body))
        return
    state = f"{record.state.value:<9}"
    shown = click.style(state, **STYLES[record.state.value]) if is_colourful() else state
    words = (moment(record.finished), shown, record.queue, record.message.name, clean(record.id))
    say("  ".join((*words, clean(brief(record, record.finished or 0)))).rstrip())
