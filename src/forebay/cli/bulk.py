"""The verbs that change messages, by id or by options: one table, from which ``task`` and ``dead`` have their commands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from forebay.cli import options
from forebay.errors import InvalidOption
from forebay.model.state import State

if TYPE_CHECKING:
    from forebay.cli.exits import Exit
    from forebay.cli.touch import Manner
    from forebay.model.query import Selector

_DEAD: Final = frozenset({State.DEAD})
_ID: Final = "019ab0c4-7d1e-7c3a-9f53-0d8c1b2a3e4f"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bulk:
    """One verb. ``example``: options that select. ``meant``: the states that are meant where options say none."""

    help: str
    example: str
    meant: frozenset[State] = frozenset()


VERBS: Final = {
    "task retry": Bulk(
        help="""Make messages ready now, by id or by options.

        Their attempts are counted anew.
        Options without --state select dead letters only. What has succeeded runs once more if it is named, so think of its effects.""",
        example="--queue mail --state retrying --yes",
        meant=_DEAD,
    ),
    "task cancel": Bulk(
        help="""Cancel messages, by id or by options.

        What waits will not run; what runs is asked to stop.""",
        example="--name send_newsletter",
    ),
    "task delete": Bulk(
        help="""Delete messages, by id or by options.

        Their history goes with them. What runs cannot be deleted: cancel it first.""",
        example="--state succeeded --name send_newsletter",
    ),
    "dead retry": Bulk(
        help="""Send dead letters back to work.

        Their attempts are counted anew.""",
        example="--queue mail",
    ),
    "dead discard": Bulk(
        help="""Delete dead letters.

        Their history goes with them.""",
        example="--all --yes",
    ),
}
"""By noun and verb; what each does is in `forebay.cli.touch`."""


def add_verbs(group: click.Group, noun: str) -> None:
    """Give a group its verbs out of the table."""
    for words, bulk in VERBS.items():
        if words.startswith(f"{noun} "):
            group.add_command(_command(words, bulk))


def _command(words: str, bulk: Bulk) -> click.Command:
    noun, _, verb = words.partition(" ")
    dead = noun == "dead"

    @click.command(
        verb,
        help=bulk.help,
        epilog=options.examples(f"forebay {words} {_ID}", f"forebay {words} {bulk.example}"),
    )
    @click.argument("ids", metavar="[ID]...", nargs=-1)
    @(options.every if dead else options.none)
    @options.selects(*(() if dead else (options.states, options.worker)))
    @options.limit(None, "Touch at most this many, the oldest first.")
    @options.manner
    @options.url
    def told(  # one parameter for each option
        *,
        ids: tuple[str, ...],
        which: Selector,
        limit: int | None,
        manner: Manner,
        url: str | None,
        every: bool = False,
    ) -> Exit:
        from msgspec.structs import replace

        from forebay.cli.loading import opened
        from forebay.cli.touch import OF, touch
        from forebay.model.query import Selector

        if bool(ids) == (every or which != Selector()):
            what, ways = (
                ("dead letters", "--all, --queue, --name")
                if dead
                else ("tasks", "some of --queue, --state, --name")
            )
            raise InvalidOption(
                f"Say which {what} to {verb}: their ids, or {ways} and the like; not both, and not neither."
            )
        meant = _DEAD if dead else which.states or (frozenset() if ids else bulk.meant)
        with opened(url) as app:
            return touch(app, OF[words], ids, replace(which, states=meant, limit=limit), manner)

    return told
