"""``forebay dead``: messages that will not be tried again without a person's or a program's word."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from forebay.cli import options
from forebay.errors import InvalidOption
from forebay.model.state import State

if TYPE_CHECKING:
    from forebay.cli.exits import Exit
    from forebay.cli.touch import Manner, Verb
    from forebay.model.query import Selector

BY: Final = ("fingerprint", "error", "name", "queue")
every = click.option("--all", "every", is_flag=True, help="All dead letters of the engine.")


@click.group()
def dead() -> None:
    """Look at dead letters, send them back to work, or throw them away."""


@dead.command("list", epilog=options.examples("forebay dead list --queue mail"))
@options.selects()
@options.limit(50, "Show at most this many.")
@options.cursor
@options.no_body
@options.watch
@options.as_json
@options.url
def list_(  # noqa: PLR0913  # one parameter for each option
    *,
    which: Selector,
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

    show_list(
        url,
        _dead(which),
        Listing(limit=limit, cursor=cursor, body=not no_body, as_json=as_json, watch=watch),
    )


@dead.command(
    epilog=options.examples(
        "forebay dead retry 019ab0c4-7d1e-7c3a-9f53-0d8c1b2a3e4f", "forebay dead retry --queue mail"
    )
)
@click.argument("ids", metavar="[ID]...", nargs=-1)
@every
@options.selects()
@options.limit(None, "Touch at most this many, the oldest first.")
@options.manner
@options.url
def retry(  # one parameter for each option
    *,
    ids: tuple[str, ...],
    every: bool,
    which: Selector,
    limit: int | None,
    manner: Manner,
    url: str | None,
) -> Exit:
    """Send dead letters back to work.

    Their attempts are counted anew.
    """
    from forebay.cli.touch import REVIVE

    return _touch(REVIVE, ids, which, limit, every=every, manner=manner, url=url)


@dead.command(
    epilog=options.examples(
        "forebay dead discard 019ab0c4-7d1e-7c3a-9f53-0d8c1b2a3e4f", "forebay dead discard --all --yes"
    )
)
@click.argument("ids", metavar="[ID]...", nargs=-1)
@every
@options.selects()
@options.limit(None, "Touch at most this many, the oldest first.")
@options.manner
@options.url
def discard(  # one parameter for each option
    *,
    ids: tuple[str, ...],
    every: bool,
    which: Selector,
    limit: int | None,
    manner: Manner,
    url: str | None,
) -> Exit:
    """Delete dead letters.

    Their history goes with them.
    """
    from forebay.cli.touch import DISCARD

    return _touch(DISCARD, ids, which, limit, every=every, manner=manner, url=url)


@dead.command(epilog=options.examples("forebay dead groups", "forebay dead groups --by error --queue mail"))
@click.option(
    "--by", type=click.Choice(BY), default="fingerprint", show_default=True, help="What makes a group."
)
@options.selects()
@options.limit(50, "Show at most this many.")
@options.as_json
@options.url
def groups(*, by: str, which: Selector, limit: int, as_json: bool, url: str | None) -> None:
    """Count dead letters by what they died of, the largest groups first.

    A fingerprint is the same for failures of the same type, raised in the same place, with the same message but for numbers, ids, paths
    and what stands in quotes. An example of each is shown.
    """
    from msgspec.structs import replace

    from forebay.cli.loading import opened
    from forebay.cli.output import Column, document, table
    from forebay.cli.records import last_error
    from forebay.model.query import By, Query

    which = _dead(which)
    with opened(url) as app:
        found = app.sync(app.count(by=By(by), which=which, limit=limit))
        pages = [
            app.sync(app.find(Query(which=replace(which, **{by: str(one.value)}), size=1))) for one in found
        ]
    examples = [record for page in pages for record in page.records[:1]]
    if as_json:
        document(
            [
                {by: one.value, "number": one.number, "example": record.id, "error": last_error(record)}
                for one, record in zip(found, examples, strict=False)
            ]
        )
        return
    columns = [Column(by), Column("number", right=True), Column("example"), Column("last error")]
    rows = [
        [str(one.value), str(one.number), record.id, last_error(record)]
        for one, record in zip(found, examples, strict=False)
    ]
    table(columns, rows)


def _dead(which: Selector) -> Selector:
    """The dead among them."""
    from msgspec.structs import replace

    return replace(which, states=frozenset({State.DEAD}))


def _touch(  # noqa: PLR0913  # what was said, and how it is to be done
    verb: Verb,
    ids: tuple[str, ...],
    which: Selector,
    limit: int | None,
    *,
    every: bool,
    manner: Manner,
    url: str | None,
) -> Exit:
    from msgspec.structs import replace

    from forebay.cli.loading import opened
    from forebay.cli.touch import touch
    from forebay.model.query import Selector

    if bool(ids) == (every or which != Selector()):
        raise InvalidOption(
            f"Say which dead letters to {verb.word}: their ids, or --all, --queue, --name and the like; not both, and not neither."
        )
    with opened(url) as app:
        return touch(app, verb, ids, replace(_dead(which), limit=limit), manner)
