"""What goes to stdout: tables, JSON documents, plain lines. Colours only for a person at a terminal."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, TextIO, TypedDict

import click

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from forebay.errors import ForebayError
    from forebay.model.when import Instant, Micros


class Style(TypedDict, total=False):
    """What `click.style` is told."""

    fg: str
    bold: bool
    dim: bool


STYLES: Final[Mapping[str, Style]] = MappingProxyType(
    {
        "ready": {"fg": "cyan"},
        "running": {"fg": "blue", "bold": True},
        "scheduled": {"fg": "magenta"},
        "blocked": {"fg": "magenta"},
        "retrying": {"fg": "yellow"},
        "succeeded": {"fg": "green"},
        "dead": {"fg": "red", "bold": True},
        "cancelled": {"dim": True},
        "expired": {"dim": True},
        "paused": {"fg": "yellow"},
    }
)
"""How the words look that deserve it, wherever they stand in a table."""
SHORTEST_CUT: Final = 16
"""What is left of a column that is cut, however narrow the terminal."""


class ReaderGone(Exception):
    """Whoever read our output has stopped reading, or never did: there is nobody left to talk to."""


@dataclass(frozen=True, slots=True)
class Column:
    """A heading. ``right``: numbers. ``elastic``: may be cut to fit a terminal; only the last can be."""

    title: str
    right: bool = False
    elastic: bool = False


def say(text: str = "") -> None:
    """One line, or several, of data. Raises `ReaderGone`, and `OSError` if there is no room for it."""
    try:
        click.echo(text)
    except BrokenPipeError as error:
        raise ReaderGone from error


def note(text: str) -> None:
    """One line for the person, on stderr, if that can be written."""
    with suppress(OSError):
        click.echo(text, err=True)


def hold_streams() -> None:
    """Put something behind standard streams that this process was started without: the next file or socket to be opened would take the
    place of a closed one, and be taken for it. What is written to a stdout that is closed still has no reader.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    sys.stdin, sys.stdout, sys.stderr = (
        sys.stdin or nowhere("r"),
        sys.stdout or Unread(),
        sys.stderr or nowhere(),
    )


class Unread(StringIO):
    """In the place of a stdout that is closed: as one whose reader has left."""

    def write(self, text: str) -> int:
        """Raise `BrokenPipeError`."""
        raise BrokenPipeError(errno.EPIPE, f"nobody reads these {len(text)} characters")


def nowhere(mode: Literal["r", "w"] = "w") -> TextIO:
    """A stream in the place of one that is closed."""
    return Path(os.devnull).open(mode, encoding="utf-8")


def let_go_of_streams() -> None:
    """What could not be written is not to be tried again when the interpreter ends: that would change the exit code."""
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except (OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)


def sentence(error: ForebayError) -> str:
    r"""An error for the person, its code at the end of the first line.

    >>> from forebay.errors import ForebayError
    >>> sentence(ForebayError("No luck.\nTry again."))
    'No luck.  [forebay-error]\nTry again.'
    """
    from forebay.support.masking import masked  # not for help

    first, newline, rest = clean_lines(masked(str(error))).partition("\n")
    return f"{first}  [{error.code}]{newline}{rest}"


def document(value: object) -> None:
    """One JSON document."""
    import msgspec  # not for help

    say(clean_json(msgspec.json.format(msgspec.json.encode(value), indent=2).decode()))


def json_line(value: object) -> None:
    """One JSON document on one line, of which more may follow."""
    import msgspec  # not for help

    say(clean_json(msgspec.json.encode(value).decode()))


def table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """Aligned columns, two spaces apart. On a terminal with colours, and the elastic column, which is the last, cut to fit."""
    cells = [[clean(cell) for cell in row] for row in rows]
    lines = [[column.title for column in columns], *cells]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    colourful = is_colourful()
    if columns[-1].elastic and sys.stdout.isatty():
        room = shutil.get_terminal_size().columns - sum(widths[:-1]) - 2 * (len(columns) - 1)
        widths[-1] = max(room, SHORTEST_CUT)
    for number, line in enumerate(lines):
        padded = [_fitted(*place) for place in zip(line, widths, columns, strict=True)]
        if colourful:
            padded = [click.style(text, bold=True) if number == 0 else _coloured(text) for text in padded]
        say("  ".join(padded).rstrip())


def is_colourful() -> bool:
    """Whether stdout is a terminal whose user has not asked for plain text (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def clean(text: str) -> str:
    """Text on one line, with nothing in it that a terminal would obey: control characters are shown, not sent."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def clean_lines(text: str) -> str:
    """`clean`, line by line."""
    return "\n".join(clean(line.expandtabs(4)) for line in text.splitlines())


def clean_json(text: str) -> str:
    r"""The same JSON, with escapes for what a terminal would obey: JSON itself demands them only below U+0020.

    >>> clean_json('{"note": "é\x9b2J"}')
    '{"note": "é\\u009b2J"}'
    """
    if text.isascii() and "\x7f" not in text:
        return text
    return "".join(c if c.isprintable() or c == "\n" else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def moment(when: Instant | None) -> str:
    """An instant for people, in UTC to the second."""
    from forebay.model.when import as_datetime  # not for help

    return "" if when is None else f"{as_datetime(when).replace(tzinfo=None).isoformat(' ', 'seconds')}Z"


def timestamp(when: Instant | None) -> str | None:
    """An instant for programs: RFC 3339 in UTC to the microsecond."""
    from forebay.model.when import as_datetime  # not for help

    return (
        None
        if when is None
        else f"{as_datetime(when).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"
    )


def span(micros: Micros) -> str:
    """A duration for people, to two units at most.

    >>> span(90_000_000), span(1_500), span(2_340_000), span(93_600_000_000)
    ('1m30s', '1.5ms', '2.34s', '1d2h')
    """
    if micros < 60_000_000:
        unit, number = ("ms", micros / 1_000) if micros < 1_000_000 else ("s", micros / 1_000_000)
        return f"{round(number, 2 if number < 10 else 1 if number < 100 else 0):g}{unit}"
    left = micros // 1_000_000
    parts: list[tuple[int, str]] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        if left >= size or parts:
            parts.append((left // size, unit))
            left %= size
    return "".join(f"{n}{unit}" for n, unit in parts[:2] if n)


def counted(number: int, noun: str) -> str:
    """A number and its noun.

    >>> counted(1, "task"), counted(2_500, "task")
    ('1 task', '2,500 tasks')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _fitted(cell: str, width: int, column: Column) -> str:
    if column.elastic and len(cell) > width:
        return f"{cell[: width - 3]}..."
    if column.elastic:
        return cell
    return cell.rjust(width) if column.right else cell.ljust(width)


def _coloured(cell: str) -> str:
    word = cell.strip()
    return click.style(cell, **STYLES[word]) if word in STYLES else cell
