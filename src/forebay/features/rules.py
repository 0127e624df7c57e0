"""What is said of a queue while it runs, over what its code says: kept as a note, so that all processes hold to it at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

import msgspec

from forebay.errors import InvalidOption
from forebay.model.names import check_name
from forebay.model.note import Note, Notes, Revision
from forebay.model.rule import RULE, Override, check_settings, override_of, read_override

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from forebay.engine import Store
    from forebay.model.query import Actor

TRIES: Final = 10
"""How often it is tried where others change the same rule at the same time."""


async def said_of(store: Store, queue: str, *, whatever: bool = False) -> tuple[Override | None, int]:
    """What is said of a queue, and the version of the note that says it. ``whatever``: one that cannot be read says nothing."""
    notes = await store.survey(Notes(kind=RULE, names=(check_name(queue, "queue"),), gone=True))
    note = next(iter(notes), None)
    if note is None or note.body is None:
        return None, 0 if note is None else note.version
    return (
        read_override(note.body) or Override(said={}) if whatever else override_of(note.body)
    ), note.version


async def say(store: Store, queue: str, settings: Mapping[str, object], by: Actor) -> bool:
    """Say settings of a queue, whatever else is said of it; whether that changed anything. Raises `InvalidOption`."""
    check_settings(settings)
    words = " ".join(f"{name}={value}" for name, value in settings.items())
    return await _change(store, queue, lambda said: {**said, **settings}, by, f"set {words}")


async def unsay(store: Store, queue: str, names: tuple[str, ...], by: Actor) -> bool:
    """Say settings no longer, all if none is named, and then whatever they are; whether that changed anything. Raises `InvalidOption`."""
    check_settings(dict.fromkeys(set(names) - {"ordered", "fair"}))
    words = " ".join(("reset", *names))
    return await _change(
        store,
        queue,
        lambda said: {n: v for n, v in said.items() if names and n not in names},
        by,
        words,
        whatever=not names,
    )


def _is_new(name: str, now: Mapping[str, object], before: Mapping[str, object]) -> bool:
    return name not in before or now[name] != before[name]


async def _change(
    store: Store,
    queue: str,
    change: Callable[[Mapping[str, object]], Mapping[str, object]],
    by: Actor,
    words: str,
    *,
    whatever: bool = False,
) -> bool:
    for _ in range(TRIES):
        known, version = await said_of(store, queue, whatever=whatever)
        before, whose = ({}, {}) if known is None else (known.said, known.whose)
        if (now := dict(change(before))) == before and (now or known is None):
            return False
        at = (await store.count()).now
        said = cast("dict[str, str | int | bool | dict[str, int] | None]", now)
        whose = {
            name: (by.name, at) if _is_new(name, now, before) else whose.get(name, ("", 0)) for name in now
        }
        body = msgspec.json.encode(Override(said=said, whose=whose)) if now else None
        note = Note(kind=RULE, name=queue, body=body, version=version)
        (answer,) = await store.note([Revision(note, what=words[:200])], by=by)
        if answer.taken:
            return True
    raise InvalidOption(
        f"The rule of queue {queue!r} is changed by others again and again: look at it, and try again later."
    )
