"""The ``forebay`` command: its subcommands, each imported when it is called, and the wall that turns errors into sentences and codes."""

from __future__ import annotations

import errno
import os
import sys
import threading
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Final, NoReturn

import click

from forebay import __version__
from forebay.cli.exits import Exit, code_of, table
from forebay.cli.output import (
    ReaderGone,
    clean_json,
    hold_streams,
    let_go_of_streams,
    note,
    sentence,
)
from forebay.errors import ForebayError

if TYPE_CHECKING:
    from collections.abc import Sequence

HOMES: Final = {
    "worker": ("forebay.cli.worker", "Work for an App."),
    "dev": ("forebay.cli.dev", "Work for an App while you write it: anew after each change."),
    "send": ("forebay.cli.send", "Send a task by name."),
    "publish": ("forebay.cli.send", "Publish an event to a topic."),
    "task": (
        "forebay.cli.task",
        "list, tail, show, wait, retry, cancel, delete: messages and their stories.",
    ),
    "flow": ("forebay.cli.flow", "list, show, retry, cancel, delete: graphs of steps."),
    "queue": ("forebay.cli.queue", "list, show, pause, resume, set, reset, purge."),
    "schedule": (
        "forebay.cli.schedule",
        "list, show, run, pause, resume, skip, put, reset, remove.",
    ),
    "dead": ("forebay.cli.dead", "list, groups, retry, discard: dead letters."),
    "audit": ("forebay.cli.audit", "Show who told the engine what."),
    "workers": ("forebay.cli.workers", "Show the workers that are there."),
    "top": ("forebay.cli.top", "Watch the queues move."),
    "doctor": ("forebay.cli.doctor", "Look over this installation and say what to do."),
    "bench": ("forebay.cli.bench", "Measure what this machine does."),
    "config": ("forebay.cli.config", "show: every setting, and where it comes from."),
    "demo": ("forebay.cli.demo", "See it at work: two workers, one of them killed."),
    "completion": ("forebay.cli.completion", "Make a shell complete command lines."),
    "version": ("forebay.cli.config", "Show the version."),
}
"""Where each command lives (in a variable of its name), and what help says of it: help itself imports none of them."""


class Lazy(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order of `HOMES`."""
        return list(HOMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One command, imported now."""
        if cmd_name not in HOMES:
            return None
        command = vars(import_module(HOMES[cmd_name][0]))[cmd_name]
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, from `HOMES`."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_home, text) in HOMES.items()])


EPILOG: Final = f"""\b
Start here:
  forebay demo               see it at work, in ten seconds
  forebay worker shop:app    work for the App `app` in shop.py
  forebay task list          what was sent, newest first

\b
Every command takes --help. Those that print data take --json: one document on
stdout; everything else goes to stderr. The engine is --url, else FOREBAY_URL,
else url in [tool.forebay] of pyproject.toml, else sqlite:///forebay.db.

\b
Exit codes:
{table()}
"""


@click.group(
    cls=Lazy,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="forebay %(version)s")
def program() -> None:
    """Tasks and events for services: run workers, send, look and steer."""


LONGEST_END: Final = 5.0
"""Seconds that the interpreter may take to end."""
_UNWRITABLE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns its exit code.

    Errors become a sentence on stderr, with their code behind it, or an object on one line for a command that was told ``--json``.
    ``FOREBAY_DEBUG=1`` lets them through.
    """
    hold_streams()
    stdout = sys.stdout
    try:
        return _run(arguments)
    except (BrokenPipeError, ReaderGone):
        return Exit.PIPE
    except OSError as error:
        # Of what writes to no file by name, as click's help does.
        if error.filename is not None or error.errno not in _UNWRITABLE:
            raise
        note(f"forebay: the output could not be written: {error.strerror}.")
        return Exit.FAILED
    except SystemExit:
        # How click ends when nobody reads its help, with a wrapper in the place of stdout.
        if sys.stdout is stdout:
            raise
        return Exit.PIPE
    finally:
        let_go_of_streams()


def leave(code: int) -> NoReturn:
    """End this process: threads and processes that user code has started, which the interpreter waits for, may hold it for five seconds."""

    def end() -> None:
        threading.Event().wait(LONGEST_END)
        os._exit(code or Exit.STUCK)

    with suppress(RuntimeError):  # there is no room for another thread
        threading.Thread(target=end, name="forebay-end", daemon=True).start()
    sys.exit(code)


def _run(arguments: Sequence[str]) -> int:
    try:
        code = program.main(args=list(arguments), prog_name="forebay", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        refusal = _with_nearest(error)
        if _wants_json(arguments):
            _say_object("usage", refusal.format_message(), refusal.exit_code)
        else:
            with suppress(OSError):
                refusal.show()
        return refusal.exit_code
    except (KeyboardInterrupt, click.Abort):
        note("forebay: interrupted.")
        return Exit.INTERRUPTED
    except ForebayError as error:
        if os.environ.get("FOREBAY_DEBUG"):
            raise
        if _wants_json(arguments):
            _say_object(error.code, str(error), code_of(error))
        else:
            note(f"forebay: {sentence(error)}")
        return code_of(error)
    return code if isinstance(code, int) else Exit.OK


def _with_nearest(error: click.ClickException) -> click.ClickException:
    """With the command that was meant, if one was misspelt: click says it of options only. Without the secret of a URL that went astray."""
    from forebay.support.masking import masked  # not for help

    ctx = error.ctx if isinstance(error, click.UsageError) else None
    if (shown := masked(error.format_message())) != error.format_message():
        return click.UsageError(shown, ctx)
    if ctx is None or not isinstance(ctx.command, click.Group) or "command" not in error.message:
        return error
    import difflib

    written = error.message.rpartition(" ")[2].strip("'.")
    near = difflib.get_close_matches(written, ctx.command.list_commands(ctx), n=1)
    return click.UsageError(f"{error.message} Did you mean {near[0]!r}?", ctx) if near else error


def _wants_json(arguments: Sequence[str]) -> bool:
    """Whether the command line asks for JSON: words behind ``--`` are arguments, whatever they look like."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in options


def _say_object(code: str, message: str, ending: int) -> None:
    import json  # not for help

    from forebay.support.masking import masked

    words = {"error": code, "message": masked(message), "exit": int(ending)}
    note(clean_json(json.dumps(words, ensure_ascii=False)))
