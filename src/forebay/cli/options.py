"""Options that several commands share, so that they are spelled and explained in one way."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from forebay.model.state import FINISHED, State

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebay.model.query import Selector

F = TypeVar("F", bound="Callable[..., Any]")

STATES: Final = [state.value for state in State]
ENDED: Final = [state.value for state in State if state in FINISHED]

url = click.option("--url", metavar="URL", help="The engine. Default: setting url (see forebay config show).")
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
yes = click.option("--yes", "-y", is_flag=True, help="Do not ask.")
no_body = click.option("--no-body", is_flag=True, help="Leave out bodies and results.")
queue = click.option("--queue", metavar="QUEUE", help="Only of this queue.")
name = click.option("--name", metavar="NAME", help="Only with this task or handler name.")
states = click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(STATES),
    metavar="STATE",
    help=f"Only in this state; may be repeated: {', '.join(STATES)}.",
)
ended = click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(ENDED),
    metavar="STATE",
    help=f"Only what ends so; may be repeated: {', '.join(ENDED)}.",
)
key = click.option("--key", metavar="KEY", help="Only what was sent with this key.")
flow = click.option("--flow", metavar="FLOW", help="Only the steps of this flow.")
error = click.option("--error", metavar="TYPE", help="Only what failed last of this type of exception.")
fingerprint = click.option(
    "--fingerprint", metavar="HEX", help="Only what failed last of this very fault (see forebay dead groups)."
)
sent_within = click.option(
    "--sent-within", metavar="TIME", help="Only what was sent no longer ago than this: 15m, 2h."
)
ended_within = click.option("--ended-within", metavar="TIME", help="Only what ended no longer ago than this.")
worker = click.option("--worker", metavar="WORKER", help="Only what this worker is at work on.")
as_json_lines = click.option("--json", "as_json", is_flag=True, help="Print one JSON document a line.")
include = click.option(
    "--include",
    multiple=True,
    metavar="MODULE",
    help="Import this module as well: it declares handlers of APP. May be repeated; shop.*.tasks stands for one in each package.",
)
cursor = click.option("--cursor", metavar="CURSOR", help="Go on where a page before this one ended.")


every = click.option("--all", "every", is_flag=True, help="All dead letters of the engine.")
dry_run = click.option("--dry-run", is_flag=True, help="Only show what would be touched.")
most = click.option(
    "--max",
    "most",
    type=click.IntRange(min=1),
    metavar="N",
    help="Touch nothing if that would be more than N.",
)
watch = click.option(
    "--watch",
    is_flag=False,
    flag_value="2s",
    metavar="[TIME]",
    help="Look again every 2 s, or every TIME, until q or Ctrl-C.",
)


def manner(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say how a command touches messages; the command is given them as its ``manner``."""

    @yes
    @dry_run
    @most
    @as_json
    @wraps(command)
    def told(*, yes: bool, dry_run: bool, most: int | None, as_json: bool, **others: Any) -> Any:
        from forebay.cli.touch import Manner  # not for help

        return command(manner=Manner(yes=yes, dry_run=dry_run, most=most, as_json=as_json), **others)

    return told


def selects(*others: Callable[[Any], Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options that say which messages, and ``others`` of them; the command is given them as its ``which``."""

    def around(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def told(**given: Any) -> Any:
            return command(which=_selector(given), **given)

        for option in reversed(
            (queue, *others, name, key, flow, error, fingerprint, sent_within, ended_within)
        ):
            told = option(told)
        return told

    return around


def _selector(given: dict[str, Any]) -> Selector:
    """What the options among ``given`` select; they are taken out. Raises `InvalidName` for a name outside the grammar."""
    from forebay.model.names import check_name  # not for help
    from forebay.model.query import Selector
    from forebay.model.when import micros
    from forebay.support.clock import SystemClock

    for what in ("queue", "name"):
        if given[what] is not None:
            check_name(given[what], what)
    said: dict[str, Any] = {
        word: given.pop(word) for word in ("queue", "name", "key", "flow", "error", "fingerprint")
    }
    now = SystemClock().now()
    for word, bound in (("sent_within", "created_since"), ("ended_within", "finished_since")):
        if (span := given.pop(word)) is not None:
            said[bound] = now - micros(span, f"--{word.replace('_', '-')}")
    chosen = frozenset(State(state) for state in given.pop("states", ()))
    return Selector(**said, states=chosen, worker=given.pop("worker", None))


def none(command: F) -> F:
    """No option at all."""
    return command


def limit(default: int | None, text: str) -> Callable[[F], F]:
    """``--limit N``."""
    return click.option(
        "--limit",
        type=click.IntRange(min=1),
        default=default,
        show_default=default is not None,
        metavar="N",
        help=text,
    )


def examples(*lines: str) -> str:
    """What stands below a command's options in its help. The backspace keeps click from folding the lines."""
    return "\n".join(("\b", "Examples:" if len(lines) > 1 else "Example:", *(f"  {line}" for line in lines)))
