"""The one thread that has a store's connection. It gathers the jobs that wait, and commits the writes among them together.

A job may look (without a lock) and may work (inside a transaction). Jobs are functions of their arguments and the session only, so that
one may be run again: when a group fails, each of its jobs is run alone, and only the one that is to blame fails.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import apsw

from forebay.errors import EngineError, EngineRefused, EngineUnavailable, NotOpen, OutcomeUnknown
from forebay.stores.sqlite import flows, lines
from forebay.stores.sqlite.checkpoint import Checkpoints
from forebay.stores.sqlite.lock import OPENING
from forebay.stores.sqlite.survey import add_up, carry, want
from forebay.stores.sqlite.translate import translate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from forebay.engine import Topic
    from forebay.model.when import Instant
    from forebay.stores.sqlite.lock import FileLock
    from forebay.stores.sqlite.session import Session

T = TypeVar("T")

LATER: Final = 1.0
"""Seconds until what lone writes add to the rates is written at the latest: in each of them it would be one page more of five."""
MOST_JOBS: Final = 64
"""Jobs in one transaction at most."""
QUICK: Final = 0.002
"""Seconds a commit may take for the next lone write to be done in the loop's own thread."""
MOST_ROWS: Final = 5_000
"""Rows in one transaction after which no further job joins it."""


@dataclass(slots=True, eq=False)
class Job(Generic[T]):
    """``look`` gives the answer, or None if it takes ``work`` to give it. ``rows`` is about how many rows it concerns."""

    future: asyncio.Future[T]
    look: Callable[[Session], T | None] | None = None
    work: Callable[[Session], T] | None = None
    rows: int = 1


@dataclass(slots=True, eq=False)
class _Answer:
    """What becomes of a job's future."""

    future: asyncio.Future[Any]
    value: Any = None
    error: BaseException | None = None


class DatabaseThread:
    """Started when the store opens, ended when it closes. ``open_session`` runs in the thread, under the lock. ``go_on``: the job that
    follows at once where a transaction has left work to the next.
    """

    def __init__(
        self,
        path: str,
        lock: FileLock,
        open_session: Callable[[], Session],
        tell: Callable[[Iterable[Topic]], None],
        now: Callable[[], Instant],
        go_on: Callable[[Session], object] = lambda _: None,
    ) -> None:
        self._path, self._lock, self._open_session, self._tell, self._now = (
            path,
            lock,
            open_session,
            tell,
            now,
        )
        self._go_on = go_on
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[Job[Any] | None] = queue.SimpleQueue()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, name=f"forebay {path}", daemon=True)
        self._closing = False
        self._session: Session | None = None
        self._checkpoints: Checkpoints | None = None
        # Written by the loop's thread only, and by the database thread only: equal when the connection is in nobody's hands.
        self._submitted = self._served = 0
        self._pace = float("inf")
        self._later: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Start, and wait until the file is open. Raises what opening it raised; then the thread has ended."""
        self._thread.start()
        await asyncio.shield(self._opened)

    def check_file(self) -> None:
        """Raise `EngineRefused` if the file is no longer where it was opened. Of an open thread; from any thread."""
        if self._session is not None:
            self._session.conn.check_file(self._path)

    def submit(
        self,
        *,
        look: Callable[[Session], T | None] | None = None,
        work: Callable[[Session], T] | None = None,
        rows: int = 1,
    ) -> asyncio.Future[T]:
        """Put a job in line. From the loop's thread only."""
        if self._closing:
            raise NotOpen("The store is closed: open it again with declare(), or use 'async with app:'.")
        future: asyncio.Future[T] = self._loop.create_future()
        self._submitted += 1
        self._jobs.put(Job(future, look, work, rows))
        return future

    def here(self, work: Callable[[Session], T]) -> T | None:
        """Carry out one small write at once, in the loop's own thread; None if it is not to be done here, and was not.

        Handing a write to the thread and its end back costs about as much as a commit on a fast disk. So where commits have been taking
        less than `QUICK` seconds, and neither the thread nor another process is at work, a lone write is not handed over. One commit
        that takes longer ends that until the thread has shown that the disk is fast again. Raises what the write raises.
        """
        session = self._session
        if session is None or self._closing or self._submitted != self._served or self._pace > QUICK:
            return None
        session.conn.check_file(self._path)
        session.news.clear()
        session.conn.set_busy_timeout(0)
        try:
            (value,) = self._commit(session, [work], lone=True)
        except EngineUnavailable as error:
            if error.__cause__ is None or isinstance(error.__cause__, apsw.BusyError):
                return None
            raise
        finally:
            session.conn.be_patient()
        self._tell(session.news)
        if session.carried and self._later is None:
            self._later = self._loop.call_later(LATER, self._add_up)
        if session.unfinished:
            self._follow_up()
        if self._checkpoints is not None and self._checkpoints.due:
            _ = self.submit(look=lambda _: True)  # after any job the thread sees to the log
        return value  # type: ignore[no-any-return]  # the one value of the one function

    def _add_up(self) -> None:
        """Write what lone writes have added to the rates. From the loop's thread only."""
        if self._later is not None:
            self._later.cancel()
            self._later = None
            # If that fails a later transaction does it.
            self.submit(work=want).add_done_callback(lambda done: done.cancelled() or done.exception())

    def _follow_up(self) -> None:
        """Go on with what a transaction has left. From the loop's thread only. If that fails, or the store is closed, a sweep does it."""
        if not self._closing:
            self.submit(work=self._go_on).add_done_callback(lambda done: done.cancelled() or done.exception())

    async def close(self) -> None:
        """Carry out what is in line, close the connection, and end. Idempotent."""
        if not self._closing:
            self._add_up()
            self._closing = True
            self._jobs.put(None)
        await asyncio.shield(self._ended)
        self._thread.join()

    # -- all below runs in the thread

    def _run(self) -> None:
        try:
            with translate(self._path), self._lock.held(patience=OPENING):
                session = self._open_session()
        except BaseException as error:  # noqa: BLE001  # whoever opens the store is told
            self._deliver([_Answer(self._opened, error=error), _Answer(self._ended)])
            return
        checkpoints = self._checkpoints = Checkpoints(session.conn, self._lock)
        self._session = session
        self._deliver([_Answer(self._opened)])
        while jobs := self._gather():
            try:
                self._serve(session, jobs)
                checkpoints.run_if_due()
            except Exception as error:  # noqa: BLE001  # the thread must outlive it: all who come later wait for it
                self._deliver([_Answer(job.future, error=_broken(self._path, error)) for job in jobs])
            self._served += len(jobs)
        try:
            checkpoints.close()
        finally:
            self._deliver([_Answer(self._ended)])

    def _gather(self) -> list[Job[Any]]:
        """The jobs that wait, at least one; none when it is time to end."""
        job = self._jobs.get()
        jobs: list[Job[Any]] = []
        rows = 0
        while job is not None:
            jobs.append(job)
            rows += job.rows
            if len(jobs) == MOST_JOBS or rows >= MOST_ROWS or self._jobs.empty():
                return jobs
            job = self._jobs.get_nowait()
        if jobs:
            self._jobs.put(None)
        return jobs

    def _serve(self, session: Session, jobs: list[Job[Any]]) -> None:
        answers: list[_Answer] = []
        # A caller who is gone before the job began: it has not happened.
        wanted = [job for job in jobs if not job.future.cancelled()]
        try:
            session.conn.check_file(self._path)
        except EngineRefused as error:
            self._deliver([_Answer(job.future, error=error) for job in wanted])
            return
        writes = [job for job in wanted if not self._look(session, job, answers)]
        if answers and writes:
            self._deliver(answers)
            answers = []
        session.news.clear()
        if writes:
            answers = self._write(session, writes)
        if answers:
            self._deliver(answers)
        if session.news:
            self._tell(session.news)
        if session.unfinished:
            self._call(self._follow_up)

    def _look(self, session: Session, job: Job[Any], answers: list[_Answer]) -> bool:
        """Answer a job without a lock, if that can be done."""
        if job.look is None:
            return False
        try:
            session.now = self._now()
            with translate(self._path):
                value = job.look(session)
        except Exception as error:  # noqa: BLE001  # whoever asked is told
            answers.append(_Answer(job.future, error=error))
            return True
        if value is not None or job.work is None:
            answers.append(_Answer(job.future, value))
            return True
        return False

    def _write(self, session: Session, jobs: list[Job[Any]]) -> list[_Answer]:
        try:
            values = self._commit(session, [job.work for job in jobs if job.work is not None])
        except Exception as error:  # noqa: BLE001  # whoever asked is told
            session.news.clear()
            if len(jobs) == 1:
                return [_Answer(jobs[0].future, error=error)]
            # An outcome that is unknown is not made better by doing it again behind the caller's back.
            if isinstance(error, EngineError) and not isinstance(error.__cause__, apsw.FullError):
                return [_Answer(job.future, error=error) for job in jobs]
        else:
            return [_Answer(job.future, value) for job, value in zip(jobs, values, strict=True)]
        return self._write_alone(session, jobs)

    def _write_alone(self, session: Session, jobs: list[Job[Any]]) -> list[_Answer]:
        answers: list[_Answer] = []
        news: set[Topic] = set()
        for job in jobs:
            answers += self._write(session, [job])
            news |= session.news
            session.news.clear()
        session.news |= news
        return answers

    def _commit(
        self, session: Session, works: list[Callable[[Session], Any]], *, lone: bool = False
    ) -> list[Any]:
        """One transaction; all of it or nothing. A ``lone`` write waits for nobody, and leaves what it adds to the rates to another."""
        conn = session.conn
        with self._lock.held(patience=0.0 if lone else None):
            began = time.monotonic()
            try:
                with translate(self._path):
                    conn.execute("BEGIN IMMEDIATE")
                    session.now = self._now()
                    session.sums.places.clear()
                    session.sums.wanted = session.unfinished = session.stirred = False
                    values = [work(session) for work in works]
                    # What has become of steps is known by now. A lone write knows itself whether it has stirred any.
                    if (session.stirred or not lone) and session.row("flow_left")[0] and flows.work(session):
                        session.unfinished = True
                    # A lone write has learnt by now whether there are rules, and moves nothing where there are none.
                    if session.caps.rules or not lone:
                        lines.balance(session)
                    # What lone writes have left is for one that adds something itself: a claim is in a hurry.
                    adds = not lone and bool(session.sums.places or session.sums.wanted)
                    if adds:
                        add_up(session)
                with translate(self._path, committing=True):
                    conn.execute("COMMIT")
            except BaseException:
                # SQLite has rolled back by itself after some errors.
                if conn.in_transaction:
                    with suppress(apsw.Error):
                        conn.execute("ROLLBACK")
                session.tallies.forget()
                raise
            if lone:
                carry(session)
            elif adds:
                session.carried.clear()
            took = time.monotonic() - began
        # A slow one counts at once, fast ones little by little.
        self._pace = (
            took if took > self._pace or self._pace == float("inf") else self._pace + (took - self._pace) / 4
        )
        return values

    def _deliver(self, answers: list[_Answer]) -> None:
        """Wake the loop, once for all of ``answers``."""
        self._call(partial(_resolve, answers))

    def _call(self, do: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(do)
        except RuntimeError:
            # The loop was closed without closing the store: nobody waits any more.
            return


def _broken(path: str, error: Exception) -> OutcomeUnknown:
    """What is said to those who were not answered before a turn of the thread broke."""
    unknown = OutcomeUnknown(
        f"Work on {path} broke off ({error}): what was asked for may or may not have been done."
    )
    unknown.__cause__ = error
    return unknown


def _resolve(answers: list[_Answer]) -> None:
    for answer in answers:
        if answer.future.done():
            continue
        if answer.error is not None:
            answer.future.set_exception(answer.error)
        else:
            answer.future.set_result(answer.value)
