"""``forebay bench``: what this machine does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from forebay.cli import options

if TYPE_CHECKING:
    from forebay.cli.exits import Exit


@click.command(epilog=options.examples("forebay bench", "forebay bench --dir . --count 100000 --json"))
@click.option(
    "--dir",
    "folder",
    type=click.Path(exists=True, file_okay=False, writable=True),
    metavar="DIR",
    help="Where the file of the measurement lies for its time: on the disk that matters. Default: this folder.",
)
@click.option("--memory", is_flag=True, help="Measure the memory engine instead of SQLite.")
@click.option(
    "--count", type=click.IntRange(1_000, 5_000_000), default=20_000, show_default=True, metavar="N", help="Tasks to send and to work off."
)  # fmt: skip
@options.as_json
def bench(*, folder: str | None, memory: bool, count: int, as_json: bool) -> Exit:
    """Measure what this machine does, with tasks that do nothing.

    One process: sends one by one, a hundred callers at once, all in one call; a worker that works them off; and the time from a send to
    the first line of its handler on an idle worker. On a file of its own, which is removed again. Takes some ten seconds.
    """
    from forebay.cli.benchmark import measure

    return measure(folder or ".", memory=memory, count=count, as_json=as_json)
