"""``forebay schedule``: when what is sent by itself comes, and changing that while it works."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from forebay.cli import options

if TYPE_CHECKING:
    from forebay.model.schedule import ScheduleRecord, ScheduleRun
    from forebay.model.when import Instant

NAME = click.argument("name", metavar="NAME")


@click.group()
def schedule() -> None:
    """Look at schedules, run, pause and skip them, put new ones."""


@schedule.command("list", epilog=options.examples("forebay schedule list"))
@options.watch
@options.as_json
@options.url
def list_(*, watch: str | None, as_json: bool, url: str | None) -> None:
    """Show all schedules.

    When each ticks, next and last, and what it sends. Those of an App's code are here once a worker of it has started; one that is
    overridden has another plan than its code.
    """
    from forebay.cli.following import repeated
    from forebay.cli.loading import opened
    from forebay.cli.output import Column, document, json_line, moment, table

    def look() -> None:
        found = app.sync(app.schedules.list())
        if as_json:
            (document if watch is None else json_line)([described(one) for one in found])
            return
        columns = [
            Column("schedule"),
            Column("state"),
            Column("next"),
            Column("last"),
            Column("sends"),
            Column("cron"),
        ]
        rows = [
            [
                one.name,
                _state(one),
                moment(next(iter(one.next(1)), None)),
                _last(one),
                one.plan.task.name,
                one.plan.cron or "",
                one.words,
            ]
            for one in found
        ]
        table([*columns, Column("when", elastic=True)], rows)

    with opened(url) as app:
        repeated(watch, look)


@schedule.command(epilog=options.examples("forebay schedule show tidy"))
@NAME
@click.option("--no-body", is_flag=True, help="Leave out the arguments.")
@options.as_json
@options.url
def show(*, name: str, no_body: bool, as_json: bool, url: str | None) -> None:
    """Show one schedule in full: its next five ticks, and its last twenty runs with what became of them."""
    import msgspec

    from forebay.cli.loading import opened
    from forebay.cli.output import document

    with opened(url) as app:
        one, runs = app.sync(app.schedules.get(name)), app.sync(app.schedules.history(name))
    if as_json:
        body = {} if no_body else {"body": msgspec.Raw(one.plan.task.body or b"null")}
        document({**described(one), **body, "runs": [_run(run) for run in runs]})
    else:
        _tell(one, runs, body=not no_body)


@schedule.command(epilog=options.examples("forebay schedule run tidy"))
@NAME
@options.as_json
@options.url
def run(*, name: str, as_json: bool, url: str | None) -> None:
    """Send its message now, beside its ticks, and print the id."""
    from forebay.cli.actor import actor
    from forebay.cli.loading import opened
    from forebay.cli.output import document, say

    with opened(url) as app:
        handle = app.sync(app.schedules.run(name, by=actor()))
    if as_json:
        document({"schedule": name, "id": handle.id})
    else:
        say(handle.id)


@schedule.command(
    epilog=options.examples("forebay schedule pause tidy", "forebay schedule pause tidy --until 2d")
)
@NAME
@click.option(
    "--until", metavar="WHEN", help="Until then: 90s, 2d, or 2030-01-31T08:00:00Z. Default: until resume."
)
@options.as_json
@options.url
def pause(*, name: str, until: str | None, as_json: bool, url: str | None) -> None:
    """Stop its ticks, until a moment or until they are resumed.

    What was sent goes on, and nothing is made up for.
    """
    from forebay.cli.actor import actor
    from forebay.cli.loading import opened
    from forebay.cli.output import moment
    from forebay.cli.send import when

    with opened(url) as app:
        end = None if until is None else when(until, "--until")
        app.sync(app.schedules.pause(name, until=end, by=actor()))
        one = app.sync(app.schedules.get(name))
    forever = one.standing.until is None
    _answer(one, f"paused {name}{'' if forever else f' until {moment(one.standing.until)}'}", as_json=as_json)


@schedule.command(epilog=options.examples("forebay schedule resume tidy"))
@NAME
@options.as_json
@options.url
def resume(*, name: str, as_json: bool, url: str | None) -> None:
    """Take back a pause."""
    from forebay.cli.actor import actor
    from forebay.cli.loading import opened

    with opened(url) as app:
        app.sync(app.schedules.resume(name, by=actor()))
        _answer(app.sync(app.schedules.get(name)), f"resumed {name}", as_json=as_json)


@schedule.command(epilog=options.examples("forebay schedule skip tidy"))
@NAME
@options.as_json
@options.url
def skip(*, name: str, as_json: bool, url: str | None) -> None:
    """Leave out its next tick."""
    from forebay.cli.actor import actor
    from forebay.cli.loading import opened
    from forebay.cli.output import moment

    with opened(url) as app:
        app.sync(app.schedules.skip(name, by=actor()))
        one = app.sync(app.schedules.get(name))
    _answer(one, f"{name} leaves out {moment(one.standing.skip)}", as_json=as_json)


@schedule.command(
    epilog=options.examples(
        "forebay schedule put tidy --every 1h --task cleanup --kw days=3 --queue maintenance",
        "forebay schedule put tidy --cron '0 6 * * mon' --zone Europe/Berlin",
    )
)
@NAME
@click.argument("arguments", metavar="[ARG]...", nargs=-1)
@click.option(
    "--cron", metavar="EXPR", help="Five fields, six with seconds first, or @hourly, @daily and so on."
)
@click.option("--every", metavar="TIME", help="So often: 90s, 5m, 1d.")
@click.option("--zone", metavar="ZONE", help="By whose clocks --cron is meant. Default: UTC.")
@click.option("--start", metavar="WHEN", help="Not before: 2030-01-31T08:00:00Z.")
@click.option("--until", metavar="WHEN", help="Not after.")
@click.option("--jitter", metavar="TIME", help="Up to so much later, the same for all workers.")
@click.option("--catch-up", metavar="HOW", help="What nobody was there for: one (default), skip, all.")
@click.option("--overlap", metavar="HOW", help="While the last is not over: allow (default), skip, queue.")
@click.option("--task", metavar="TASK", help="What it sends, with the ARGs.")
@click.option("--kw", "keywords", multiple=True, metavar="K=V", help="An argument by name; may be repeated.")
@click.option(
    "--queue", default="default", show_default=True, metavar="QUEUE", help="Where its workers take from."
)
@options.as_json
@options.url
def put(
    *,
    name: str,
    arguments: tuple[str, ...],
    keywords: tuple[str, ...],
    as_json: bool,
    url: str | None,
    **said: str | None,
) -> None:
    """Put a schedule, which is kept in the engine; or change one.

    Without --task it must be there, and what is not said stays as it is. One of an App's code is then overridden, until reset. An ARG that
    is JSON is sent as that, any other as text.
    """
    from forebay.cli.actor import actor
    from forebay.cli.loading import opened
    from forebay.cli.send import pairs, value
    from forebay.errors import InvalidOption

    task, queue = said.pop("task"), said.pop("queue") or "default"
    if task is None and (arguments or keywords):
        raise InvalidOption("Arguments go with --task: say what it sends, all of it.")
    times: dict[str, Any] = {option: text for option, text in said.items() if text is not None}
    with opened(url) as app:
        call = None
        if task is not None:
            named = {one: value(text) for one, text in pairs(keywords, "--kw")}
            call = app.named(task, queue).bind(*(value(text) for text in arguments), **named)
        one = app.sync(app.schedules.put(name, task=call, by=actor(), **times))
    _answer(one, f"put {name}: {one.words}", as_json=as_json)


@schedule.command(epilog=options.examples("forebay schedule reset tidy"))
@NAME
@options.as_json
@options.url
def reset(*, name: str, as_json: bool, url: str | None) -> None:
    """Let what the App's code says hold again."""
    from forebay.cli.actor import actor
    from forebay.cli.loading import opened

    with opened(url) as app:
        app.sync(app.schedules.reset(name, by=actor()))
        one = app.sync(app.schedules.get(name))
    _answer(one, f"reset {name}: {one.words}", as_json=as_json)


@schedule.command(epilog=options.examples("forebay schedule remove tenant-7-report"))
@NAME
@options.yes
@options.as_json
@options.url
def remove(*, name: str, yes: bool, as_json: bool, url: str | None) -> None:
    """Forget a schedule that was put, or that is gone from its App's code.

    What it has sent stays.
    """
    from forebay.cli.actor import actor
    from forebay.cli.loading import opened
    from forebay.cli.output import clean, document, say
    from forebay.cli.touch import Manner, asked

    with opened(url) as app:
        one = app.sync(app.schedules.get(name))
        lines = [f"{clean(name)}  {clean(one.plan.task.name)}  {clean(one.words)}"]
        asked("remove", "removed", "1 schedule", lines, Manner(yes=yes, as_json=as_json))
        app.sync(app.schedules.remove(name, by=actor()))
    if as_json:
        document({"schedule": name, "removed": True})
    else:
        say(f"removed {name}")


def _answer(one: ScheduleRecord, said: str, *, as_json: bool) -> None:
    from forebay.cli.output import clean, document, say

    if as_json:
        document(described(one))
    else:
        say(clean(said))


def described(one: ScheduleRecord) -> dict[str, Any]:  # any JSON
    """One schedule as a JSON document."""
    from forebay.cli.output import timestamp

    plan, standing = one.plan, one.standing
    latest = one.course.runs[-1] if one.course.runs else None
    return {
        "schedule": one.name, "state": one.state.value, "app": standing.app, "in_code": standing.code is not None,
        "overridden": standing.overridden, "words": one.words, "cron": plan.cron, "zone": plan.zone,
        "every_seconds": None if plan.every is None else plan.every / 1e6, "start": timestamp(plan.start),
        "until": timestamp(plan.until), "jitter_seconds": plan.jitter / 1e6, "catch_up": plan.catch_up.value,
        "overlap": plan.overlap.value, "task": plan.task.name, "queue": plan.task.queue,
        "skips": _skips(one),
        "paused_until": timestamp(standing.until if standing.holds(one.now) else None),
        "next": [timestamp(tick) for tick in one.next()], "waiting": len(one.course.waiting),
        "last": None if latest is None else {"tick": timestamp(latest.tick), "how": latest.how.value},
    }  # fmt: skip


def _skips(one: ScheduleRecord) -> str | None:
    from forebay.cli.output import timestamp

    skip = one.standing.skip
    return None if skip is None or skip <= max(one.now, one.course.fired) else timestamp(skip)


def _run(run: ScheduleRun) -> dict[str, Any]:  # any JSON
    from forebay.cli.output import timestamp

    return {
        "tick": timestamp(run.tick), "at": timestamp(run.at), "how": run.how.value, "id": run.id,
        "state": None if run.record is None else run.record.state.value,
    }  # fmt: skip


def _state(one: ScheduleRecord) -> str:
    return f"{one.state.value}, overridden" if one.standing.overridden else one.state.value


def _last(one: ScheduleRecord) -> str:
    from forebay.cli.output import moment

    return moment(one.course.runs[-1].tick) if one.course.runs else ""


def _tell(one: ScheduleRecord, runs: tuple[ScheduleRun, ...], *, body: bool) -> None:
    from forebay.cli.output import Column, clean, moment, say, span, table
    from forebay.cli.records import LONGEST_SHOWN

    plan, standing = one.plan, one.standing
    say(f"{clean(one.name)}: {clean(one.words)}")
    until = _until(standing.until) if standing.holds(one.now) else ""
    say(f"  state      {_state(one)}{until}")
    if plan.cron is not None:
        say(f"  cron       {clean(plan.cron)}, {clean(plan.zone)}")
    if standing.overridden and standing.code is not None:
        say(f"  in code    {clean(standing.code.words())}")
    say(f"  sends      {clean(plan.task.name)} to queue {clean(plan.task.queue or '')}")
    if body:
        text = clean(plan.task.body.decode("utf-8", "replace")) or "none"
        say(f"  arguments  {text if len(text) <= LONGEST_SHOWN else f'{text[:LONGEST_SHOWN]}...'}")
    say(f"  app        {clean(standing.app)}{'' if standing.code is not None else ', put from a program'}")
    for title, bound in (("start", plan.start), ("until", plan.until)):
        if bound is not None:
            say(f"  {title:<9}  {moment(bound)}")
    say(f"  jitter     {span(plan.jitter) if plan.jitter else 'none'}")
    say(f"  catch up   {plan.catch_up.value}")
    say(
        f"  overlap    {plan.overlap.value}{f', {len(one.course.waiting)} wait' if one.course.waiting else ''}"
    )
    say(f"  next       {', '.join(map(moment, one.next())) or 'none'}")
    if runs:
        say()
        rows = [
            [moment(run.tick), run.how.value, run.record.state.value if run.record else "", run.id or ""]
            for run in runs
        ]
        table([Column("tick"), Column("how"), Column("state"), Column("id")], rows)


def _until(until: Instant | None) -> str:
    from forebay.cli.output import moment

    return "" if until is None else f" until {moment(until)}"
