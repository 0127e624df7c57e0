"""``forebay dead``: messages that will not be tried again without a person's or a program's word."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from forebay.cli import options
from forebay.errors import InvalidOption

if TYPE_CHECKING:
    from forebay.cli.exits import Exit
    from forebay.cli.touch import Manner, Verb

every = click.option("--all", "every", is_flag=True, help="All dead letters of the engine.")


@click.group()
def dead() -> None:
    """Look at dead letters, send them back to work, or throw them away."""


@dead.command("list", epilog=options.examples("forebay dead list --queue mail"))
@options.queue
@options.name
@options.limit(50, "Show at most this many.")
@options.cursor
@options.no_body
@options.watch
@options.as_json
@options.url
def list_(  # noqa: PLR0913  # one parameter for each option
    *,
    queue: str | None,
    name: str | None,
    limit: int,
    cursor: str | None,
    no_body: bool,
    watch: str | None,
    as_json: bool,
    url: str | None,
) -> None:
    """Show dead letters, newest first.

    With the reason and the last error of each.
    """
    from forebay.cli.show import Listing, show_list
    from forebay.cli.task import selector

    show_list(
        url,
        selector(queue, ("dead",), name),
        Listing(limit=limit, cursor=cursor, body=not no_body, as_json=as_json, watch=watch),
    )


@dead.command(
    epilog=options.examples(
        "forebay dead retry 019ab0c4-7d1e-7c3a-9f53-0d8c1b2a3e4f", "forebay dead retry --queue mail"
    )
)
@click.argument("ids", metavar="[ID]...", nargs=-1)
@every
@options.queue
@options.name
@options.limit(None, "Touch at most this many, the oldest first.")
@options.manner
@options.url
def retry(  # noqa: PLR0913  # one parameter for each option
    *,
    ids: tuple[str, ...],
    every: bool,
    queue: str | None,
    name: str | None,
    limit: int | None,
    manner: Manner,
    url: str | None,
) -> Exit:
    """Send dead letters back to work.

    Their attempts are counted anew.
    """
    from forebay.cli.touch import REVIVE

    return _touch(REVIVE, ids, every=every, queue=queue, name=name, limit=limit, manner=manner, url=url)


@dead.command(
    epilog=options.examples(
        "forebay dead discard 019ab0c4-7d1e-7c3a-9f53-0d8c1b2a3e4f", "forebay dead discard --all --yes"
    )
)
@click.argument("ids", metavar="[ID]...", nargs=-1)
@every
@options.queue
@options.name
@options.limit(None, "Touch at most this many, the oldest first.")
@options.manner
@options.url
def discard(  # noqa: PLR0913  # one parameter for each option
    *,
    ids: tuple[str, ...],
    every: bool,
    queue: str | None,
    name: str | None,
    limit: int | None,
    manner: Manner,
    url: str | None,
) -> Exit:
    """Delete dead letters.

    Their history goes with them.
    """
    from forebay.cli.touch import DISCARD

    return _touch(DISCARD, ids, every=every, queue=queue, name=name, limit=limit, manner=manner, url=url)


def _touch(  # noqa: PLR0913  # what was said, and how it is to be done
    verb: Verb,
    ids: tuple[str, ...],
    *,
    every: bool,
    queue: str | None,
    name: str | None,
    limit: int | None,
    manner: Manner,
    url: str | None,
) -> Exit:
    from forebay.cli.loading import opened
    from forebay.cli.task import selector
    from forebay.cli.touch import touch

    if bool(ids) == (every or queue is not None or name is not None):
        raise InvalidOption(
            f"Say which dead letters to {verb.word}: their ids, or --all, --queue or --name; not both, and not neither."
        )
    with opened(url) as app:
        return touch(app, verb, ids, selector(queue, ("dead",), name, limit), manner)
