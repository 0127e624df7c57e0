"""``forebay audit``: who told the engine what. And who it is that gives a command here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from forebay.cli import options

if TYPE_CHECKING:
    from forebay.model.query import Selector
    from forebay.model.survey import Audited


@click.command(epilog=options.examples("forebay audit", "forebay audit --json | jq -r '.[] | .by.name'"))
@options.limit(50, "Show at most this many.")
@options.as_json
@options.url
def audit(*, limit: int, as_json: bool, url: str | None) -> None:
    """Show who told the engine what, the newest first.

    Commands that had an effect: retry, cancel, delete, pause, resume, changes of definitions, and the handing back of what dead workers
    had. The last ten thousand are kept.
    """
    from forebay.cli.loading import opened
    from forebay.cli.output import Column, document, moment, table
    from forebay.model.survey import Audit

    with opened(url) as app:
        found = app.sync(app.survey(Audit(limit=limit)))
    if as_json:
        document([_described(one) for one in found])
        return
    columns = [Column("when"), Column("who"), Column("via"), Column("command"), Column("changed", right=True)]
    table(
        [*columns, Column("asked", right=True), Column("skipped", right=True), Column("which")],
        [
            [
                moment(one.at),
                one.by.name,
                one.by.via,
                type(one.command).__name__,
                str(one.done.changed),
                str(one.done.asked),
                str(sum(one.done.skipped.values())),
                _words(one),
            ]
            for one in found
        ],
    )


def _described(one: Audited) -> dict[str, Any]:  # any JSON
    import msgspec

    from forebay.cli.output import timestamp

    return {
        "number": one.number,
        "at": timestamp(one.at),
        "by": msgspec.to_builtins(one.by),
        "command": msgspec.to_builtins(one.command),
        "which": _conditions(one.which),
        "done": msgspec.to_builtins(one.done),
    }


def _conditions(which: Selector) -> dict[str, Any]:  # any JSON
    """What it says, and nothing of what it does not."""
    import msgspec

    return {name: value for name, value in msgspec.to_builtins(which).items() if value not in (None, [], ())}


def _words(one: Audited) -> str:
    from forebay.model.query import Edit

    if isinstance(one.command, Edit):
        return f"{one.command.kind} {one.command.name}: {one.command.what}"
    return " ".join(
        f"{len(value)} by id"
        if name == "ids"
        else f"{name}={','.join(value) if isinstance(value, list | tuple) else value}"
        for name, value in _conditions(one.which).items()
    )
