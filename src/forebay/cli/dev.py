"""``forebay dev``: work for an App while somebody writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from forebay.cli import options

if TYPE_CHECKING:
    from forebay.cli.exits import Exit


@click.command(
    epilog=options.examples("forebay dev shop:app", "forebay dev shop:app --url sqlite:///scratch.db")
)
@click.argument("app", metavar="APP")
@options.include
@click.option(
    "--url",
    metavar="URL",
    help="The engine of an App that names none. Default: setting url (see forebay config show).",
)
@click.option(
    "--concurrency", "-c", metavar="N", help="Deliveries handled at the same time. Default: setting concurrency, 100."
)  # fmt: skip
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning, error or critical. Default: info.")
def dev(
    *, app: str, include: tuple[str, ...], url: str | None, concurrency: str | None, log_level: str | None
) -> Exit:
    """Work for an App, and begin anew whenever its code changes.

    Watches the .py files and pyproject.toml below this folder. A worker that is replaced lets its handlers finish for 3 s and hands
    back the rest; code that cannot be imported is told, and waited for. What is sent meanwhile waits in the store. Ctrl-C ends it.
    """
    from forebay.cli.development import develop

    return develop(app, include, url=url, concurrency=concurrency, log_level=log_level)
