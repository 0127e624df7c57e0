"""Draws the generated parts of the documents from the code: commands, settings, errors, states. No terminal has a say in it."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from typing import TYPE_CHECKING

import click

import forebay
from forebay.cli.exits import MEANINGS, code_of
from forebay.cli.program import HOMES, program
from forebay.errors import ForebayError
from forebay.model.state import mermaid
from forebay.support.settings import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def states() -> str:
    """The diagram of states."""
    return f"```mermaid\n{mermaid().strip()}\n```"


# -- commands


def commands() -> str:
    """Every command: how it is called, what it does, its options, examples."""
    return "\n\n".join(_command(words, command) for words, command in every_command())


def exits() -> str:
    """The exit codes."""
    rows = [(str(code.value), meaning) for code, meaning in MEANINGS.items()]
    return _table(("code", "meaning"), rows)


def every_command() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """All commands and groups below ``forebay``, depth first, in the order of the help."""
    for name in HOMES:
        command = program.get_command(click.Context(program), name)
        if command is None:
            raise LookupError(name)
        yield from _below((name,), command)


def _below(words: tuple[str, ...], command: click.Command) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if command.hidden:
        return
    yield words, command
    if isinstance(command, click.Group):
        # In the order of the code, which is that of a person's interest, where click would sort them.
        for name, inner in command.commands.items():
            yield from _below((*words, name), inner)


def _command(words: tuple[str, ...], command: click.Command) -> str:
    ctx = _context(words, command)
    name = " ".join(("forebay", *words))
    parts = [f"{'##' if len(words) == 1 else '###'} {name}"]
    if not isinstance(command, click.Group):
        # The usage line, as click gives it, but in one piece.
        parts.append(f"```text\n{name} {' '.join(command.collect_usage_pieces(ctx))}\n```")
    parts += _paragraphs(command.help or "")
    parts += _options(command, ctx)
    parts += _examples(command.epilog or "")
    return "\n\n".join(parts)


def _context(words: tuple[str, ...], command: click.Command) -> click.Context:
    ctx = click.Context(program, info_name="forebay")
    for name in words:
        ctx = click.Context(command, info_name=name, parent=ctx)
    return ctx


def _paragraphs(text: str) -> list[str]:
    """Help as paragraphs: click folds lines, so Markdown may."""
    return [
        " ".join(one.split()) for one in inspect.cleandoc(text).replace("\b", "").split("\n\n") if one.strip()
    ]


def _options(command: click.Command, ctx: click.Context) -> list[str]:
    records = [
        record
        for option in command.params
        if isinstance(option, click.Option) and (record := option.get_help_record(ctx)) is not None
    ]
    return [_table(("option", ""), [(f"`{names}`", text) for names, text in records])] if records else []


def _examples(epilog: str) -> list[str]:
    lines = [line.strip() for line in epilog.replace("\b", "").splitlines()]
    shown = [line for line in lines if line and line.rstrip(":") not in ("Example", "Examples")]
    return ["```console\n" + "\n".join(f"$ {line}" for line in shown) + "\n```"] if shown else []


# -- settings


def settings() -> str:
    """Every setting."""
    rows = [
        (f"`{one.name}`", f"`{one.variable}`", f"`{one.default}`" if one.default else "(empty)", one.help)
        for one in SETTINGS
    ]
    return _table(("setting", "variable", "default", "meaning"), rows)


# -- errors


def errors() -> str:
    """Every error: its code, its class, how the command line ends with it, what it means."""
    rows = []
    for kind in kinds():
        home = "" if kind.__module__ == "forebay.errors" else " (command line)"
        above = kind.__mro__[1].__name__
        under = "" if above in ("Exception", "ForebayError") else f", under `{above}`"
        ending = str(code_of(_one(kind)).value)
        rows.append(
            (f"[`{kind.code}`](#{kind.code})", f"`{kind.__name__}`{under}{home}", ending, _summary(kind))
        )
    return _table(("code", "class", "exit", "meaning"), rows)


def kinds() -> list[type[ForebayError]]:
    """Every class of error this project has, those of the public tree first, wherever they are defined."""
    for module in pkgutil.walk_packages(forebay.__path__, "forebay."):
        if not module.name.endswith("__main__"):
            try:
                importlib.import_module(module.name)
            except ImportError:
                continue  # an engine whose driver is not installed
    found = [kind for kind in _tree(ForebayError) if kind.__module__.partition(".")[0] == "forebay"]
    # Subclasses are known in the order in which modules happen to be imported; those of one module as they are written.
    return sorted(
        found,
        key=lambda kind: (
            ("", "") if kind.__module__ == "forebay.errors" else (kind.__module__, kind.__name__)
        ),
    )


def _tree(kind: type[ForebayError]) -> Iterator[type[ForebayError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _tree(below)


def _one(kind: type[ForebayError]) -> ForebayError:
    """An error of this kind, whatever its constructor asks for."""
    return kind.__new__(kind)


def _summary(kind: type[ForebayError]) -> str:
    """The first paragraph of its docstring."""
    said = inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0]
    return re.sub(r"``([^`]+)``", r"`\1`", " ".join(said.split()))


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
