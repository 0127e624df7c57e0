"""Notes: small definitions that all processes of a store share, such as schedules; and the question for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from forebay.errors import InvalidOption
from forebay.model.message import Message
from forebay.model.names import check_name
from forebay.model.query import LONGEST_PAGE, Edit
from forebay.model.rule import RULE, override_of
from forebay.model.survey import Survey
from forebay.model.when import SECOND, Micros

if TYPE_CHECKING:
    from collections.abc import Sequence

LONGEST_NOTE: Final = 65_536
"""Bytes of one note."""
MOST_NOTES: Final = 100_000
"""Notes of one kind."""
MOST_REVISED: Final = 1_000
"""Notes, and messages that go with them, in one call."""
GONE_KEPT: Final[Micros] = 86_400 * SECOND
"""How long it is told that a note was deleted."""


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """A small definition. ``body``: JSON, at most 64 KiB; None where there is none, or no longer. ``version``: a number that
    grows with each change of a note of this kind; 0 where there never was one, as far as is remembered. Raises `InvalidName` or
    `InvalidOption`.

    >>> Note(kind="queue", name="mail", body=b'{"rate":"50/s"}').version
    0
    """

    kind: str
    name: str
    body: bytes | None
    version: int = 0

    def __post_init__(self) -> None:
        check_name(self.kind, "kind of note")
        check_name(self.name, "note")
        if self.body is not None and len(self.body) > LONGEST_NOTE:
            raise InvalidOption(
                f"The {self.kind} {self.name!r} takes {len(self.body):,} bytes, and {LONGEST_NOTE:,} are the most: "
                "keep what is large elsewhere and refer to it."
            )


class Revision(msgspec.Struct, frozen=True):
    """What a note is to say from now on (None: it is deleted), if what stands still has its version. ``then``: messages that are stored in
    the same transaction if and only if it is changed, whatever the limits of their queues. ``given``: it is changed only if
    this other note, as it was read, stands too. ``what``: a word for the audit, which a change without one is
    not noted in; there it is said of ``given``, if there is one.
    """

    note: Note
    then: tuple[Message, ...] = ()
    given: Note | None = None
    what: str = ""


class Revised(msgspec.Struct, frozen=True):
    """The answer to one revision. ``note``: what stands now; ``taken``: it is what was asked for; ``changed``: it was not before, and what
    goes with it has been stored.
    """

    note: Note
    taken: bool
    changed: bool


class Notes(Survey[Note], frozen=True, kw_only=True):
    """Notes of a kind, in the order in which they were changed last, a thousand at most. ``names``: only these, a thousand at most.
    ``since``: only what has a greater version, so that the last version of one answer asks for what follows. ``gone``: what was deleted in
    the last day too.
    """

    kind: str
    names: tuple[str, ...] = ()
    since: int = 0
    gone: bool = False

    def __post_init__(self) -> None:
        if len(self.names) > LONGEST_PAGE:
            raise InvalidOption(
                f"Notes(names=...) takes {LONGEST_PAGE:,} names, not {len(self.names):,}: ask several times."
            )

    @property
    def most(self) -> int:
        """How many notes the answer may have."""
        return max(1, min(self.limit, LONGEST_PAGE))


def audited(batch: Sequence[Revision], answers: Sequence[Revised]) -> list[Edit]:
    """What of a batch is for the audit."""
    return [
        _edit(one.given or one.note, one.what)
        for one, answer in zip(batch, answers, strict=True)
        if answer.changed and one.what
    ]


def _edit(note: Note, what: str) -> Edit:
    return Edit(note.kind, note.name, what)


def check_revisions(batch: Sequence[Revision]) -> None:
    """Raise `InvalidOption` for more than one call may change, and for a rule of a queue that cannot hold."""
    for one in batch:
        if one.note.kind == RULE:
            override_of(one.note.body)
    if max(len(batch), sum(len(one.then) for one in batch)) > MOST_REVISED:
        raise InvalidOption(
            f"One call changes {MOST_REVISED:,} notes, and stores as many messages with them: make several of it."
        )
