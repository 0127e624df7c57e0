"""What a connection knows of limits and rules, and how it learns that they are others: by a mark in a row that is read anyway."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from forebay.model.rule import FREE, RULE, Rules, amended, read_override
from forebay.stores.sqlite.session import batch
from forebay.stores.sqlite.tally import Cap

if TYPE_CHECKING:
    from forebay.stores.sqlite.session import Session

_RULES: Final = msgspec.json.Decoder(Rules)


def rules_text(rules: Rules) -> str | None:
    """Rules as they are kept; None for none."""
    return None if rules == FREE else batch(rules)


def catch_up(session: Session, mark: int) -> None:
    """Read the rules anew if they are not those of ``mark``. With or without a lock."""
    if mark != session.caps.rules_mark:
        session.caps.rules, session.caps.rules_mark = known(session), mark


def catch_up_limits(session: Session, mark: int) -> None:
    """The same of the limits. In a write transaction."""
    if mark != session.caps.mark:
        session.caps.by_queue = {
            queue: Cap(most, bool(drops)) for queue, most, drops in session.rows("limits")
        }
        session.caps.mark = mark
        # Whoever was without a limit meanwhile was not counted.
        session.tallies.forget()


def known(session: Session) -> dict[str, Rules]:
    """The rules that hold, by queue. Of a queue that is looked through for a change of its rules, also that it has none any more."""
    return {queue: FREE for (queue,) in session.rows("relining_queues")} | in_force(session)


def in_force(session: Session) -> dict[str, Rules]:
    """The rules by queue: what was said while it ran, over what was declared."""
    declared: dict[str, Rules] = {queue: _RULES.decode(text) for queue, text in session.rows("rules")}
    said: dict[str, bytes] = dict(session.rows("rules_said", {"kind": RULE}))
    whole = {
        queue: amended(declared.get(queue, FREE), read_override(said.get(queue))) for queue in declared | said
    }
    return {queue: rules for queue, rules in whole.items() if rules != FREE}
