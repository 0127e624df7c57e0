"""``forebay task``: what was sent, and what may be done to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from forebay.cli import options
from forebay.cli.bulk import add_verbs
from forebay.model.state import FINISHED

if TYPE_CHECKING:
    from forebay.cli.exits import Exit
    from forebay.model.query import Selector


@click.group()
def task() -> None:
    """Look at messages and steer them: tasks, and copies of events.

    An id alone is enough, wherever it is; so is the beginning of one, from 8 characters on, if it is the only one.
    """


@task.command(
    "list",
    epilog=options.examples(
        "forebay task list --state retrying --queue mail",
        "forebay task list --state dead --json | jq -r '.[].id'",
    ),
)
@options.selects(options.states, options.worker)
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
    """Show messages, newest first."""
    from forebay.cli.show import Listing, show_list

    show_list(
        url,
        which,
        Listing(limit=limit, cursor=cursor, body=not no_body, as_json=as_json, watch=watch),
    )


@task.command(
    epilog=options.examples(
        "forebay task tail --queue mail", "forebay task tail --state dead --json | jq -r '.id'"
    )
)
@options.selects(options.ended)
@options.limit(None, "Stop after this many.")
@click.option("--interval", metavar="TIME", default="1s", show_default=True, help="How long between two looks.")  # fmt: skip
@options.no_body
@options.as_json_lines
@options.url
def tail(  # one parameter for each option
    *,
    which: Selector,
    limit: int | None,
    interval: str,
    no_body: bool,
    as_json: bool,
    url: str | None,
) -> None:
    """Follow messages as they end, one line each.

    From now on, until Ctrl-C. However many end, and however long the terminal takes, each end is shown once; only what is deleted
    or run again before the next look is not.
    """
    from msgspec.structs import replace

    from forebay.cli.tail import Following, follow

    meant = which if which.states else replace(which, states=FINISHED)
    follow(url, meant, Following(limit=limit, interval=interval, body=not no_body, as_json=as_json))


@task.command(epilog=options.examples("forebay task show 019ab0c4-7d1e-7c3a-9f53-0d8c1b2a3e4f"))
@click.argument("id", metavar="ID")
@options.no_body
@options.as_json
@options.url
def show(*, id: str, no_body: bool, as_json: bool, url: str | None) -> None:
    """Tell the story of one message.

    Its state and times, every try and its error, its durable steps, the body and the result.
    """
    from forebay.cli import saved
    from forebay.cli.loading import opened
    from forebay.cli.output import document, note
    from forebay.cli.records import full, story
    from forebay.cli.touch import find_one

    with opened(url) as app:
        record = find_one(app, id)
        steps = app.sync(app.saved_steps(record.id))
    if as_json:
        told = full(record, body=not no_body) | {"steps": saved.documents(record, steps)}
        document(told if no_body else told | {"step_results": saved.results(steps)})
    else:
        story(record, saved.rows(record, steps[-saved.SHOWN :]), body=not no_body)
        if len(steps) > saved.SHOWN:
            note(f"{len(steps) - saved.SHOWN:,} more steps were saved before these: --json has them all.")


@task.command(epilog=options.examples("forebay task wait 019ab0c4-7d1e-7c3a-9f53-0d8c1b2a3e4f --timeout 5m"))
@click.argument("id", metavar="ID")
@click.option("--timeout", metavar="TIME", help="Wait no longer than this. Default: as long as it takes.")
@options.as_json
@options.url
def wait(*, id: str, timeout: str | None, as_json: bool, url: str | None) -> Exit:
    """Wait until a message has come to its end, and print its result.

    At a terminal a bar shows how far it says it is. Ends with 0 if it has succeeded, with 1 if it has not, or not in time.
    """
    from forebay.cli.waiting import wait as wait_for

    return wait_for(id, url, timeout, as_json=as_json)


add_verbs(task, "task")
