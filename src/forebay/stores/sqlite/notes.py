"""Notes as rows. What may be changed is decided by the half that all stores share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forebay.engine import Noted
from forebay.model.note import GONE_KEPT, Note, audited
from forebay.model.query import Selector, Steered
from forebay.model.rule import RULE
from forebay.stores.face import Told
from forebay.stores.notes import Board
from forebay.stores.sqlite import lines, publish
from forebay.stores.sqlite.audit import Trail
from forebay.stores.sqlite.rules import known
from forebay.stores.sqlite.session import batch as encoded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forebay.model.note import Notes, Revised, Revision
    from forebay.model.query import Actor
    from forebay.stores.sqlite.session import Session


def look(session: Session, batch: Sequence[Revision]) -> list[Revised] | None:
    """The answers, if nothing is to be changed: found without a lock."""
    board = _board(session, batch)
    answers = [board.revise(revision) for revision in batch]
    return None if board.changed else answers


def revise(session: Session, batch: Sequence[Revision], by: Actor) -> list[Revised]:
    """Change notes, and store what goes with those that are changed."""
    board = _board(session, batch)
    answers = [board.revise(revision) for revision in batch]
    rules = known(session) if any(note.kind == RULE for note in board.changed) else None
    session.each("note_write", [(n.kind, n.name, n.version, n.body, session.now) for n in board.changed])
    publish.publish(
        session, [m for one, answer in zip(batch, answers, strict=True) if answer.changed for m in one.then]
    )
    if rules is not None:
        lines.follow(session, rules)
    for edit in audited(batch, answers):
        Trail(Told(by, edit, Selector())).write(session, Steered(changed=1))
    session.news.update(Noted(note.kind) for note in board.changed)
    return answers


def _board(session: Session, batch: Sequence[Revision]) -> Board:
    kinds = {revision.note.kind for revision in batch}
    notes = [note for one in batch for note in (one.note, one.given) if note is not None]
    named = {"named": encoded([(note.kind, note.name) for note in notes])}
    found = [
        Note(kind=kind, name=name, version=version, body=body)
        for kind, name, version, body in session.rows("note_named", named)
    ]
    return Board(
        lambda kind: int(session.row("note_count", {"kind": kind})[0]),
        {(note.kind, note.name): note for note in found},
        {kind: session.row("note_highest", {"kind": kind})[0] for kind in kinds},
    )


def survey(session: Session, about: Notes) -> tuple[Note, ...]:
    """Notes of a kind, in the order in which they were changed."""
    rows = session.rows(
        "notes_named" if about.names else "notes",
        {
            "kind": about.kind,
            "names": encoded(about.names),
            "since": about.since,
            "gone": about.gone,
            "limit": about.most,
        },
    )
    return tuple(Note(kind=about.kind, name=name, version=version, body=body) for name, version, body in rows)


def is_old(session: Session) -> bool:
    """Whether there is one to forget."""
    return bool(session.row("note_old", {"before": session.now - GONE_KEPT})[0])


def forget(session: Session, budget: int) -> bool:
    """Forget what was deleted long ago; whether there may be more of it."""
    return session.change("note_forget", {"before": session.now - GONE_KEPT, "limit": budget}) == budget
