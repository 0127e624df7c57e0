"""``forebay task``: what was sent, and what may be done to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from forebay.cli import options
from forebay.errors import InvalidOption

if TYPE_CHECKING:
    from forebay.cli.exits import Exit
    from forebay.cli.touch import Manner, Verb
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
@options.queue
@options.states
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
    states: tuple[str, ...],
    name: str | None,
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
        selector(queue, states, name),
        Listing(limit=limit, cursor=cursor, body=not no_body, as_json=as_json, watch=watch),
    )


@task.command(
    epilog=options.examples(
        "forebay task tail --queue mail", "forebay task tail --state dead --json | jq -r '.id'"
    )
)
@options.queue
@options.ended
@options.name
@options.limit(None, "Stop after this many.")
@click.option("--interval", metavar="TIME", default="1s", show_default=True, help="How long between two looks.")  # fmt: skip
@options.no_body
@options.as_json_lines
@options.url
def tail(  # noqa: PLR0913  # one parameter for each option
    *,
    queue: str | None,
    states: tuple[str, ...],
    name: str | None,
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
    from forebay.cli.tail import Following, follow

    which = selector(queue, states or tuple(options.ENDED), name)
    follow(url, which, Following(limit=limit, interval=interval, body=not no_body, as_json=as_json))


@task.command(epilog=options.examples("forebay task show 019ab0c4-7d1e-7c3a-9f53-0d8c1b2a3e4f"))
@click.argument("id", metavar="ID")
@options.no_body
@options.as_json
@options.url
def show(*, id: str, no_body: bool, as_json: bool, url: str | None) -> None:
    """Tell the story of one message.

    Its state and times, every try and its error, the body and the result.
    """
    from forebay.cli.loading import opened
    from forebay.cli.output import document
    from forebay.cli.records import full, story
    from forebay.cli.touch import find_one

    with opened(url) as app:
        record = find_one(app, id)
    if as_json:
        document(full(record, body=not no_body))
    else:
        story(record, body=not no_body)


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


@task.command(
    epilog=options.examples(
        "forebay task retry 019ab0c4-7d1e-7c3a-9f53-0d8c1b2a3e4f",
        "forebay task retry --queue mail --state retrying --yes",
    )
)
@click.argument("ids", metavar="[ID]...", nargs=-1)
@options.queue
@options.states
@options.name
@options.limit(None, "Touch at most this many, the oldest first.")
@options.manner
@options.url
def retry(  # noqa: PLR0913  # one parameter for each option
    *,
    ids: tuple[str, ...],
    queue: str | None,
    states: tuple[str, ...],
    name: str | None,
    limit: int | None,
    manner: Manner,
    url: str | None,
) -> Exit:
    """Make messages ready now, by id or by options.

    Their attempts are counted anew.
    Options without --state select dead letters only. What has succeeded runs once more if it is named, so think of its effects.
    """
    from forebay.cli.touch import RETRY

    chosen = states or (() if ids else ("dead",))
    return _touch(RETRY, ids, selector(queue, chosen, name, limit), manner=manner, url=url, said=bool(states))


@task.command(
    epilog=options.examples(
        "forebay task cancel 019ab0c4-7d1e-7c3a-9f53-0d8c1b2a3e4f",
        "forebay task cancel --name send_newsletter",
    )
)
@click.argument("ids", metavar="[ID]...", nargs=-1)
@options.queue
@options.states
@options.name
@options.limit(None, "Touch at most this many, the oldest first.")
@options.manner
@options.url
def cancel(  # noqa: PLR0913  # one parameter for each option
    *,
    ids: tuple[str, ...],
    queue: str | None,
    states: tuple[str, ...],
    name: str | None,
    limit: int | None,
    manner: Manner,
    url: str | None,
) -> Exit:
    """Cancel messages, by id or by options.

    What waits will not run; what runs is asked to stop.
    """
    from forebay.cli.touch import CANCEL

    return _touch(CANCEL, ids, selector(queue, states, name, limit), manner=manner, url=url)


@task.command(
    epilog=options.examples(
        "forebay task delete 019ab0c4-7d1e-7c3a-9f53-0d8c1b2a3e4f",
        "forebay task delete --state succeeded --name send_newsletter",
    )
)
@click.argument("ids", metavar="[ID]...", nargs=-1)
@options.queue
@options.states
@options.name
@options.limit(None, "Touch at most this many, the oldest first.")
@options.manner
@options.url
def delete(  # noqa: PLR0913  # one parameter for each option
    *,
    ids: tuple[str, ...],
    queue: str | None,
    states: tuple[str, ...],
    name: str | None,
    limit: int | None,
    manner: Manner,
    url: str | None,
) -> Exit:
    """Delete messages, by id or by options.

    Their history goes with them. What runs cannot be deleted: cancel it first.
    """
    from forebay.cli.touch import DELETE

    return _touch(DELETE, ids, selector(queue, states, name, limit), manner=manner, url=url)


def selector(
    queue: str | None, states: tuple[str, ...], name: str | None, limit: int | None = None
) -> Selector:
    """What the options select. Raises `InvalidName` for a name outside the grammar."""
    from forebay.model.names import check_name
    from forebay.model.query import Selector
    from forebay.model.state import State

    return Selector(
        queue=None if queue is None else check_name(queue, "queue"),
        name=None if name is None else check_name(name, "name"),
        states=frozenset(State(state) for state in states),
        limit=limit,
    )


def _touch(  # what was said, and how it is to be done
    verb: Verb,
    ids: tuple[str, ...],
    which: Selector,
    *,
    manner: Manner,
    url: str | None,
    said: bool = True,
) -> Exit:
    from forebay.cli.loading import opened
    from forebay.cli.touch import touch

    chosen = which.queue is not None or which.name is not None or (said and bool(which.states))
    if bool(ids) == chosen:
        raise InvalidOption(
            f"Say which tasks to {verb.word}: their ids, or some of --queue, --state and --name; not both, and not neither."
        )
    with opened(url) as app:
        return touch(app, verb, ids, which, manner)
