"""Claims about notes: small definitions that all processes share, changed by whoever has read what stands."""

# ruff: noqa: D103  # the name of a claim says it

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from forebay.engine import Noted
from forebay.errors import InvalidName, InvalidOption
from forebay.model.message import EntryId, MessageId
from forebay.model.note import GONE_KEPT, LONGEST_NOTE, MOST_REVISED, Note, Notes, Revised, Revision
from forebay.model.query import Actor, Edit, Query, Selector
from forebay.model.state import State
from forebay.model.survey import Audit
from forebay.testing.clock import Probe
from forebay.testing.conformance.harness import WORK, but, claims, ids, refused, remembers, survives

if TYPE_CHECKING:
    from forebay.engine import Source
    from forebay.model.message import Message
    from forebay.testing.conformance.harness import Claim, Harness


def note(name: str, body: bytes | None, version: int = 0, kind: str = "thing") -> Note:
    return Note(kind=kind, name=name, body=body, version=version)


async def put(h: Harness, *notes: Note, then: tuple[Message, ...] = (), worker: str = "one") -> list[Revised]:
    store = await h.store(worker)
    return list(await store.note([Revision(one, then) for one in notes]))


async def names(h: Harness, about: Notes) -> list[str]:
    return [one.name for one in await (await h.store()).survey(about)]


async def a_note_is_read_as_it_was_written(h: Harness) -> None:
    (made,) = await put(h, note("a", b'{"n":1}'))

    assert (made.taken, made.changed, made.note.body) == (True, True, b'{"n":1}')
    assert made.note.version > 0
    assert await (await h.store("two")).survey(Notes(kind="thing")) == (made.note,)
    assert await (await h.store()).survey(Notes(kind="other")) == ()


async def who_has_read_what_stands_may_change_it_and_nobody_else(h: Harness) -> None:
    (first,) = await put(h, note("a", b"1"))
    (second,) = await put(h, but(first.note, body=b"2"))

    (stale,) = await put(h, but(first.note, body=b"3"), worker="two")
    (unread,) = await put(h, note("a", b"4"))

    assert second.note.version > first.note.version
    assert [(one.taken, one.changed, one.note) for one in (stale, unread)] == [
        (False, False, second.note),
        (False, False, second.note),
    ]


async def what_says_the_same_already_is_taken_and_changes_nothing(h: Harness) -> None:
    message = h.message()
    (first,) = await put(h, note("a", b"1"), then=(message,))
    (delivery,) = await h.take()
    assert str(delivery.id) == message.id
    other = h.message()

    (again,) = await put(h, note("a", b"1"), then=(other,))
    (nothing,) = await put(h, note("b", None))

    assert (again.taken, again.changed, again.note) == (True, False, first.note)
    assert (nothing.taken, nothing.changed, nothing.note.version) == (True, False, 0)
    await h.nothing()


async def of_two_writers_at_once_one_is_taken(h: Harness) -> None:
    stores = [await h.store(worker) for worker in ("one", "two", "three")]
    (stands,) = await put(h, note("a", b"0"))
    for turn in range(20):
        asked = [but(stands.note, body=b"%d of %d" % (n, turn)) for n in range(3)]
        messages = [h.message(f"job{n}") for n in range(3)]
        answers = await asyncio.gather(
            *(
                store.note([Revision(one, (m,))])
                for store, one, m in zip(stores, asked, messages, strict=True)
            )
        )
        found = [answer for (answer,) in answers]
        assert [answer.taken for answer in found].count(True) == 1
        winner = [answer.taken for answer in found].index(True)
        assert {answer.note for answer in found} == {found[winner].note}
        (delivery,) = await h.take()
        assert str(delivery.id) == messages[winner].id
        stands = found[winner]


async def a_change_may_depend_on_another_note(h: Harness) -> None:
    store, message = await h.store(), h.message()
    (rule,) = await put(h, note("rule", b"1", kind="other"))
    (first,) = await store.note([Revision(note("a", b"1"), given=rule.note)])
    (newer,) = await put(h, but(rule.note, body=b"2"))

    (late,) = await store.note([Revision(but(first.note, body=b"2"), (message,), given=rule.note)])
    (absent,) = await store.note([Revision(note("b", b"1"), given=note("nobody", b"1"))])
    assert [(one.taken, one.changed) for one in (first, late, absent)] == [
        (True, True),
        (False, False),
        (False, False),
    ]
    assert late.note == first.note
    await h.nothing()

    (then,) = await store.note([Revision(but(first.note, body=b"2"), (message,), given=newer.note)])
    assert then.taken
    assert ids(await h.take()) == [message.id]


async def a_batch_is_answered_item_by_item_in_order(h: Harness) -> None:
    (old,) = await put(h, note("b", b"0"))
    answers = await put(
        h, note("a", b"1"), note("b", b"2"), note("a", b"3"), but(old.note, body=b"4"), note("c", b"5")
    )

    assert [answer.taken for answer in answers] == [True, False, False, True, True]
    assert [answer.note.body for answer in answers] == [b"1", b"0", b"1", b"4", b"5"]
    assert await names(h, Notes(kind="thing")) == ["a", "b", "c"]


async def messages_are_stored_with_a_change_and_only_with_it(h: Harness) -> None:
    messages = h.messages(3)
    late = but(h.message(), due=None, unique="key")
    (first,) = await put(h, note("a", b"1"), then=(*messages, late))
    (refusal,) = await put(h, note("a", b"2"), then=(h.message(),))
    (second,) = await put(h, but(first.note, body=b"2"), then=(messages[0], but(h.message(), unique="key")))

    assert (refusal.taken, second.taken) == (False, True)
    assert ids(await h.take()) == [m.id for m in (*messages, late)], (
        "a duplicate by id or by key is left out, and the note changed all the same"
    )


async def an_event_of_a_note_goes_to_its_groups(h: Harness) -> None:
    source: Source = WORK.subscription("news.*", "readers")
    await h.store(sources=(WORK, source))
    await put(h, note("a", b"1"), then=(h.event("news.today"),))

    assert (await h.take_one(source=source)).message.topic == "news.today"


async def what_goes_with_a_note_is_let_into_a_full_queue(h: Harness) -> None:
    if not h.traits.limits:
        return
    full = but(WORK, limit=1)
    await h.store(sources=(full,))
    await h.publish(h.message())
    await h.store(sources=(full,))
    await put(h, note("a", b"1"), then=(h.message(),))

    assert len(await h.take(source=full)) == 2


async def a_deleted_note_is_not_there_and_may_be_made_again(h: Harness) -> None:
    (first,) = await put(h, note("a", b"1"))
    (stale,) = await put(h, note("a", None, version=first.note.version + 7))
    (gone,) = await put(h, but(first.note, body=None))

    assert (stale.taken, gone.taken, gone.note.body) == (False, True, None)
    assert await names(h, Notes(kind="thing")) == []
    assert await (await h.store()).survey(Notes(kind="thing", gone=True)) == (gone.note,)
    (again,) = await put(h, note("a", b"2"))
    assert (again.taken, again.note.version > gone.note.version) == (True, True)


async def what_was_changed_since_is_asked_for_by_its_version(h: Harness) -> None:
    made = await put(h, *(note(f"n{n}", b"1") for n in range(5)))
    after = made[-1].note.version
    assert await names(h, Notes(kind="thing", since=after, gone=True)) == []

    await put(h, but(made[3].note, body=b"2"), but(made[1].note, body=None), note("new", b"1"))
    await put(h, note("x", b"1", kind="other"))

    assert await names(h, Notes(kind="thing", since=after)) == ["n3", "new"]
    assert await names(h, Notes(kind="thing", since=after, gone=True)) == ["n3", "n1", "new"]


async def notes_are_read_in_pages_and_by_their_names(h: Harness) -> None:
    store, read = await h.store(), list[str]()
    for start in range(0, 2_300, MOST_REVISED):
        await put(h, *(note(f"n{n:04}", b"1") for n in range(start, min(start + MOST_REVISED, 2_300))))
    page = await store.survey(Notes(kind="thing", limit=10_000))
    while page:
        assert len(page) <= 1_000
        read += [one.name for one in page]
        page = await store.survey(Notes(kind="thing", since=page[-1].version, limit=900))

    assert read == [f"n{n:04}" for n in range(2_300)]
    assert await names(h, Notes(kind="thing", names=("n0007", "n0003", "n0003", "nobody"))) == [
        "n0003",
        "n0007",
    ]


async def what_was_deleted_is_told_for_a_day(h: Harness) -> None:
    store = await h.store()
    (first, second) = await put(h, note("a", b"1"), note("b", b"1"))
    await put(h, but(first.note, body=None))
    await h.advance(GONE_KEPT - 1)
    (gone,) = await put(h, but(second.note, body=None))
    await store.sweep(100)
    assert await names(h, Notes(kind="thing", gone=True)) == ["a", "b"]

    await h.advance(GONE_KEPT + 1)
    await store.sweep(100)

    assert await names(h, Notes(kind="thing", gone=True)) == ["b"], "the last version never comes again"
    (made,) = await put(h, note("c", b"1"))
    assert made.note.version > gone.note.version
    await store.sweep(100)
    assert await names(h, Notes(kind="thing", gone=True)) == ["c"]


async def a_change_wakes_who_watches_the_kind(h: Harness) -> None:
    store, told, began = await h.store("other"), Probe[None]("Noted signals"), asyncio.Event()

    async def watch() -> None:
        async for _ in store.watch(Noted("thing")):
            began.set()
            told.hit(None)

    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watch())
        await began.wait()
        await put(h, note("a", b"1"))
        await told.wait(2)
        watching.cancel()


async def what_is_too_much_for_a_note_is_refused(h: Harness) -> None:
    store = await h.store()
    assert (await put(h, note("a", b"x" * LONGEST_NOTE)))[0].taken
    with refused(InvalidOption, "a body that is too long"):
        note("a", b"x" * (LONGEST_NOTE + 1))
    with refused(InvalidName, "a name that is none"):
        note("a b", b"1")
    with refused(InvalidName, "a kind that is none"):
        note("a", b"1", kind="")
    with refused(InvalidOption, "too many at a time"):
        await put(h, *(note(f"n{n}", b"1") for n in range(MOST_REVISED + 1)))
    with refused(InvalidOption, "too many messages at a time"):
        await store.note([Revision(note("b", b"1"), tuple(h.messages(MOST_REVISED + 1)))])
    with refused(InvalidOption, "too many names"):
        Notes(kind="thing", names=("a",) * 1_001)
    assert await names(h, Notes(kind="thing")) == ["a"]


async def notes_are_there_when_the_store_is_opened_again(h: Harness) -> None:
    message = h.message()
    (made,) = await put(h, note("a", b"1"), then=(message,))
    await h.reopen()

    assert await (await h.store()).survey(Notes(kind="thing")) == (made.note,)
    page = await (await h.store()).find(Query(which=Selector(ids=(EntryId(MessageId(message.id)),))))
    assert [record.state for record in page.records] == [State.READY]
    (next_,) = await put(h, note("b", b"1"))
    assert next_.note.version > made.note.version


async def who_changed_a_note_is_kept_if_it_is_said(h: Harness) -> None:
    store, ana = await h.store(), Actor(name="ana", via="cli", why="a quiet week")
    (made,) = await store.note([Revision(note("a", b"1"), what="put")], by=ana)
    await store.note([Revision(note("a", b"1"), what="put")], by=ana)
    await store.note([Revision(note("a", b"2"), what="put")], by=ana)
    await store.note([Revision(but(made.note, body=b"3"))])
    await store.note([Revision(note("b", None), what="remove")], by=ana)

    (told,) = await store.survey(Audit())

    assert (told.by, told.command, told.done.changed) == (ana, Edit("thing", "a", "put"), 1)


CLAIMS: Final[tuple[Claim, ...]] = (
    *claims(
        "notes",
        remembers,
        a_note_is_read_as_it_was_written,
        who_has_read_what_stands_may_change_it_and_nobody_else,
        what_says_the_same_already_is_taken_and_changes_nothing,
        of_two_writers_at_once_one_is_taken,
        a_change_may_depend_on_another_note,
        a_batch_is_answered_item_by_item_in_order,
        messages_are_stored_with_a_change_and_only_with_it,
        an_event_of_a_note_goes_to_its_groups,
        what_goes_with_a_note_is_let_into_a_full_queue,
        a_deleted_note_is_not_there_and_may_be_made_again,
        what_was_changed_since_is_asked_for_by_its_version,
        notes_are_read_in_pages_and_by_their_names,
        a_change_wakes_who_watches_the_kind,
        who_changed_a_note_is_kept_if_it_is_said,
        what_is_too_much_for_a_note_is_refused,
    ),
    *claims("notes", lambda t: t.remembers and t.virtual_clock, what_was_deleted_is_told_for_a_day),
    *claims("notes", lambda t: remembers(t) and survives(t), notes_are_there_when_the_store_is_opened_again),
)
