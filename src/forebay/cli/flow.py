"""``forebay flow``: graphs of steps, how they stand, and what may be done to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from forebay.cli import options

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebay.cli.exits import Exit
    from forebay.cli.touch import Manner

STATES = ("running", "succeeded", "failed", "cancelled")
_ID = "order-42"


@click.group()
def flow() -> None:
    """Look at flows and steer them.

    An id alone is enough; so is the beginning of one, from 8 characters on, if it is the only one. A step of a flow is a task: its id is
    FLOW:STEP, and forebay task show tells its story.
    """


@flow.command(
    "list",
    epilog=options.examples("forebay flow list --state failed", "forebay flow list --json | jq -r '.[].id'"),
)
@click.option(
    "--state",
    type=click.Choice(STATES),
    metavar="STATE",
    help=f"Only those that stand so: {', '.join(STATES)}.",
)
@options.limit(50, "Show at most this many.")
@options.watch
@options.as_json
@options.url
def list_(*, state: str | None, limit: int, watch: str | None, as_json: bool, url: str | None) -> None:
    """Show flows, the newest first, and how many of their steps are in which state."""
    from forebay.cli.flows import show_list

    show_list(url, state, limit, watch, as_json=as_json)


@flow.command(epilog=options.examples("forebay flow show order-42", "forebay flow show order-42 --mermaid"))
@click.argument("id", metavar="ID")
@click.option("--all", "every", is_flag=True, help="Show every step, however many a level has.")
@click.option("--mermaid", is_flag=True, help="Print the graph as a Mermaid diagram.")
@options.watch
@options.as_json
@options.url
def show(
    *, id: str, every: bool, mermaid: bool, watch: str | None, as_json: bool, url: str | None
) -> None:  # one parameter for each option
    """Draw a flow: its steps level by level, how they stand and what they wait for.

    The steps of a level wait for some of the one before it. Of a level that has more than a dozen, it shows how many are in which
    state, and the first of those that are most worth knowing.
    """
    from forebay.cli.flows import show_one

    show_one(url, id, watch, form="json" if as_json else "mermaid" if mermaid else "text", every=every)


def _verb(word: str, help: str, *more: str) -> Callable[..., Any]:
    @flow.command(word, help=help, epilog=options.examples(f"forebay flow {word} {_ID}", *more))
    @click.argument("ids", metavar="ID...", nargs=-1, required=True)
    @options.manner
    @options.url
    def told(*, ids: tuple[str, ...], manner: Manner, url: str | None) -> Exit:
        from forebay.cli.flows import VERBS, touch
        from forebay.cli.loading import opened

        with opened(url) as app:
            return touch(app, VERBS[word], ids, manner)

    return told


_verb(
    "retry",
    """Let flows go on from the steps that have failed.

    Those that are dead, expired or cancelled are ready again, and their attempts are counted anew. What has succeeded is kept, and what was
    cancelled because of them waits again.""",
    "forebay flow list --state failed --json | jq -r '.[].id' | xargs forebay flow retry",
)
_verb(
    "cancel",
    """Cancel flows.

    Steps that wait will not run; those that run are asked to stop.""",
)
_verb(
    "delete",
    """Delete flows that are over.

    All their steps go, with their history. What runs cannot be deleted: cancel it first.""",
    "forebay flow delete order-42 --yes",
)
