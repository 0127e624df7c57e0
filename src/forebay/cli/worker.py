"""``forebay worker``: works for one App until it is told to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from forebay.cli import options

if TYPE_CHECKING:
    from forebay.cli.exits import Exit


@click.command(
    epilog=options.examples(
        "forebay worker shop:app",
        "forebay worker shop.tasks:app --concurrency 20 --queues critical=6,default=3",
    )
)
@click.argument("app", metavar="APP")
@click.option(
    "--concurrency",
    "-c",
    metavar="N",
    help="Deliveries handled at the same time. Default: setting concurrency, 100.",
)
@click.option(
    "--queues",
    metavar="Q=W,...",
    help="Take from these queues only, with weights. Default: all that APP declares.",
)
@click.option(
    "--strict", is_flag=True, help="Take from a queue only while those before it in --queues are empty."
)
@click.option(
    "--stop-within",
    metavar="TIME",
    help="How long a stop lets handlers finish. Default: setting stop_within, 25s.",
)
@click.option(
    "--log-level", metavar="LEVEL", help="debug, info, warning or error. Default: setting log_level, info."
)
@click.option(
    "--log-format",
    metavar="FORMAT",
    help="text, or json for an object a line. Default: setting log_format, text.",
)
def worker(  # noqa: PLR0913  # one parameter for each option
    *,
    app: str,
    concurrency: str | None,
    queues: str | None,
    strict: bool,
    stop_within: str | None,
    log_level: str | None,
    log_format: str | None,
) -> Exit:
    """Work for an App: APP is module:attribute, imported with the current directory on the path.

    SIGTERM or Ctrl-C stops it in order: it takes nothing new, lets handlers finish, hands back the rest. A second one hands back at once.
    """
    from forebay.cli.serving import Orders, serve

    orders = Orders.read(
        concurrency=concurrency,
        queues=queues,
        strict=strict,
        stop_within=stop_within,
        log_level=log_level,
        log_format=log_format,
    )
    return serve(app, orders)
