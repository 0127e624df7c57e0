"""``forebay demo``: see it at work, with nothing but what is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from forebay.cli import options

if TYPE_CHECKING:
    from forebay.cli.exits import Exit


@click.command(epilog=options.examples("forebay demo", "forebay demo --keep"))
@click.option(
    "--tasks",
    type=click.IntRange(100, 100_000),
    default=2_000,
    show_default=True,
    metavar="N",
    help="How many to send.",
)
@click.option("--keep", is_flag=True, help="Leave the database, and say how to look into it.")
def demo(*, tasks: int, keep: bool) -> Exit:
    """Send tasks to two worker processes, kill one half-way, and prove that every task ran.

    Takes about ten seconds, on a temporary SQLite file.
    """
    from forebay.cli.demonstration import Demonstration

    return Demonstration.prepare(tasks, keep=keep).run()
