"""Which queues there are, with which limits and rules: as declared, and as was said while they ran."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from forebay.model.rule import FREE, Override, amended
from forebay.model.state import FINISHED, WAITING
from forebay.stores.memory.entry import Level

if TYPE_CHECKING:
    from forebay.engine import Source
    from forebay.stores.memory.ledger import Ledger

KEPT: Final = Override(said={})
"""What was said of a queue before."""


def bind(ledger: Ledger, source: Source) -> None:
    """What was said last of a queue holds."""
    known = ledger.bindings.get(source.queue)
    if source.loose and known is not None:
        source = replace(source, pattern=known.pattern, group=known.group)
    ledger.bindings[source.queue] = source
    rule(ledger, source.queue)
    if source.limit is None:
        ledger.levels.pop(source.queue, None)
        return
    level = ledger.levels.get(source.queue)
    waiting = _waiting(ledger, source.queue) if level is None else level.waiting
    ledger.levels[source.queue] = made = Level(source.limit, source.drops_expired, waiting)
    if level is not None:
        made.finished.extend(level.finished)


def rule(ledger: Ledger, queue: str, override: Override | None = KEPT) -> None:
    """What is said of a queue while it runs, over what was declared, holds from now on, for those that are there too."""
    if override is None:
        ledger.said.pop(queue, None)
    elif override is not KEPT:
        ledger.said[queue] = override
    source = ledger.bindings.get(queue)
    rules = amended(FREE if source is None else source.rules, ledger.said.get(queue))
    if ledger.lines.rules.get(queue, FREE) == rules:
        return
    live = [e for e in ledger.entries.values() if e.queue == queue and e.state not in FINISHED]
    ledger.lines.declare(queue, rules, live)
    ledger.late.pop(queue, None)
    if rules != FREE:
        ledger.late[queue] = sorted((e.expires, e.seq, e.id) for e in live if e.expires is not None)


def _waiting(ledger: Ledger, queue: str) -> int:
    return sum(e.queue == queue and e.state in WAITING for e in ledger.entries.values())
