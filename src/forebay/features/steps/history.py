"""What was saved of a message's steps, and which of them a call of this try is. Pure; no waiting, no engine."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from forebay.errors import InvalidOption, StepChanged, StepRefused
from forebay.model.saved import LARGEST_STEP, LARGEST_STEPS, MOST_STEPS, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from forebay.model.saved import SavedStep


class Place(NamedTuple):
    """Which step a call is: its name, its position (0 beside others) and, of an item, the name of its map."""

    name: str
    position: int
    of: str = ""

    def item(self, index: int) -> Place:
        """The step of one item of a map, which stands where the map stands."""
        return Place(f"{self.name}[{index}]", self.position, self.name)


class History:
    """The calls of one try so far, compared with what was saved by tries before it.

    A step is known by its name, with a number from its second call on. Calls one after the other also have a position, counted from 1: it
    shows that the code is still the one that began the message. Beside others there is no order to rely on, so a name serves once there.
    """

    def __init__(self) -> None:
        self._saved: dict[str, SavedStep] = {}
        self._at: dict[int, SavedStep] = {}
        self._calls: Counter[str] = Counter()
        self._beside: set[str] = set()
        self._asked: set[str] = set()
        self._position = 0
        self._size = 0
        self._begun: set[str] = set()

    def load(self, steps: Iterable[SavedStep]) -> None:
        """What tries before this one have saved."""
        for step in steps:
            self._saved[step.name] = step
            self._size += step.size
            if step.position:
                self._at[step.position] = step

    def place(self, name: str, *, beside: bool) -> Place:
        """The place of the next call of ``name``. Raises `InvalidOption` for a second one where calls have no order."""
        self._calls[name] += 1
        number = self._calls[name]
        if beside:
            self._beside.add(name)
        if number > 1 and name in self._beside:
            raise InvalidOption(
                f"Step {name!r} is called {number} times in this try, and beside others: which call is which would be left to chance. "
                "Give each a name of its own, or use ctx.step_map()."
            )
        self._position += not beside
        return Place(name if number == 1 else f"{name}#{number}", 0 if beside else self._position)

    def find(self, place: Place, kind: Kind) -> SavedStep | None:
        """What was saved of this call; None if it is new. Raises `StepChanged` if other code began this message."""
        self._asked.add(place.name)
        saved = self._saved.get(place.name)
        if saved is None:
            if (there := self._other(place)) is not None:
                raise StepChanged(
                    f"as call {place.position}, {there.kind} {there.name!r} was saved, and this code asks for {kind} {place.name!r} there. "
                    + _ADVICE
                )
            return None
        if saved.kind is not kind:
            raise StepChanged(
                f"{place.name!r} was saved as a {saved.kind}, and this code asks for a {kind}. {_ADVICE}"
            )
        if saved.position and place.position and saved.position != place.position:
            raise StepChanged(
                f"{kind} {place.name!r} was saved as call {saved.position}, and this code makes it call {place.position}. {_ADVICE}"
            )
        return saved

    def check_map(self, place: Place, number: int) -> None:
        """Raise `StepChanged` if something else was saved where a map begins, `StepRefused` if it is one of too many items."""
        if number > MOST_STEPS:
            raise StepRefused(
                f"{place.name!r} maps {number:,} items, and a message has {MOST_STEPS:,} steps at most: send a task for each, or for some."
            )
        there = self._at.get(place.position)
        if there is not None and there.name.partition("[")[0] != place.name:
            raise StepChanged(
                f"as call {place.position}, {there.kind} {there.name!r} was saved, and this code maps {place.name!r} there. {_ADVICE}"
            )

    def version(self, name: str) -> tuple[bool, bool]:
        """Whether this message goes the way of ``name``, and whether that was saved before: it did, or nothing was saved that has not been
        asked for yet.
        """
        known = name in self._saved
        left = any(
            step.kind is not Kind.VERSION and step.name not in self._asked for step in self._saved.values()
        )
        return known or not left, known

    def check_room(self, place: Place) -> None:
        """Raise `StepRefused` if there are too many steps already. A step that has begun counts."""
        self._begun.add(place.name)
        if len(self._saved.keys() | self._begun) > MOST_STEPS:
            raise StepRefused(
                f"step {place.name!r} would be one too many: a message has {MOST_STEPS:,} steps at most. "
                "Give parts of the work to messages of their own."
            )

    def check_size(self, step: SavedStep) -> None:
        """Raise `StepRefused` for what is too large, alone or with the others."""
        if step.size > LARGEST_STEP:
            raise StepRefused(
                f"step {step.name!r} came to {step.size:,} bytes, the limit is {LARGEST_STEP:,}. {_ELSEWHERE}"
            )
        if self._size + step.size > LARGEST_STEPS:
            raise StepRefused(
                f"with step {step.name!r} the steps of this message came to {self._size + step.size:,} bytes, the limit is "
                f"{LARGEST_STEPS:,} (an event that is waited for counts {LARGEST_STEP:,}). {_ELSEWHERE}"
            )

    def keep(self, step: SavedStep) -> None:
        """It is saved."""
        self._saved[step.name] = step
        self._size += step.size

    def _other(self, place: Place) -> SavedStep | None:
        there = self._at.get(place.position) if place.position else None
        return None if there is None or (place.of and there.name.startswith(f"{place.of}[")) else there


_ADVICE = (
    "Go on with the code that began it, or put what is new or moved behind 'if await ctx.version(...)'; then retry the message: "
    "what was saved is kept."
)
_ELSEWHERE = "Store it elsewhere and return a reference."
