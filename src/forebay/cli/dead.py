"""``forebay dead``: messages that will not be tried again without a person's or a program's word."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from forebay.cli import options
from forebay.cli.bulk import add_verbs
from forebay.model.state import State

if TYPE_CHECKING:
    from forebay.model.query import Selector

BY: Final = ("fingerprint", "error", "name", "queue")


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


add_verbs(dead, "dead")


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
