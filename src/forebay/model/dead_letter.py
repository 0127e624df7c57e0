"""What is told of a message that will not be tried again."""

from __future__ import annotations

import msgspec

from forebay.model.message import EntryId, Message
from forebay.model.verdict import Failure, Reason


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A message as it was after its last try, for the hooks of ``App.on_dead``. ``queue`` is where it was taken from; ``attempts`` and
    ``crashes`` count the last try. Its arguments are JSON in ``message.body``.
    """

    id: EntryId
    queue: str
    message: Message
    reason: Reason
    error: Failure | None
    attempts: int
    crashes: int

    @property
    def name(self) -> str:
        """The name of the task, or of the event."""
        return self.message.name
