"""The database thread of a SQLite store: groups, cancellation, a full disk, a bounded log, and an end that leaves nothing behind."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import resource
import subprocess
import sys
import threading
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import apsw
import pytest

from forebay.engine import Ask, EngineOptions, Finished, Notice, Ready, Settlement, Source, Stored, Timing
from forebay.errors import (
    EngineRefused,
    EngineUnavailable,
    InvalidOption,
    NotOpen,
    OutcomeUnknown,
    StorageFull,
    Unsupported,
)
from forebay.model import query as q, verdict as v
from forebay.model.message import Message
from forebay.model.when import SECOND
from forebay.stores.sqlite import SqliteEngine, reader
from forebay.stores.sqlite.lock import FileLock, patience
from forebay.stores.sqlite.publish import publish
from forebay.stores.sqlite.thread import DatabaseThread
from forebay.stores.sqlite.translate import translate
from forebay.support.clock import SystemClock
from forebay.support.ids import Ids, Token, new_token
from forebay.testing.clock import VirtualClock, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from forebay.engine import Published
    from forebay.stores.sqlite.session import Session
    from forebay.stores.sqlite.store import SqliteStore

T = TypeVar("T")
MAIL = Source(queue="mail")
IDS = Ids()


def message(body: bytes = b"{}") -> Message:
    return Message(id=IDS.message(), name="t", queue="mail", body=body)


@asynccontextmanager
async def store_at(path: Path, options: EngineOptions | None = None) -> AsyncIterator[SqliteStore]:
    store = SqliteEngine(path, options or EngineOptions()).connect("worker", SystemClock())
    await store.declare([MAIL])
    try:
        yield store
    finally:
        await store.close()


def begin(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Start something that the test ends itself."""
    return asyncio.get_running_loop().create_task(work)


async def turn() -> None:
    """Let the loop go round once: what was begun comes to its first wait."""
    gone_round = asyncio.Event()
    asyncio.get_running_loop().call_soon(gone_round.set)
    await gone_round.wait()


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


class Gate:
    """Keeps the database thread busy until it is opened, so that what is submitted meanwhile becomes one group."""

    def __init__(self, store: SqliteStore) -> None:
        self._free = threading.Event()
        self._passed = store._thread().submit(look=self._wait)

    def _wait(self, session: Session) -> bool:
        return self._free.wait(30)

    async def open(self) -> None:
        self._free.set()
        await self._passed


async def number(store: SqliteStore) -> int:
    counts = await store.count()
    return sum(n for queue in counts.queues for n in queue.states.values())


def test_the_clock_is_read_inside_the_transaction_not_before_the_wait_for_it(tmp_path: Path) -> None:
    async def story() -> None:
        clock = VirtualClock()
        store = SqliteEngine(tmp_path / "x.db", EngineOptions()).connect("worker", clock)
        await store.declare([MAIL])
        try:
            await store.publish([message(), message()])
            (held,) = await store.receive([Ask(MAIL, new_token(), 1)], wait=0)
            gate = Gate(store)
            renewed = begin(store.extend([held]))
            claimed = begin(store.receive([Ask(MAIL, new_token(), 1)], wait=0))
            sent = begin(store.publish([message(), message()]))
            await turn()
            await clock.advance(20 * SECOND)
            await gate.open()
            assert await renewed == [Notice.KEPT]
            ((taken,), _) = await claimed, await sent
            assert taken.received == clock.now()
            records = (await store.find(q.Query())).records
            assert [clock.now() - record.created for record in records] == [0, 0, 20 * SECOND, 20 * SECOND]
            await clock.advance(29 * SECOND)
            assert (await store.sweep(100)).lost == 0, "both leases run from when they were written"
        finally:
            await store.close()

    asyncio.run(story())


def test_a_failing_job_fails_alone_in_its_group(tmp_path: Path) -> None:
    async def story() -> None:
        async with store_at(tmp_path / "x.db") as store:
            gate = Gate(store)
            before = asyncio.gather(*(store.publish([message()]) for _ in range(3)))
            await turn()

            def fail(session: Session) -> None:
                publish(session, [message()])
                raise ZeroDivisionError

            failing = store._thread().submit(work=fail)
            after = asyncio.gather(*(store.publish([message()]) for _ in range(3)))
            await gate.open()

            with pytest.raises(ZeroDivisionError):
                await failing
            answers: list[list[Published]] = [*(await before), *(await after)]  # type: ignore[list-item]
            assert [a.status for (a,) in answers] == [Stored.STORED] * 6
            assert await number(store) == 6

    asyncio.run(story())


def test_a_group_is_one_transaction(tmp_path: Path) -> None:
    async def story() -> None:
        async with store_at(tmp_path / "x.db") as store:
            commits: list[int] = []

            def note() -> bool:
                commits.append(1)
                return False

            def listen(session: Session) -> bool:
                session.conn.set_commit_hook(note)
                return True

            await store._thread().submit(look=listen)
            gate = Gate(store)
            waiting = asyncio.gather(*(store.publish([message()]) for _ in range(20)))
            await turn()

            await gate.open()
            await waiting

            assert len(commits) == 1

    asyncio.run(story())


def test_a_cancelled_receive_leaves_nothing_taken(tmp_path: Path) -> None:
    async def story() -> None:
        async with store_at(tmp_path / "x.db") as store:
            await store.publish([message() for _ in range(5)])
            for turns in range(6):
                token = new_token()
                taking = begin(store.receive([Ask(MAIL, token, 5)], wait=0))
                for _ in range(turns):
                    await turn()
                if taking.cancel():
                    with pytest.raises(asyncio.CancelledError):
                        await taking
                    token = new_token()
                # else it was through before it could be cancelled, as on a busy machine: what it took is under its token.

                taken = await store.receive([Ask(MAIL, token, 9)], wait=0)

                assert len(taken) == 5
                assert {(d.attempts, d.crashes, d.releases) for d in taken} == {(0, 0, 0)}
                await store.receive([Ask(MAIL, token, 9)], wait=0)
                await store._thread().submit(
                    work=lambda session, token=token: (
                        session.change("claim_undo", {"token": token, "now": 1})  # type: ignore[misc]
                        + session.change("lease_drop", {"token": token})
                    )
                )

    asyncio.run(story())


def test_a_cancelled_repetition_leaves_what_the_first_receive_took(tmp_path: Path) -> None:
    async def story() -> None:
        async with store_at(tmp_path / "x.db") as store:
            await store.publish([message() for _ in range(3)])
            token = new_token()
            taken = await store.receive([Ask(MAIL, token, 3)], wait=0)
            gate = Gate(store)
            again = begin(store.receive([Ask(MAIL, token, 3)], wait=0))
            await turn()
            again.cancel()
            await gate.open()
            with pytest.raises(asyncio.CancelledError):
                await again

            assert await store.settle([Settlement(d, v.Done()) for d in taken]) == ["ok"] * 3

    asyncio.run(story())


def test_a_publish_cancelled_before_it_began_has_not_happened(tmp_path: Path) -> None:
    async def story() -> None:
        async with store_at(tmp_path / "x.db") as store:
            gate = Gate(store)
            sending = begin(store.publish([message()]))
            await turn()
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            await gate.open()

            assert await number(store) == 0

    asyncio.run(story())


def test_a_full_disk_refuses_loses_nothing_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    async def story() -> None:
        async with store_at(tmp_path / "x.db") as store:

            async def limit(more: int) -> None:
                """Let the file grow by so many pages."""

                def look(session: Session) -> bool:
                    session.conn.pragma("max_page_count", session.conn.pragma("page_count") + more)
                    return True

                await store._thread().submit(look=look)

            await store.publish([message() for _ in range(10)])
            await limit(14)
            stored = 10

            async def fill() -> None:
                nonlocal stored
                for _ in range(500):
                    await store.publish([message(b"x" * 3_000)])
                    stored += 1

            with pytest.raises(StorageFull, match="Make room"):
                await fill()
            taken = await store.receive([Ask(MAIL, new_token(), 10)], wait=0)
            mixed = await asyncio.gather(
                store.publish([message(b"x" * 50_000)]),
                store.settle([Settlement(d, v.Release()) for d in taken]),
                return_exceptions=True,
            )
            assert isinstance(mixed[0], StorageFull)
            assert mixed[1] == ["ok"] * 10
            assert await number(store) == stored

            await limit(1 << 20)

            await store.publish([message(b"x" * 3_000)])
            assert await number(store) == stored + 1

    asyncio.run(story())


def test_the_log_stays_bounded_under_load(tmp_path: Path) -> None:
    async def story() -> None:
        path = tmp_path / "x.db"
        largest = 0
        async with store_at(path) as store:
            for _ in range(60):
                await store.publish([message(b"x" * 10_000) for _ in range(100)])
                taken = await store.receive([Ask(MAIL, new_token(), 100)], wait=0)
                await store.settle([Settlement(d, v.Done()) for d in taken])
                largest = max(largest, size(Path(f"{path}-wal")))

            assert size(path) > 50 << 20
            assert largest < 24 << 20
        assert size(Path(f"{path}-wal")) == 0

    asyncio.run(story())


def test_a_reader_in_the_way_delays_checkpoints_and_stops_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        path = tmp_path / "x.db"
        async with store_at(path) as store:
            await store.publish([message()])
            reader = apsw.Connection(str(path))
            reader.execute("BEGIN")
            assert reader.execute("SELECT count(*) FROM entry").get == 1

            for _ in range(10):
                await store.publish([message(b"x" * 10_000) for _ in range(100)])
            reader.execute("COMMIT")
            reader.close()
            for _ in range(30):
                await store.publish([message(b"x" * 10_000) for _ in range(100)])

            assert size(Path(f"{path}-wal")) < 24 << 20

    asyncio.run(story())


def test_close_leaves_no_thread_no_descriptor_and_no_socket(tmp_path: Path) -> None:
    async def story() -> None:
        async with store_at(tmp_path / "first.db"):
            pass
        threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208

        store = SqliteEngine(tmp_path / "x.db").connect("worker", SystemClock())
        await store.declare([MAIL])
        watching = store.watch(Finished())
        await anext(watching)
        await store.receive([Ask(MAIL, new_token(), 1)], wait=1)
        await store.close()
        await store.close()
        await watching.aclose()  # type: ignore[attr-defined]

        assert threading.active_count() == threads
        assert len(os.listdir("/proc/self/fd")) == descriptors  # noqa: PTH208
        assert list((tmp_path / "x.db.wake").iterdir()) == []
        with pytest.raises(NotOpen):
            await store.count()

    asyncio.run(story())


def test_a_refused_file_leaves_no_thread_and_no_descriptor(tmp_path: Path) -> None:
    async def story() -> None:
        path = tmp_path / "x.db"
        path.write_bytes(b"no database " * 100)
        threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208

        with pytest.raises(EngineRefused):
            await SqliteEngine(path).connect("worker", SystemClock()).declare([MAIL])

        assert threading.active_count() == threads
        assert len(os.listdir("/proc/self/fd")) == descriptors  # noqa: PTH208

    asyncio.run(story())


def test_who_waits_hears_that_the_store_is_closed(tmp_path: Path) -> None:
    async def story() -> None:
        async with store_at(tmp_path / "x.db") as store:
            waiting = begin(store.receive([Ask(MAIL, new_token(), 1)], wait=60 * SECOND))
            await store.count()
            await store.close()

            with pytest.raises(NotOpen):
                await asyncio.wait_for(waiting, 5)

    asyncio.run(story())


def test_a_closed_store_can_be_opened_again(tmp_path: Path) -> None:
    async def story() -> None:
        async with store_at(tmp_path / "x.db") as store:
            await store.publish([message()])
            await store.close()
            await store.declare([MAIL])

            assert await number(store) == 1

    asyncio.run(story())


def test_a_store_is_not_carried_across_a_fork(tmp_path: Path) -> None:
    async def story() -> None:
        async with store_at(tmp_path / "x.db") as store:
            opened = store._open
            assert opened is not None
            store._open = dataclasses.replace(opened, process=os.getpid() + 1)

            with pytest.raises(NotOpen, match="fork"):
                await store.count()

            store._open = opened

    asyncio.run(story())


FORK = """
import asyncio, os, sys
from forebay import App
from forebay.errors import EngineRefused

app = App("sqlite:///x.db")

@app.task
async def job(n: int) -> int: ...

async def send(app):
    async with app:
        await app.send("job", 2)

job.send_sync(1)
child = os.fork()
if child:
    _, status = os.waitpid(child, 0)
    app.__exit__()
    job.send_sync(4)
    (queue,) = app.sync(app.count()).queues
    print(queue.states["ready"])
    sys.exit(os.waitstatus_to_exitcode(status))
refused = 0
for attempt in (lambda: job.send_sync(3), lambda: asyncio.run(send(app)), lambda: asyncio.run(send(App("sqlite:///x.db")))):
    try:
        attempt()
    except EngineRefused as error:
        refused += "was open when this process was forked" in str(error)
os._exit(refused)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_file_that_was_open_at_a_fork_is_refused_in_the_child_which_would_lose_what_it_stores(
    tmp_path: Path,
) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", FORK], cwd=tmp_path, capture_output=True, text=True, timeout=20, check=False
    )

    assert (ran.returncode, ran.stdout) == (3, "2\n"), ran.stderr


@pytest.mark.parametrize("replaced", [True, False])
def test_a_file_that_is_no_longer_where_it_was_opened_takes_nothing(
    tmp_path: Path, *, replaced: bool
) -> None:
    async def story() -> None:
        path = tmp_path / "x.db"
        async with store_at(path) as store:
            await store.publish([message()])
            path.rename(tmp_path / "y.db")
            if replaced:
                path.write_bytes(b"")
            for call in (store.publish([message()]), store.publish([message(), message()]), store.count()):
                with pytest.raises(EngineRefused, match="was moved, deleted or replaced"):
                    await call

            (tmp_path / "y.db").rename(path)
            assert await number(store) == 1

    asyncio.run(story())


def test_a_process_without_descriptors_neither_tells_nor_hears_and_goes_on(tmp_path: Path) -> None:
    async def story() -> None:
        async with store_at(tmp_path / "x.db") as store, asyncio.timeout(10):
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
            try:
                await store.publish([message(), message()])
                await store.publish([message()])
                taken = await store.receive([Ask(MAIL, new_token(), 9)], wait=SECOND)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

            assert len(taken) == 3

    asyncio.run(story())


def test_a_turn_of_the_thread_that_breaks_is_told_to_those_who_wait_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("planted")

    async def story() -> None:
        async with store_at(tmp_path / "x.db") as store, asyncio.timeout(10):
            with monkeypatch.context() as planted:
                planted.setattr(DatabaseThread, "_serve", broken)
                with pytest.raises(OutcomeUnknown, match="planted"):
                    await store.count()

            assert await number(store) == 0

    asyncio.run(story())


def test_a_lock_held_too_long_is_an_unavailable_engine(tmp_path: Path) -> None:
    holder = FileLock(str(tmp_path / "x.lock"), threading.Lock())
    waiter = FileLock(str(tmp_path / "x.lock"), threading.Lock(), patience=0.05)
    same = threading.Lock()
    sibling = FileLock(str(tmp_path / "y.lock"), same, patience=0.05)

    with holder.held(), pytest.raises(EngineUnavailable, match="stopped or stuck"), waiter.held():
        pass
    with same, pytest.raises(EngineUnavailable), sibling.held():
        pass
    with waiter.held(), sibling.held():
        pass

    for lock in (holder, waiter, sibling):
        lock.close()


@pytest.mark.parametrize(
    ("heartbeat", "seconds"),
    [(SECOND // 10, 1), (2 * SECOND, 1), (4 * SECOND, 2), (10 * SECOND, 5), (60 * SECOND, 5)],
)
def test_a_transaction_waits_for_others_less_than_a_heartbeat(heartbeat: int, seconds: float) -> None:
    assert patience(Timing(lease=10 * heartbeat, heartbeat=heartbeat)) == seconds


@pytest.mark.parametrize("who", ["a process of ours", "another program"])
def test_a_file_held_for_too_long_is_an_engine_that_may_be_tried_again(tmp_path: Path, who: str) -> None:
    async def story() -> None:
        async with store_at(tmp_path / "x.db", EngineOptions(timing=Timing(heartbeat=SECOND))) as store:
            other, shell = (
                FileLock(str(tmp_path / "x.db.lock"), threading.Lock()),
                apsw.Connection(str(tmp_path / "x.db")),
            )
            with other.held() if who == "a process of ours" else shell:
                if who != "a process of ours":
                    shell.execute("DELETE FROM counter")
                with pytest.raises(EngineUnavailable, match="ry again"):
                    await store.publish([message()])
            assert (await store.publish([message()]))[0].status is Stored.STORED
            other.close()
            shell.close()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("raised", "committing", "expected"),
    [
        (apsw.FullError(), True, StorageFull),
        (apsw.BusyError(), False, EngineUnavailable),
        (apsw.NotADBError(), False, EngineRefused),
        (apsw.CorruptError(), False, EngineRefused),
        (apsw.IOError(), False, EngineUnavailable),
        (apsw.IOError(), True, OutcomeUnknown),
        (apsw.ReadOnlyError(), False, EngineRefused),
        (apsw.CantOpenError(), False, EngineUnavailable),
        (PermissionError(13, "Permission denied"), False, EngineUnavailable),
    ],
)
def test_what_the_driver_raises_becomes_ours(
    raised: Exception, committing: bool, expected: type[Exception]
) -> None:
    with (
        pytest.raises(expected, match=r"^/srv/x\.db|/srv/x\.db") as caught,
        translate("/srv/x.db", committing=committing),
    ):
        raise raised

    assert caught.value.__cause__ is raised


def test_what_a_sqlite_store_cannot_do_it_refuses(tmp_path: Path) -> None:
    async def story() -> None:
        async with store_at(tmp_path / "x.db") as store:
            with pytest.raises(Unsupported, match="PostgreSQL"):
                await store.publish([message()], tx=object())
            with pytest.raises(InvalidOption, match="cursor"):
                await store.find(q.Query(cursor="half"))
            with pytest.raises(InvalidOption, match="queue"):
                await store.steer(q.Selector(), q.Pause())

    asyncio.run(story())


def test_a_command_on_very_many_concerns_all_of_them(tmp_path: Path) -> None:
    async def story() -> None:
        async with store_at(tmp_path / "x.db") as store:
            await store.publish([message() for _ in range(2_500)])

            cancelled = await store.steer(q.Selector(queue="mail"), q.CancelNow())
            some = await store.steer(q.Selector(queue="mail", limit=1_200), q.Redrive())
            deleted = await store.steer(q.Selector(), q.Delete())

            changed = [one.changed for one in (cancelled, some, deleted)]
            assert (changed, await number(store)) == ([2_500, 1_200, 2_500], 0)

    asyncio.run(story())


def test_bodies_of_any_size_and_content_come_back(tmp_path: Path) -> None:
    async def story() -> None:
        async with store_at(tmp_path / "x.db") as store:
            bodies = [
                b"",
                b"\0",
                bytes(range(256)) * 4,
                "\u00e4\U0001f600".encode(),
                b'"\\',
                os.urandom(8 << 20),
            ]
            await store.publish([message(body) for body in bodies])

            taken = await store.receive([Ask(MAIL, Token("t"), 10)], wait=0)

            assert [d.message.body for d in taken] == bodies

    asyncio.run(story())


def test_an_error_that_is_no_unicode_is_kept_as_far_as_it_can_be(tmp_path: Path) -> None:
    async def story() -> None:
        async with store_at(tmp_path / "x.db") as store:
            await store.publish([message()])
            (taken,) = await store.receive([Ask(MAIL, new_token(), 1)], wait=0)

            await store.settle([Settlement(taken, v.Dead(v.Reason.ASKED, v.Failure("E", "half \ud83d\0")))])

            (record,) = (await store.find(q.Query())).records
            assert record.tries[0].error is not None
            assert record.tries[0].error.message == "half \\ud83d\0"

    asyncio.run(story())


def test_watching_ends_with_whoever_watches(tmp_path: Path) -> None:
    async def story() -> None:
        async with store_at(tmp_path / "x.db") as store:
            watching = store.watch(Ready("mail"))
            await anext(watching)
            await asyncio.wait_for(asyncio.gather(anext(watching), store.publish([message()])), 5)
            await watching.aclose()  # type: ignore[attr-defined]

            assert not store._signals.awaited(Ready("mail"))

    asyncio.run(story())


async def on_a_fast_disk(store: SqliteStore) -> int:
    """As if commits had been fast, with the thread at rest; how many jobs were handed to it so far."""
    thread = store._thread()
    await eventually(lambda: thread._submitted == thread._served)
    thread._pace = 0.0
    return thread._submitted


def test_a_lone_write_on_a_fast_disk_is_not_handed_over(tmp_path: Path) -> None:
    async def story() -> None:
        async with store_at(tmp_path / "x.db") as store:
            before = await on_a_fast_disk(store)

            (answer,) = await store.publish([message()])
            await on_a_fast_disk(store)
            doing = store._thread().here(lambda _: threading.get_ident())

            assert answer.status is Stored.STORED
            assert doing == threading.get_ident()
            assert store._thread()._submitted == before
            assert await number(store) == 1

    asyncio.run(story())


def test_a_lone_write_is_handed_over_where_the_disk_is_slow_or_has_just_been(tmp_path: Path) -> None:
    async def story() -> None:
        async with store_at(tmp_path / "x.db") as store:
            thread = store._thread()
            await on_a_fast_disk(store)
            assert thread.here(lambda _: [threading.Event().wait(0.01)]) == [False]

            assert thread.here(lambda _: True) is None
            before = thread._submitted
            await store.publish([message()])
            assert thread._submitted == before + 1

    asyncio.run(story())


def test_a_lone_write_is_handed_over_while_the_thread_is_at_work(tmp_path: Path) -> None:
    async def story() -> None:
        async with store_at(tmp_path / "x.db") as store:
            await on_a_fast_disk(store)
            gate = Gate(store)

            writing = begin(store.publish([message()]))
            for _ in range(3):
                await turn()
            assert not writing.done()

            await gate.open()
            assert (await writing)[0].status is Stored.STORED

    asyncio.run(story())


def test_a_lone_write_waits_for_another_process_in_the_thread_and_not_in_the_loop(tmp_path: Path) -> None:
    async def story() -> None:
        async with store_at(tmp_path / "x.db") as store:
            await on_a_fast_disk(store)
            other = FileLock(str(tmp_path / "x.db.lock"), threading.Lock())
            with other.held():
                writing = begin(store.publish([message()]))
                for _ in range(3):
                    await turn()
                assert not writing.done()
            assert (await writing)[0].status is Stored.STORED
            other.close()

    asyncio.run(story())


def test_a_lone_write_that_fails_has_changed_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        async with store_at(tmp_path / "x.db") as store:
            await on_a_fast_disk(store)

            def fail(session: Session) -> None:
                publish(session, [message()])
                raise ZeroDivisionError

            with pytest.raises(ZeroDivisionError):
                store._thread().here(fail)

            assert await number(store) == 0

    asyncio.run(story())


def test_a_mistake_of_the_thread_leaves_nobody_waiting(tmp_path: Path) -> None:
    async def story() -> None:
        async with store_at(tmp_path / "x.db") as store:
            thread = store._thread()
            await on_a_fast_disk(store)
            thread._pace = 1.0

            def broken(_: object) -> None:
                raise ZeroDivisionError

            told, thread._tell = thread._tell, broken
            await asyncio.wait_for(store.publish([message()]), 5)
            thread._tell = told

            assert (await asyncio.wait_for(store.publish([message()]), 5))[0].status is Stored.STORED
            assert await number(store) == 2

    asyncio.run(story())


# -- looking beside the work


def test_work_goes_on_beside_a_long_look(tmp_path: Path) -> None:
    async def story() -> None:
        async with store_at(tmp_path / "x.db") as store:
            seen, go = threading.Event(), threading.Event()

            def slow(session: Session) -> int:
                before: int = session.conn.execute("SELECT count(*) FROM entry").get
                seen.set()
                assert go.wait(30)
                assert session.conn.execute("SELECT count(*) FROM entry").get == before, (
                    "all of a look is from one moment"
                )
                return before

            looking = begin(store._opened().reader.read(slow))
            await eventually(seen.is_set)
            for _ in range(300):
                await store.publish([message(bytes(10_000))])
            taken = await store.receive([Ask(MAIL, new_token(), 300)], wait=0)
            await store.settle([Settlement(d, v.Done()) for d in taken])
            go.set()
            await looking
            # What it kept in the log goes with the next checkpoint.
            for _ in range(300):
                await store.publish([message(bytes(10_000))])

        assert len(taken) == 300

    asyncio.run(story())


def test_a_look_that_takes_too_long_is_broken_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "LONGEST", 0.0)
    endless = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n) SELECT max(n) FROM n"

    async def story() -> None:
        async with store_at(tmp_path / "x.db") as store:
            with pytest.raises(EngineUnavailable, match="broken off: ask for less"):
                await store._opened().reader.read(lambda s: s.conn.execute(endless).fetchall())
            assert (await store.find(q.Query())).records == ()

    asyncio.run(story())


def test_who_looks_cannot_write(tmp_path: Path) -> None:
    async def story() -> None:
        async with store_at(tmp_path / "x.db") as store:
            with pytest.raises(EngineRefused, match="cannot be written"):
                await store._opened().reader.read(lambda s: s.change("pause", {"queue": "mail"}))

    asyncio.run(story())
