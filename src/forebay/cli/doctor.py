"""``forebay doctor``: looks over an installation and says what to do about what is not well."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import click

from forebay.cli import options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from forebay.cli.exits import Exit
    from forebay.model.checkup import Finding

STYLES: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {"ok": {"fg": "green"}, "warn": {"fg": "yellow"}, "fail": {"fg": "red", "bold": True}, "skipped": {"dim": True}}
)  # fmt: skip


@click.command(
    epilog=options.examples(
        "forebay doctor",
        "forebay doctor shop:app",
        "forebay doctor --json | jq -r '.checks[] | select(.status == \"fail\") | .name'",
    )
)
@click.argument("app", metavar="[APP]", required=False)
@options.include
@click.option("--deep", is_flag=True, help="Read the whole store, however long that takes.")
@options.as_json
@options.url
def doctor(*, app: str | None, include: tuple[str, ...], deep: bool, as_json: bool, url: str | None) -> Exit:
    """Look over this installation.

    Its settings, its engine, its queues; with APP (module:attribute) also whether each queue has a handler there.

    Each check is ok, warn, fail or skipped, with a line on what to do. Ends with 1 if one failed, with 0 otherwise. What is
    stored is not changed.
    """
    from forebay.cli.checks import look_over
    from forebay.cli.exits import Exit
    from forebay.cli.output import document
    from forebay.errors import InvalidOption
    from forebay.model.checkup import Grade

    if app is not None and url is not None:
        raise InvalidOption("APP brings its own engine: leave out either APP or --url.")
    found = look_over(app, url, include, deep=deep)
    if as_json:
        document(_document(found))
    else:
        _print(found)
    return Exit.FAILED if any(one.grade is Grade.FAIL for one in found) else Exit.OK


def _counts(found: Sequence[Finding]) -> dict[str, int]:
    from forebay.model.checkup import Grade

    return {grade.value: sum(one.grade is grade for one in found) for grade in Grade}


def _document(found: Sequence[Finding]) -> dict[str, Any]:  # any JSON
    checks = [
        {"name": one.name, "status": one.grade.value, "text": one.text, "fix": one.fix or None}
        for one in found
    ]
    return {"counts": _counts(found), "checks": checks}


def _print(found: Sequence[Finding]) -> None:
    from forebay.cli.output import clean_lines, is_colourful, say

    colourful = is_colourful()
    for one in found:
        grade = f"{one.grade.value:<7}"
        shown = click.style(grade, **STYLES[one.grade.value]) if colourful else grade
        first, *rest = clean_lines(one.text).splitlines() or [""]
        say(f"{shown}  {one.name:<12}  {first}")
        for line in rest:
            say(f"{'':23}{line}")
        if one.fix:
            say(f"{'':23}-> {clean_lines(one.fix)}")
    say(", ".join(f"{number} {grade}" for grade, number in _counts(found).items()))
