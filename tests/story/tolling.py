"""A worker whose bell tolls every second, and that dies at a named point of the transactions of its schedule, if it is told to.

What it has finished is forgotten after a second, so that no message that is remembered can keep a tick from coming twice.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from forebay import App, Context, Retention
from tests.story import mortal


def tower(url: str, book: Path) -> App:
    """An App that writes down each tick that its handler sees, and how often a worker has died of it."""
    app = App(url, name="tower", timing=mortal.SHORT, retention=Retention(succeeded="1s"))

    @app.schedule("* * * * * *", catch_up="all")
    @app.task
    async def toll(ctx: Context) -> None:
        with book.open("a", encoding="ascii") as pages:
            pages.write(f"{ctx.headers['forebay-tick']} {ctx.delivery.crashes}\n")

    return app


def main() -> None:
    url, book, fatal, at = sys.argv[1:]
    mortal.points.doom(fatal, int(at))
    mortal._commits()
    asyncio.run(tower(url, Path(book)).worker().run(signals=True))


if __name__ == "__main__":
    main()
