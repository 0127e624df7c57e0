"""Steps of flows that are there for an event: they have succeeded once it has come and nothing else holds them. Runs inside a write
transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.engine import Finished
from forebay.model.message import JSON, EntryId
from forebay.model.saved import event_result
from forebay.stores.sqlite.session import numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.stores.sqlite.session import Session


def come(session: Session, seqs: Sequence[int]) -> None:
    """Those of some steps have succeeded that were released and have the event that they wait for."""
    for entry, body, content_type in session.rows(
        "event_steps", {"entries": numbers(seqs), "now": session.now}
    ):
        happened(session, entry, event_result(body, content_type or JSON))


def happened(session: Session, entry: int, result: bytes | None) -> bool:
    """What a step waited for has happened, and it has succeeded with ``result``; whether it did wait."""
    if not session.change("flow_happened", {"entry": entry, "now": session.now}):
        return False
    ((queue, key),) = session.rows("flow_names", {"entry": entry})
    session.each("settle_kept", [(queue, 1)])
    if result is not None:
        session.each("settle_results", [(entry, result)])
    session.news.add(Finished(frozenset({EntryId(key)})))
    session.stirred = True
    return True
