"""Writing who told the store what, in the transactions that do it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from forebay.model.query import Actor, Command, Selector, Steered
from forebay.model.survey import MOST_AUDITED, Audited
from forebay.stores.sqlite.session import batch as encoded
from forebay.support.ids import Token, new_token

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebay.stores.face import Told
    from forebay.stores.sqlite.session import Row, Session, Value
    from forebay.stores.sqlite.steer import Order, Step

_ACTOR: Final = msgspec.json.Decoder(Actor)
_COMMAND: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder(Command)
_SELECTOR: Final = msgspec.json.Decoder(Selector)
_STEERED: Final = msgspec.json.Decoder(Steered)


@dataclass(frozen=True, slots=True)
class Trail:
    """What one command leaves behind, however many transactions it takes."""

    told: Told
    token: Token = field(default_factory=new_token)

    def whole(self, session: Session, work: Callable[[Session], int]) -> int:
        """Carry out a command that takes one transaction, and says how many it changed."""
        changed = work(session)
        self._write(session, Steered(changed=changed))
        return changed

    def part(self, session: Session, order: Order, before: Steered) -> Step:
        """Carry out a part of one that takes several. ``before``: what was done in those that are over."""
        step = order.work(session)
        self._write(session, before + step.done)
        return step

    def _write(self, session: Session, done: Steered) -> None:
        if not done.touched:
            return
        row: dict[str, Value] = {
            "token": self.token,
            "now": session.now,
            "actor": encoded(self.told.by),
            "command": encoded(self.told.command),
            "which": encoded(self.told.which),
            "done": encoded(done),
        }
        session.change("audit_write", row)
        session.change("audit_trim", {"most": MOST_AUDITED})


def audited(row: Row) -> Audited:
    """A row of `audits` as a value."""
    number, at, actor, command, which, done = row
    return Audited(
        number=number,
        at=at,
        by=_ACTOR.decode(actor),
        command=_COMMAND.decode(command),
        which=_SELECTOR.decode(which),
        done=_STEERED.decode(done),
    )
