"""Writing who told the store what, in the transactions that do it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from forebay.model.query import Steered
from forebay.model.survey import MOST_AUDITED
from forebay.stores.sqlite.session import batch as encoded
from forebay.support.ids import Token, new_token

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebay.stores.face import Told
    from forebay.stores.sqlite.session import Session, Value


@dataclass(frozen=True, slots=True)
class Trail:
    """What one command leaves behind, however many transactions it takes."""

    told: Told
    token: Token = field(default_factory=new_token)

    def whole(self, session: Session, work: Callable[[Session], int]) -> int:
        """Carry out a command that takes one transaction, and says how many it changed."""
        changed = work(session)
        self.write(session, Steered(changed=changed))
        return changed

    def write(self, session: Session, done: Steered) -> None:
        """Say what was done, if it was anything."""
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
