"""Workers and rates: written in passing, forgotten by the sweep, looked at without a lock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from forebay.model.policy import NAMES_KEPT
from forebay.model.survey import RATES_KEPT, Audit, Presence, Rate, Rates, Survey, Workers, unknown
from forebay.stores.sqlite.rows import audited
from forebay.stores.sqlite.session import batch as encoded
from forebay.stores.sums import minute_of

if TYPE_CHECKING:
    from forebay.stores.sqlite.session import Session, Value

_ALWAYS: Final = (1 << 63) - 1
_PRESENCE: Final = msgspec.json.Decoder(Presence)


def add_up(session: Session) -> None:
    """Write what this transaction did, and what was carried to it, at its end: one row for each minute, queue and name."""
    minute = minute_of(session.now)
    rows: list[tuple[Value, ...]] = [(minute, *place, *sums) for place, sums in session.sums.places.items()]
    rows += [(*place, *sums) for place, sums in session.carried.items()]
    if rows:
        session.each("rate_add", rows)


def want(session: Session) -> bool:
    """Have what was carried written by this transaction."""
    session.sums.wanted = True
    return True


def carry(session: Session) -> None:
    """Leave what this transaction did to the end of another."""
    minute = minute_of(session.now)
    for (queue, name), sums in session.sums.places.items():
        place = (minute, queue, name)
        known = session.carried.get(place)
        session.carried[place] = sums if known is None else [a + b for a, b in zip(known, sums, strict=True)]


def attend(session: Session, worker: str, presence: Presence | None) -> bool:
    """A worker is there, or is gone."""
    if presence is None:
        session.change("presence_end", {"worker": worker})
    else:
        until = session.now + session.options.timing.lease
        said: dict[str, Value] = {
            "worker": worker,
            "now": session.now,
            "until": until,
            "said": encoded(presence),
        }
        session.change("presence_renew", said)
    return True


def survey(session: Session, about: Survey[Any]) -> tuple[Any, ...]:
    """Rows of what is asked about."""
    match about:
        case Workers():
            rows = session.rows("presences", {"now": session.now, "limit": about.most})
            return tuple(
                msgspec.structs.replace(_PRESENCE.decode(said), worker=worker, started=started, seen=seen)
                for worker, said, started, seen in rows
            )
        case Audit(before=before):
            page = {"before": _ALWAYS if before is None else before, "limit": about.most}
            return tuple(map(audited, session.rows("audits", page)))
        case Rates():
            rows = session.rows(
                "rates",
                {
                    "since": about.since,
                    "until": _ALWAYS if about.until is None else about.until,
                    "queue": about.queue,
                    "name": about.name,
                    "limit": about.most,
                },
            )
            return tuple(
                Rate(
                    minute=minute,
                    queue=queue,
                    name=name,
                    arrived=arrived,
                    succeeded=succeeded,
                    failed=failed,
                    dead=dead,
                    ran=ran,
                )
                for minute, queue, name, arrived, succeeded, failed, dead, ran in rows
            )
        case _:
            raise unknown(about)


def look(session: Session) -> bool:
    """Whether there is anything to forget."""
    now = session.now
    old = {"now": now, "before": now - RATES_KEPT, "known": now - NAMES_KEPT}
    return bool(session.row("survey_look", old)[0])


def forget(session: Session, budget: int) -> bool:
    """Forget what is too old; whether there may be more of it."""
    gone = session.change("rate_forget", {"before": session.now - RATES_KEPT, "limit": budget})
    left = session.change("presence_forget", {"now": session.now, "limit": budget})
    known = session.change("known_forget", {"before": session.now - NAMES_KEPT, "limit": budget})
    return budget in (gone, left, known)
