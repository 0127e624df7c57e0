"""``forebay queue``: how full the queues are, and their taps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from forebay.cli import options
from forebay.errors import ForebayError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from forebay.app import App
    from forebay.cli.exits import Exit
    from forebay.cli.output import Column
    from forebay.cli.touch import Manner
    from forebay.model.query import Counts, Pause, QueueCounts, Resume


class NoQueue(ForebayError):
    """The engine knows no queue of that name."""


@click.group()
def queue() -> None:
    """Look at queues, pause and resume them, change their rules, empty them."""


@queue.command("list", epilog=options.examples("forebay queue list"))
@options.watch
@options.as_json
@options.url
def list_(*, watch: str | None, as_json: bool, url: str | None) -> None:
    """Show all queues.

    How much of each waits, runs and is dead, for how long the oldest has been ready, and how many may wait before senders are refused.
    """
    from forebay.cli.following import repeated
    from forebay.cli.loading import opened
    from forebay.cli.output import document, json_line

    def look() -> None:
        counts = app.sync(app.count())
        if as_json:
            (document if watch is None else json_line)([described(one, counts) for one in counts.queues])
        else:
            _table(counts)

    with opened(url) as app:
        repeated(watch, look)
        if watch is None and not as_json:
            _say_unworked(app)


def _say_unworked(app: App) -> None:
    """Which queues have messages that wait, and no worker."""
    from forebay.cli.output import clean, note

    worked = worked_queues(app)
    alone = [
        one.queue for one in app.sync(app.count()).queues if for_workers(one) and one.queue not in worked
    ]
    if alone:
        some = ", ".join(map(clean, alone[:5])) + (f" and {len(alone) - 5} more" if len(alone) > 5 else "")
        note(
            f"forebay: messages wait in {some}, and no worker that is there takes from {'it' if len(alone) == 1 else 'them'}."
        )


def worked_queues(app: App) -> set[str]:
    """The queues that workers take from which are there now."""
    from forebay.model.survey import Workers

    return {queue for worker in app.sync(app.survey(Workers())) for queue in worker.queues}


def unworked(app: App, name: str) -> str:
    """A sentence on a queue to which something was sent and that nobody works; nothing if somebody does."""
    import difflib

    worked = worked_queues(app)
    if name in worked:
        return ""
    near = difflib.get_close_matches(name, worked, n=1)
    meant = f" Did you mean {near[0]!r}?" if near else ""
    one = next((one for one in app.sync(app.count()).queues if one.queue == name), None)
    new = one is None or (one.limit is None and sum(one.states.values()) <= 1)
    what = (
        f"queue {name!r} was not there before, and no worker takes from it"
        if new
        else f"no worker takes from queue {name!r}"
    )
    return f"forebay: {what} now: the message waits.{meant}"


def _table(counts: Counts) -> None:
    from forebay.cli.output import Column, table
    from forebay.model.state import State

    blocked = any(one.states.get(State.BLOCKED) for one in counts.queues)
    titles = (
        "ready",
        *(("blocked",) if blocked else ()),
        "running",
        "scheduled",
        "retrying",
        "dead",
        "succeeded",
    )
    columns = [
        Column("queue"),
        *(Column(title, right=True) for title in (*titles, "oldest")),
        *limit_column(counts),
        *rule_column(counts),
        Column("from"),
        Column("tap"),
    ]
    table(columns, [_row(one, counts, titles) for one in counts.queues])


@queue.command(epilog=options.examples("forebay queue show mail"))
@click.argument("name", metavar="QUEUE")
@options.as_json
@options.url
def show(*, name: str, as_json: bool, url: str | None) -> None:
    """Show one queue in full."""
    from forebay.cli.loading import opened
    from forebay.cli.output import clean, document, say
    from forebay.cli.rules import described as rule_of, sentences

    with opened(url) as app:
        one, counts = _known(app, name)
        rule = rule_of(app, one)
    if as_json:
        document(described(one, counts) | {"rule": rule})
        return
    say(f"{clean(one.queue)}{' (paused)' if one.paused else ''}")
    if one.pattern is not None:
        say(f"  group {one.group} of topic {one.pattern}")
    for state, number in described(one, counts)["states"].items():
        say(f"  {state:<9} {number:>9,}")
    say(f"  oldest ready: {age(one, counts) or 'none'}")
    if one.limit is not None:
        say(f"  limit: {one.limit:,} may wait, and {waiting(one):,} do")
    for line in sentences(rule):
        say(f"  {line}")


@queue.command(epilog=options.examples("forebay queue pause mail"))
@click.argument("name", metavar="QUEUE")
@options.as_json
@options.url
def pause(*, name: str, as_json: bool, url: str | None) -> None:
    """Stop a queue.

    Nothing of it is handed out until it is resumed. What runs goes on; sending goes on.
    """
    from forebay.model.query import Pause

    _turn(name, Pause(), "paused", as_json=as_json, url=url)


@queue.command(epilog=options.examples("forebay queue resume mail"))
@click.argument("name", metavar="QUEUE")
@options.as_json
@options.url
def resume(*, name: str, as_json: bool, url: str | None) -> None:
    """Take back a pause."""
    from forebay.model.query import Resume

    _turn(name, Resume(), "resumed", as_json=as_json, url=url)


@queue.command(
    "set",
    epilog=options.examples(
        "forebay queue set mail rate=50/s",
        "forebay queue set tenants per_key=2 fair=true weights=a:3",
        "forebay queue set mail rate=none",
    ),
)
@click.argument("name", metavar="QUEUE")
@click.argument("settings", metavar="SETTING=VALUE...", nargs=-1, required=True)
@options.as_json
@options.url
def set_(*, name: str, settings: tuple[str, ...], as_json: bool, url: str | None) -> None:
    """Change how much of a queue begins and runs, for all workers at once.

    Settings are rate, burst, rate_per_key, burst_per_key, concurrency, per_key, ordered, fair and weights, as in the code. What is said
    here goes before what the code says, until it is reset; none takes a limit away.
    """
    from forebay.cli.actor import actor
    from forebay.cli.rules import said_in

    said = said_in(settings)
    _rule(name, lambda app: app.set_queue(name, by=actor(), **said), as_json=as_json, url=url)


@queue.command(epilog=options.examples("forebay queue reset mail", "forebay queue reset mail rate"))
@click.argument("name", metavar="QUEUE")
@click.argument("settings", metavar="SETTING...", nargs=-1)
@options.as_json
@options.url
def reset(*, name: str, settings: tuple[str, ...], as_json: bool, url: str | None) -> None:
    """Take back what was set: what the code says holds again. Of all, or of some settings."""
    from forebay.cli.actor import actor

    _rule(name, lambda app: app.reset_queue(name, *settings, by=actor()), as_json=as_json, url=url)


def _rule(
    name: str, change: Callable[[App], Coroutine[Any, Any, bool]], *, as_json: bool, url: str | None
) -> None:
    from forebay.cli.loading import opened
    from forebay.cli.output import document, say
    from forebay.cli.rules import described as rule_of, sentences

    with opened(url) as app:
        one, _counts = _known(app, name)
        changed = app.sync(change(app))
        one, _counts = _known(app, name)
        rule = rule_of(app, one)
    if as_json:
        document({"queue": one.queue, "changed": changed, "rule": rule})
        return
    say(f"{'changed' if changed else 'unchanged'} {one.queue}")
    for line in sentences(rule):
        say(f"  {line}")


@queue.command(epilog=options.examples("forebay queue purge mail"))
@click.argument("name", metavar="QUEUE")
@options.manner
@options.url
def purge(*, name: str, manner: Manner, url: str | None) -> Exit:
    """Delete all that waits in a queue.

    What runs, and what is finished or dead, stays.
    """
    from forebay.cli.loading import opened
    from forebay.cli.touch import PURGE, touch
    from forebay.model.query import Selector

    with opened(url) as app:
        one, _counts = _known(app, name)
        return touch(app, PURGE, (), Selector(queue=one.queue), manner)


def _turn(name: str, command: Pause | Resume, past: str, *, as_json: bool, url: str | None) -> None:
    from forebay.cli.actor import actor
    from forebay.cli.loading import opened
    from forebay.cli.output import document, say
    from forebay.model.query import Selector

    with opened(url) as app:
        one, _counts = _known(app, name)
        changed = app.sync(app.steer(Selector(queue=one.queue), command, by=actor())).changed > 0
    if as_json:
        document({"queue": one.queue, "paused": past == "paused", "changed": changed})
    else:
        say(
            f"{past} {one.queue}"
            if changed
            else f"{one.queue} {'was paused already' if past == 'paused' else 'was not paused'}"
        )


def _known(app: App, name: str) -> tuple[QueueCounts, Counts]:
    """The queue of that name. Raises `NoQueue`: a typing error must not pause a queue that does not exist."""
    from forebay.model.names import check_name

    check_name(name, "queue")
    counts = app.sync(app.count())
    for one in counts.queues:
        if one.queue == name:
            return one, counts
    known = ", ".join(one.queue for one in counts.queues)
    raise NoQueue(f"No queue {name!r} is known here{f': known are {known}' if known else ', nor any other'}.")


def described(one: QueueCounts, counts: Counts) -> dict[str, Any]:  # any JSON
    """One queue as a JSON document."""
    from forebay.cli.output import timestamp
    from forebay.model.state import State

    waited = None if one.oldest_ready is None else max(0, counts.now - one.oldest_ready) / 1e6
    return {
        "queue": one.queue, "paused": one.paused, "topic": one.pattern, "group": one.group,
        "limit": one.limit, "states": {state.value: one.states.get(state, 0) for state in State},
        "oldest_ready": timestamp(one.oldest_ready), "oldest_ready_seconds": waited,
    }  # fmt: skip


def _row(one: QueueCounts, counts: Counts, titles: tuple[str, ...]) -> list[str]:
    states = described(one, counts)["states"]
    source = "" if one.pattern is None else f"{one.pattern} for {one.group}"
    return [
        one.queue,
        *(f"{states[title]:,}" for title in titles),
        age(one, counts),
        *ceiling(one, counts),
        *in_short(one, counts),
        source,
        "paused" if one.paused else "",
    ]


def waiting(one: QueueCounts) -> int:
    """How much of a queue counts towards its limit."""
    from forebay.model.state import WAITING

    return sum(one.states.get(state, 0) for state in WAITING)


def for_workers(one: QueueCounts) -> int:
    """How much of a queue waits for workers, now or later; what is blocked waits for something else."""
    from forebay.model.state import WAITING, State

    return sum(one.states.get(state, 0) for state in WAITING - {State.BLOCKED})


def limit_column(counts: Counts) -> list[Column]:
    """The column of limits, where any queue has one."""
    from forebay.cli.output import Column

    limited = any(one.limit is not None for one in counts.queues)
    return [Column("limit", right=True)] if limited else []


def ceiling(one: QueueCounts, counts: Counts) -> list[str]:
    """What is in that column: how many may wait, and that as many do."""
    if not limit_column(counts):
        return []
    if one.limit is None:
        return [""]
    return [f"{one.limit:,} full" if waiting(one) >= one.limit else f"{one.limit:,}"]


def rule_column(counts: Counts) -> list[Column]:
    """The column of rules, where any queue has one."""
    from forebay.cli.output import Column
    from forebay.model.rule import FREE

    return [Column("rule")] if any(one.rules != FREE for one in counts.queues) else []


def in_short(one: QueueCounts, counts: Counts) -> list[str]:
    """What is in that column."""
    from forebay.cli.rules import short

    return [short(one.rules)] if rule_column(counts) else []


def age(one: QueueCounts, counts: Counts) -> str:
    """For how long the oldest ready message has been ready; empty if there is none."""
    from forebay.cli.output import span

    return "" if one.oldest_ready is None else span(max(0, counts.now - one.oldest_ready))
