"""``forebay workers``: who is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from forebay.cli import options

if TYPE_CHECKING:
    from forebay.model.survey import Presence
    from forebay.model.when import Instant


@click.command(epilog=options.examples("forebay workers", "forebay workers --json | jq -r '.[].worker'"))
@options.watch
@options.as_json
@options.url
def workers(*, watch: str | None, as_json: bool, url: str | None) -> None:
    """Show the workers that are there.

    Where they run, what they work on, how many of their slots are taken, and how long ago they were last heard of. One that has
    been silent for as long as a lease is not shown any more.
    """
    from forebay.cli.following import repeated
    from forebay.cli.loading import opened
    from forebay.cli.output import document, json_line
    from forebay.model.survey import LONGEST_SURVEY, Workers
    from forebay.support.clock import SystemClock

    def look() -> None:
        found = app.sync(app.survey(Workers(limit=LONGEST_SURVEY)))
        if as_json:
            (document if watch is None else json_line)([_described(one) for one in found])
        else:
            _table(found, SystemClock().now())

    with opened(url) as app:
        repeated(watch, look)


def _table(found: tuple[Presence, ...], now: Instant) -> None:
    from forebay.cli.output import Column, span, table

    columns = [
        Column("worker"),
        Column("host"),
        Column("pid", right=True),
        Column("busy", right=True),
        Column("up", right=True),
        Column("heard", right=True),
        Column("version"),
        Column("queues"),
    ]
    rows = [
        [
            one.worker,
            one.host,
            str(one.pid),
            f"{one.running}/{one.slots}",
            span(max(now - one.started, 0)),
            span(max(now - one.seen, 0)),
            one.version,
            ", ".join(one.queues),
        ]
        for one in found
    ]
    table(columns, rows)


def _described(one: Presence) -> dict[str, Any]:  # any JSON
    from forebay.cli.output import timestamp

    return {
        "worker": one.worker,
        "host": one.host,
        "pid": one.pid,
        "version": one.version,
        "queues": one.queues,
        "slots": one.slots,
        "running": one.running,
        "started": timestamp(one.started),
        "seen": timestamp(one.seen),
    }
