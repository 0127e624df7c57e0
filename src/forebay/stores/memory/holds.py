"""Who holds which unique key: by the state of the holder, or until an instant. The ledger says how the holders stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from forebay.model.unique import UNFINISHED, Conflict

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebay.model.message import EntryId, Message, MessageId
    from forebay.model.state import State
    from forebay.model.when import Instant

Key: TypeAlias = tuple[str, str]
"""A queue, and a unique key in it."""


@dataclass(slots=True)
class Held:
    """A key and its holder, which was the ``seq``-th entry. ``since``: when the first of its series came; ``last``: who changed it last;
    ``gathered``: how many are together, if others join it.
    """

    id: EntryId
    seq: int
    states: frozenset[State]
    until: Instant | None
    since: Instant
    last: MessageId | None = None
    gathered: int | None = None


class Holds:
    """The latest holder of each key, as long as that is of interest. ``state_of``: how an entry stands, None for one that is gone."""

    def __init__(self, state_of: Callable[[EntryId, int], State | None]) -> None:
        self._state_of = state_of
        self._held: dict[Key, Held] = {}

    def latest(self, key: Key) -> Held | None:
        """Who had it last, whether or not it still does."""
        return self._held.get(key)

    def holder(self, key: Key, now: Instant) -> Held | None:
        """Who has it."""
        held = self._held.get(key)
        return held if held is not None and self._holds(held, now) else None

    def _holds(self, held: Held, now: Instant) -> bool:
        if held.until is not None and held.until <= now:
            return False
        state = self._state_of(held.id, held.seq)
        return held.until is not None if state is None else state in held.states

    def take(self, key: Key, held: Held) -> None:
        """Give it to somebody."""
        self._held[key] = held

    def close(self, key: Key) -> None:
        """Nobody joins its holder any more."""
        del self._held[key]

    def forget(self, key: Key, seq: int, now: Instant, *, let_go: bool) -> None:
        """Its holder is about to be forgotten; a window stays, unless it is to ``let_go``."""
        held = self._held.get(key)
        if (
            held is not None
            and held.seq == seq
            and (let_go or held.until is None or not self._holds(held, now))
        ):
            del self._held[key]

    def sweep(self, budget: int, now: Instant) -> int:
        """Drop windows that are over; how many."""
        over = [key for key, held in self._held.items() if held.until is not None and held.until <= now]
        for key in over[:budget]:
            del self._held[key]
        return len(over[:budget])


def held_by(entry: EntryId, seq: int, message: Message, since: Instant) -> Held:
    """How a message that was stored at ``since`` holds its key."""
    hold = message.hold
    window = None if hold is None else hold.window
    return Held(
        entry,
        seq,
        UNFINISHED if hold is None else hold.states,
        None if window is None else since + window,
        since,
        gathered=1 if hold is not None and hold.conflict is Conflict.JOIN else None,
    )
