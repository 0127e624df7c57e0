"""Removing entries with all that hangs on them, and beginning to remove flows. Runs inside a write transaction."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final

from forebay.stores.sqlite.session import numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.model.state import State
    from forebay.stores.sqlite.session import Session

_HISTORY: Final = ("tries", "results", "progress", "failures", "steps", "holds", "companies", "entries")
"""What goes with an entry, itself last: the tables that forgetting empties."""
LONG: Final = 16
"""Neighbours from which on forgetting them by their range is cheaper than by their numbers."""


def forget(session: Session, seqs: Sequence[int]) -> None:
    """Remove entries with their history, and their messages where these were the last copies.

    Most are neighbours, because what comes together ends together: by ranges that takes less than half the time.
    """
    if not seqs:
        return
    loose: list[int] = []
    session.change("forget_highest")
    for _, numbered in groupby(enumerate(sorted(seqs)), lambda place: place[1] - place[0]):
        run = [seq for _, seq in numbered]
        if len(run) < LONG:
            loose += run
            continue
        span = {"first": run[0], "last": run[-1]}
        session.change("forget_range_kept", span)
        if session.change("forget_range_messages", span) < len(run):
            _forget_copies(session, run)
        for kind in _HISTORY:
            session.change(f"forget_range_{kind}", span)
    if loose:
        entries = {"entries": numbers(loose)}
        session.change("forget_kept", entries)
        _forget_copies(session, loose)
        for kind in _HISTORY:
            session.change(f"forget_{kind}", entries)
    session.change("forget_none")


def _forget_copies(session: Session, seqs: list[int]) -> None:
    for statement in ("forget_copies", "forget_messages"):
        session.change(statement, {"entries": numbers(seqs)})


def go(session: Session, flow: int, kept: State, steps: int) -> None:
    """Begin to forget a flow that is over, and kept as what ends in ``kept`` is."""
    session.change("flow_go", {"flow": flow})
    session.change("flow_kept_add", {"state": kept, "n": -steps})
    session.stirred = True
