"""``forebay top``: the queues and how fast they fill and empty, looked at again and again."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from forebay.cli import options

if TYPE_CHECKING:
    from forebay.app import App
    from forebay.cli.following import Pauses
    from forebay.model.query import Counts, QueueCounts
    from forebay.model.when import Micros

TITLES: Final = ("ready", "running", "scheduled", "retrying", "dead")


@dataclass(frozen=True, slots=True)
class Look:
    """All queues at one moment, and at the moment of the look before, if there was one. ``took``: microseconds to count them."""

    counts: Counts
    before: Counts | None
    took: Micros


@click.command(epilog=options.examples("forebay top", "forebay top --interval 10s --json >> queues.jsonl"))
@click.option("--interval", metavar="TIME", default="2s", show_default=True, help="How long between two looks.")  # fmt: skip
@click.option("--once", is_flag=True, help="Look once; there are no rates then.")
@options.as_json_lines
@options.url
def top(*, interval: str, once: bool, as_json: bool, url: str | None) -> None:
    """Watch the queues move.

    How much of each waits, runs and is dead, for how long the oldest has been ready, how many may wait before senders are
    refused, and how many messages a second came in and ended since the look before.

    At a terminal the picture is redrawn until q or Ctrl-C; elsewhere one follows the other.
    History that is deleted meanwhile makes the rates smaller than they are.
    """
    from contextlib import suppress

    from forebay.cli.following import SHORTEST, Plain, pauses
    from forebay.cli.loading import opened
    from forebay.model.when import micros

    span = max(micros(interval, "--interval"), SHORTEST)
    with opened(url) as app:
        if once:
            _show(_look(app, None), Plain(), as_json=as_json)
            return
        # An interrupt is the usual way out.
        with suppress(KeyboardInterrupt), pauses() as between:
            watch(app, between, span, as_json=as_json)


def watch(app: App, between: Pauses, span: Micros, *, as_json: bool) -> None:
    """Look, show and wait, until the person wants no more."""
    from forebay.cli.following import SHARE

    look = _look(app, None)
    _show(look, between, as_json=as_json)
    while between.wait(max(span, SHARE * look.took)):
        look = _look(app, look.counts)
        _show(look, between, as_json=as_json)


def _look(app: App, before: Counts | None) -> Look:
    from forebay.support.clock import SystemClock

    clock = SystemClock()
    began = clock.monotonic()
    counts = app.sync(app.count())
    return Look(counts, before, clock.monotonic() - began)


def _show(look: Look, between: Pauses, *, as_json: bool) -> None:
    from forebay.cli.output import json_line

    if as_json:
        json_line(_document(look))
    else:
        between.draw(lambda: _picture(look))


def _picture(look: Look) -> None:
    from forebay.cli.output import Column, moment, say, table
    from forebay.cli.queue import limit_column

    say(f"{moment(look.counts.now)}  {_sums(look)}")
    columns = [
        Column("queue"),
        *(Column(title, right=True) for title in (*TITLES, "in/s", "out/s", "oldest")),
        *limit_column(look.counts),
        Column("tap", elastic=True),
    ]
    shown, left = _fitting(sorted(look.counts.queues, key=_weight))
    table(columns, [_row(one, look) for one in shown])
    if left:
        say(f"and {left} more, quieter: forebay queue list")
    if not look.counts.queues:
        say("No queue is known here yet.")


def _sums(look: Look) -> str:
    from forebay.model.state import State

    sums = {state: sum(one.states.get(state, 0) for one in look.counts.queues) for state in State}
    return f"{sums[State.READY]:,} ready, {sums[State.RUNNING]:,} running, {sums[State.DEAD]:,} dead"


def _weight(one: QueueCounts) -> tuple[int, str]:
    """The liveliest first."""
    from forebay.model.state import WAITING, State

    return -sum(one.states.get(state, 0) for state in (*WAITING, State.RUNNING)), one.queue


def _fitting(queues: list[QueueCounts]) -> tuple[list[QueueCounts], int]:
    """As many as a terminal has lines for, and how many are left over. All of them where lines follow each other."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return queues, 0
    # Two lines of headings, one for what is left out.
    room = max(shutil.get_terminal_size().lines - 3, 1)
    return queues[:room], max(len(queues) - room, 0)


def rates(one: QueueCounts, look: Look) -> tuple[float, float] | None:
    """Messages a second that came in and that ended since the look before; None at the first."""
    from forebay.model.state import FINISHED

    if look.before is None or look.counts.now <= look.before.now:
        return None
    past = next((old.states for old in look.before.queues if old.queue == one.queue), {})
    seconds = (look.counts.now - look.before.now) / 1e6
    ended = sum(one.states.get(state, 0) - past.get(state, 0) for state in FINISHED)
    grown = sum(one.states.values()) - sum(past.values())
    return max(grown, 0) / seconds, max(ended, 0) / seconds


def _row(one: QueueCounts, look: Look) -> list[str]:
    from forebay.cli.queue import age, ceiling
    from forebay.model.state import State

    speed = rates(one, look)
    return [
        one.queue,
        *(f"{one.states.get(State(title), 0):,}" for title in TITLES),
        *(("", "") if speed is None else (f"{rate:,.1f}" for rate in speed)),
        age(one, look.counts),
        *ceiling(one, look.counts),
        "paused" if one.paused else "",
    ]


def _document(look: Look) -> dict[str, Any]:  # any JSON
    from forebay.cli.output import timestamp
    from forebay.cli.queue import described

    queues = []
    for one in look.counts.queues:
        speed = rates(one, look) or (None, None)
        queues.append({**described(one, look.counts), "in_per_second": speed[0], "out_per_second": speed[1]})
    return {"now": timestamp(look.counts.now), "queues": queues}
