"""What ``forebay task wait`` does: looks until a message has come to its end, and shows how far it is."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final

import click

from forebay.cli.exits import Exit
from forebay.cli.following import Plain
from forebay.cli.loading import opened
from forebay.cli.output import clean, clean_json, document, note, say
from forebay.cli.records import full, last_error
from forebay.cli.touch import find_one
from forebay.model.state import FINISHED, State
from forebay.model.when import SECOND, micros
from forebay.support.clock import SystemClock

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from forebay.app import App
    from forebay.model.query import TaskRecord
    from forebay.model.when import Micros

LOOK: Final = SECOND // 4
"""How long between two looks."""
STEPS: Final = 1_000


def wait(key: str, url: str | None, timeout: str | None, *, as_json: bool) -> Exit:
    """Wait for the message with this id; print its result, or what became of it."""
    limit = None if timeout is None else micros(timeout, "--timeout")
    with opened(url) as app:
        record = _ended(app, find_one(app, key), limit)
    if as_json:
        document(full(record, body=True))
    elif record.state is State.SUCCEEDED:
        say("null" if record.result is None else clean_json(record.result.decode()))
    if record.state is State.SUCCEEDED:
        return Exit.OK
    if record.state not in FINISHED:
        note(f"forebay: {clean(record.id)} has not ended within {timeout}: it is {record.state.value}.")
    else:
        error = last_error(record)
        note(f"forebay: {clean(record.id)} is {record.state.value}{f': {clean(error)}' if error else ''}.")
    return Exit.FAILED


def _ended(app: App, record: TaskRecord, limit: Micros | None) -> TaskRecord:
    """The record at its end, or when the time is up."""
    clock = SystemClock()
    until = None if limit is None else clock.monotonic() + limit
    with _bar() as bar:
        while record.state not in FINISHED and (until is None or clock.monotonic() < until):
            Plain().wait(LOOK if until is None else max(1, min(LOOK, until - clock.monotonic())))
            record = find_one(app, record.id)
            share = record.progress.share if record.progress is not None else None
            if bar is not None:
                bar.label = clean(record.progress.note) if record.progress is not None else record.state.value
                bar.update(round((share or 0) * STEPS) - bar.pos)
    return record


def _bar() -> AbstractContextManager[Any]:  # click's bar has no public name
    """A bar for somebody at a terminal."""
    if not sys.stderr.isatty():
        return nullcontext()
    return click.progressbar(length=STEPS, file=sys.stderr, show_eta=False)
