"""``forebay send`` and ``forebay publish``: tasks by name and events, without the code that handles them."""

from __future__ import annotations

import re
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from forebay.cli import options
from forebay.errors import InvalidOption, MessageTooLarge, OutcomeUnknown, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    import msgspec

    from forebay.app import App
    from forebay.compose import EventOptions

LARGEST: Final = 64 << 20
"""Bytes read of a file or of stdin: no engine takes a larger body."""

SHARED: Final = (
    click.option("--id", metavar="ID", help="Its id, so that repeating the command sends nothing twice."),
    click.option("--key", metavar="KEY", help="The key that orders or partitions it."),
    click.option("--header", "headers", multiple=True, metavar="K=V", help="A header; may be repeated."),
    click.option("--delay", metavar="WHEN", help="Not before: 90s, 5m, 1h30m, or 2030-01-31T08:00:00Z."),
    click.option("--expires", metavar="WHEN", help="Drop it if it has not started by then."),
    click.option("--priority", type=int, metavar="0..9", help="Higher first; default 4."),
    click.option("--create", is_flag=True, help="Create the database file if there is none."),
)


def shared(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of whatever sends."""
    for option in reversed(SHARED):
        command = option(command)
    return command


@click.command(
    epilog=options.examples(
        "forebay send send_receipt 7 ada@example.org --queue mail",
        "forebay send report --kw year=2030 --delay 1h --unique report-2030",
    )
)
@click.argument("name", metavar="NAME")
@click.argument("arguments", metavar="[ARG]...", nargs=-1)
@click.option("--kw", "keywords", multiple=True, metavar="K=V", help="An argument by name; may be repeated.")
@click.option(
    "--queue", default="default", show_default=True, metavar="QUEUE", help="Where its workers take from."
)
@click.option(
    "--unique", metavar="KEY", help="Send nothing while an unfinished task of the queue has this key."
)
@shared
@options.as_json
@options.url
def send(  # noqa: PLR0913  # one parameter for each option
    *,
    name: str,
    arguments: tuple[str, ...],
    keywords: tuple[str, ...],
    queue: str,
    unique: str | None,
    id: str | None,
    key: str | None,
    headers: tuple[str, ...],
    delay: str | None,
    expires: str | None,
    priority: int | None,
    create: bool,
    as_json: bool,
    url: str | None,
) -> None:
    """Send a task by NAME and print its id.

    An ARG that is JSON is sent as that (7, true, [1, 2], '"7"'), any other as text. Put -- before one that begins with a dash.
    """
    from forebay.cli.output import document, note, say
    from forebay.cli.queue import unworked

    given = _options(id=id, key=key, headers=headers, delay=delay, expires=expires, priority=priority)
    if unique is not None:
        given["unique"] = unique
    args = [value(text) for text in arguments]
    named = {one: value(text) for one, text in pairs(keywords, "--kw")}
    with _sending(url, given, create=create) as app:
        handle = app.named(name, queue).options(**given).send_sync(*args, **named)
        alone = "" if as_json else unworked(app, queue)
    if as_json:
        document({"id": handle.id, "duplicate": handle.duplicate})
        return
    say(handle.id)
    if handle.duplicate:
        note("forebay: it was there already; nothing was sent.")
    elif alone:
        note(alone)


@click.command(
    epilog=options.examples(
        'forebay publish orders.placed \'{"id": 7, "total": "19.90"}\' --key 7',
        "forebay publish photos.taken @photo.jpg --raw",
    )
)
@click.argument("topic", metavar="TOPIC")
@click.argument("event", metavar="EVENT")
@click.option("--raw", is_flag=True, help="The bytes are not JSON: publish them as they are.")
@shared
@options.as_json
@options.url
def publish(  # noqa: PLR0913  # one parameter for each option
    *,
    topic: str,
    event: str,
    raw: bool,
    id: str | None,
    key: str | None,
    headers: tuple[str, ...],
    delay: str | None,
    expires: str | None,
    priority: int | None,
    create: bool,
    as_json: bool,
    url: str | None,
) -> None:
    """Publish an EVENT to a TOPIC: print its id and how many groups have a copy.

    EVENT is JSON, @FILE that holds it, or - for stdin.
    """
    from forebay.cli.output import document, note, say

    given = _options(id=id, key=key, headers=headers, delay=delay, expires=expires, priority=priority)
    body = _event(event, raw=raw)
    with _sending(url, given, create=create) as app:
        answer = app.publish_sync(topic, body, **given)
    duplicate = answer.status.value == "duplicate"
    if as_json:
        document(
            {"id": answer.id, "groups": answer.groups, "awaited": answer.awaited, "duplicate": duplicate}
        )
        return
    say(f"{answer.id}" if answer.groups is None else f"{answer.id} groups={answer.groups}")
    if duplicate:
        note("forebay: it was there already; nothing was published.")
    elif answer.groups == 0 and answer.awaited:
        note(
            f"forebay: no group is subscribed to {topic}: what waited for this event has it, and nobody else."
        )
    elif answer.groups == 0:
        note(
            f"forebay: no group is subscribed to {topic}: nothing was kept. Subscriptions are made when their worker first starts."
        )


@contextmanager
def _sending(url: str | None, given: EventOptions, *, create: bool) -> Iterator[App]:
    """An open App. The message has an id before it is sent, so that whoever does not learn the outcome can repeat the command."""
    from forebay.cli.loading import opened
    from forebay.support.ids import Ids

    key = given.setdefault("id", Ids().message())
    try:
        with opened(url, create=create) as app:
            yield app
    except OutcomeUnknown as error:
        raise OutcomeUnknown(
            f"{error} Repeat the command with --id {key}: if it was stored, it is not stored twice."
        ) from error


def _options(  # one parameter for each option
    *,
    id: str | None,
    key: str | None,
    headers: tuple[str, ...],
    delay: str | None,
    expires: str | None,
    priority: int | None,
) -> EventOptions:
    given: EventOptions = {}
    if id is not None:
        given["id"] = id
    if key is not None:
        given["key"] = key
    if headers:
        given["headers"] = dict(pairs(headers, "--header"))
    if delay is not None:
        given["delay"] = when(delay, "--delay")
    if expires is not None:
        given["expires"] = when(expires, "--expires")
    if priority is not None:
        given["priority"] = priority
    return given


def pairs(texts: tuple[str, ...], option: str) -> Iterator[tuple[str, str]]:
    """Names and values. Raises `InvalidOption`."""
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise InvalidOption(f"{option} takes NAME=VALUE, not {text!r}.")
        yield name, value


def value(text: str) -> object:
    """JSON where it is JSON, else the text itself. Raises `InvalidOption` for a number that nothing holds."""
    import msgspec  # not for help

    try:
        return msgspec.json.decode(text)
    except msgspec.ValidationError as error:
        raise InvalidOption(
            f"{quoted(text)} holds a number that cannot be sent: {error}. To send it as text, put it into quotes of its own ('\"1e999\"')."
        ) from error
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return text


def when(text: str, option: str) -> str | datetime:
    """A duration, or a moment if it begins like a date."""
    from datetime import datetime

    if not _DATE.match(text):
        return text
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidOption(
            f"{option} {text!r} is no time: {error}. Write 2030-01-31T08:00:00Z, or a duration such as 5m."
        ) from error


def _event(text: str, *, raw: bool) -> bytes | msgspec.Raw:
    """The event, byte for byte as it was given. Raises `InvalidOption` if it should be JSON and is not."""
    import msgspec  # not for help

    body = _read(text)
    if raw:
        return body
    if len(body) > LARGEST:
        raise MessageTooLarge(
            f"The event has more than {LARGEST} bytes, which is more than any engine takes."
        )
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidOption(
            f"The event is not JSON: {error}. Put text into quotes of its own ('\"text\"'), or publish bytes as they are with --raw."
        ) from error
    return msgspec.Raw(body)


def _read(text: str) -> bytes:
    if text == "-":
        return sys.stdin.buffer.read(LARGEST + 1)
    if not text.startswith("@"):
        return text.encode("utf-8", "surrogateescape")
    try:
        with Path(text[1:]).open("rb") as file:
            return file.read(LARGEST + 1)
    except OSError as error:
        raise InvalidOption(f"{text[1:]} cannot be read: {error.strerror}.") from error


_DATE: Final = re.compile(r"\d{4}-\d\d")
