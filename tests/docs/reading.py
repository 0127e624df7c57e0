"""What stands on the pages: programs, shell sessions, commands in the text."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click

from forebay.cli.program import program

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`(forebay [^`]+)`")
_FILE = re.compile(r"# file: ([a-z_/]+\.py)\n")
_VARIABLES = re.compile(r"^(?:[A-Z_]+=\S* )+")
_SHELL = ("|", "&", ";", "&&", "||", ">", ">>", "2>", "2>&1", "<")


def blocks(text: str, kind: str) -> list[str]:
    """The fenced blocks of one kind, in order."""
    return [body for found, body in _FENCE.findall(text) if found == kind]


def program_of(text: str) -> str:
    """All programs of a page as one, without the files that stand on it."""
    return "\n".join(block for block in blocks(text, "python") if not _FILE.match(block))


def files_of(text: str) -> dict[str, str]:
    """Files that stand on a page: programs with their name on top (``# file: shop/app.py``)."""
    return {found[1]: block for block in blocks(text, "python") if (found := _FILE.match(block))}


def sessions(text: str) -> Iterator[list[str]]:
    """Every ``forebay`` command line of the page's shell sessions, as words without the ``forebay``."""
    for block in blocks(text, "console"):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("$ "):
                yield from _commands(line[2:])


def mentions(text: str) -> Iterator[list[str]]:
    """Every ``forebay`` command line that stands in the text itself."""
    for command in _INLINE.findall(_FENCE.sub("", text)):
        yield from _commands(command)


def _commands(line: str) -> Iterator[list[str]]:
    words: list[str] = []
    lexer = shlex.shlex(_VARIABLES.sub("", line), posix=True, punctuation_chars="|&;<>()")
    lexer.whitespace_split = True
    for word in [*lexer, ";"]:
        if word not in _SHELL:
            words.append(word)
            continue
        if words[:1] == ["forebay"]:
            yield words[1:]
        words = []


def parse(words: list[str], *, whole: bool) -> None:
    """Parse a command line and run nothing. Raises `click.ClickException`. ``whole``: what must be given is given."""
    command: click.Command = program
    ctx = click.Context(program, info_name="forebay")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name, found, words = command.resolve_command(ctx, words)
        if found is None:
            raise click.UsageError(f"there is no command {name}")
        command, ctx = found, click.Context(found, info_name=name, parent=ctx)
    if {"--help", "-h", "--version"} & {*words} or isinstance(command, click.Group):
        return
    command.make_context("forebay", list(words), resilient_parsing=not whole)
