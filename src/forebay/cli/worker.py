"""``forebay worker``: works for one App until it is told to stop."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from forebay.cli import options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from forebay.cli.exits import Exit


@click.command(
    epilog=options.examples(
        "forebay worker shop:app",
        "forebay worker shop.app:app --include 'shop.*.tasks'",
        "forebay worker shop:app --concurrency 20 --queues critical=6,default=3",
        "forebay worker shop:app --processes 4 --max-memory 1G --health 8080",
    )
)
@click.argument("app", metavar="APP")
@options.include
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
    "--processes",
    metavar="N",
    help="Keep N processes at work, under a supervisor. Default: setting processes, 0: one, without.",
)
@click.option(
    "--pool-processes",
    metavar="N",
    help="Processes for handlers with pool='process'. Default: setting pool_processes, 0: one for each processor.",
)
@click.option(
    "--no-schedules",
    is_flag=True,
    help="Neither declare the schedules of APP nor fire any: other workers do.",
)
@click.option(
    "--max-tasks",
    metavar="N",
    help="Replace a supervised process after about N deliveries. Default: setting max_tasks, 0: never.",
)
@click.option(
    "--max-memory",
    metavar="SIZE",
    help="Replace a supervised process that has reached SIZE, such as 512M. Default: setting max_memory, 0: never.",
)
@click.option(
    "--health",
    metavar="HOST:PORT",
    help="Serve /live and /ready there, on loopback if HOST is left out. Default: setting health, nowhere.",
)
@click.option(
    "--health-file",
    metavar="PATH",
    help="Touch this file every second while at work. Default: setting health_file, none.",
)
@click.option(
    "--stop-within",
    metavar="TIME",
    help="How long a stop lets handlers finish. Default: setting stop_within, 25s.",
)
@click.option(
    "--log-level",
    metavar="LEVEL",
    help="debug, info, warning, error or critical. Default: setting log_level, info.",
)
@click.option(
    "--log-format",
    metavar="FORMAT",
    help="text, or json for an object a line. Default: setting log_format, text.",
)
def worker(  # noqa: PLR0913  # one parameter for each option
    *,
    app: str,
    include: tuple[str, ...],
    concurrency: str | None,
    queues: str | None,
    strict: bool,
    processes: str | None,
    pool_processes: str | None,
    no_schedules: bool,
    max_tasks: str | None,
    max_memory: str | None,
    health: str | None,
    health_file: str | None,
    stop_within: str | None,
    log_level: str | None,
    log_format: str | None,
) -> Exit:
    """Work for an App: APP is module:attribute, imported with the current directory on the path.

    SIGTERM or Ctrl-C stops it in order: it takes nothing new, lets handlers finish, hands back the rest. A second one hands back at once.

    With --processes a supervisor starts a process again that died, and hands what it held to the others at once. --concurrency is for each
    process.
    """
    from forebay.cli.orders import Orders
    from forebay.cli.serving import serve
    from forebay.cli.supervising import Supervision, supervise
    from forebay.processes.link import SupervisorLink

    said = {
        "concurrency": concurrency,
        "queues": queues,
        "pool_processes": pool_processes,
        "stop_within": stop_within,
        "log_level": log_level,
        "log_format": log_format,
    }
    link = SupervisorLink.taken(os.environ)
    orders = Orders.read(**said, strict=strict, schedules=not no_schedules)
    supervision = Supervision.read(
        processes=processes,
        max_tasks=max_tasks,
        max_memory=max_memory,
        health=health,
        health_file=health_file,
    )
    if link is not None or not supervision.processes:
        return serve(app, include, orders, supervision, link)
    modules = [f"--include={module}" for module in include]
    flags = [word for word, said_so in (("--strict", strict), ("--no-schedules", no_schedules)) if said_so]
    command = [*_words(app, said), *modules, *flags, *supervision.words()]
    return supervise(app, command, orders, supervision)


def _words(app: str, said: Mapping[str, str | None]) -> list[str]:
    """This command line again, for a process of its own."""
    words = [app]
    for name, value in said.items():
        if value is not None:
            words += [f"--{name.replace('_', '-')}", value]
    return words
