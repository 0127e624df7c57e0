"""``forebay config`` and ``forebay version``: what this installation is and how it is set."""

from __future__ import annotations

import click

from forebay.cli import options


@click.group()
def config() -> None:
    """Look at the settings."""


@config.command(epilog=options.examples("FOREBAY_CONCURRENCY=20 forebay config show"))
@options.as_json
def show(*, as_json: bool) -> None:
    """Show every setting and its origin.

    Passwords are left out.

    Arguments come before the environment, that before [tool.forebay] in the nearest pyproject.toml, that before the default.
    """
    from forebay.cli.output import Column, document, table
    from forebay.support.settings import read_all

    values = read_all().values()
    if as_json:
        document(
            [
                {
                    "name": v.setting.name,
                    "value": v.shown,
                    "origin": v.origin,
                    "variable": v.setting.variable,
                    "help": v.setting.help,
                }
                for v in values
            ]
        )
        return
    columns = (Column("setting"), Column("value"), Column("origin"), Column("meaning", elastic=True))
    table(columns, [(v.setting.name, v.shown, v.origin, v.setting.help) for v in values])


@click.command(epilog=options.examples("forebay version"))
@options.as_json
def version(*, as_json: bool) -> None:
    """Show the version.

    With --json also that of Python and the platform.
    """
    import platform

    from forebay import __version__
    from forebay.cli.output import document, say

    if as_json:
        document(
            {"forebay": __version__, "python": platform.python_version(), "platform": platform.platform()}
        )
    else:
        say(f"forebay {__version__}")
