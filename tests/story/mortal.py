"""A whole program that dies at a named point: it sends, works and stops in order, unless SIGKILL comes first.

Run as a program it is told by its arguments where and at which hit of that point. Imported, it is the same App without the deaths, with
which a test goes on where the program ended. The points are put around the methods of Forebay here: there are none in Forebay.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial, wraps
from pathlib import Path
from typing import Any

from forebay import App, Call, Context, Dead, State, Timing
from forebay.engine import Ask, Settlement, Source
from forebay.model import verdict as v
from forebay.runtime.runner import Runner
from forebay.runtime.settler import Settler
from forebay.runtime.worker import Worker, WorkerOptions
from forebay.stores.sqlite import checkpoint, connection, publish, settle
from forebay.stores.sqlite.checkpoint import Checkpoints
from forebay.stores.sqlite.claim import Claim
from forebay.stores.sqlite.thread import DatabaseThread
from forebay.support.clock import SystemClock
from forebay.support.ids import new_token
from forebay.testing.clock import eventually
from forebay.testing.history import Log, Op, Outcome, Witness

ORDERS = 12
SLOTS = 4
SHORT = Timing(lease=500_000, heartbeat=50_000, sweep=50_000, crashes=100)
"""Of the program that dies: what it held is free again soon."""
LONG = Timing(lease=10_000_000, heartbeat=1_000_000, sweep=50_000, crashes=100)
"""Of the one that goes on: nothing it holds is lost."""


class Points:
    """How often each was hit; at the one that was asked for, the end."""

    def __init__(self) -> None:
        self._fatal, self._left = "", 0

    def doom(self, point: str, at: int) -> None:
        self._fatal, self._left = point, at

    def hit(self, point: str) -> None:
        if point == self._fatal:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


points = Points()


def let_die(program: str, file: Path, point: str, at: int) -> None:
    """Let a program of ours live on a store in ``file``, its history ``h`` beside it, until it dies when it comes to ``point`` for the
    ``at``-th time.
    """
    command = [sys.executable, "-m", program, f"sqlite:///{file}", str(file.with_name("h")), point, str(at)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, timeout=40, check=False)  # our own program
    assert done.returncode == -signal.SIGKILL, f"it was to die there, and did not: {done.stderr.decode()}"


def shop(url: str, witness: Witness, timing: Timing) -> App:
    """Orders that send a charge with their success; charges that fail once; what is dead at once; what is due later."""

    async def noted(call: Call, ctx: Context) -> object:
        lease = ctx.delivery.token
        witness.saw(Op.START, ctx.id, lease=lease, attempt=ctx.attempt)
        try:
            answer = await call(ctx)
        except BaseException:
            witness.saw(Op.FINISH, ctx.id, lease=lease, outcome=Outcome.FAIL)
            raise
        witness.saw(Op.FINISH, ctx.id, lease=lease)
        return answer

    app = App(url, middleware=[noted], timing=timing)

    @app.task(backoff="5ms", backoff_cap="10ms")
    async def charge(ctx: Context, order: int) -> int:
        if order % 2 == 0 and ctx.attempt == 1:
            raise ConnectionError("the provider is away")
        witness.saw(Op.EFFECT, ctx.id)
        return order

    @app.task
    async def place(ctx: Context, order: int) -> None:
        ctx.send(charge.bind(order))
        witness.saw(Op.EFFECT, ctx.id)
        await asyncio.sleep(0.002)  # noqa: TID251  # stands for work
        points.hit("handler inside")
        await asyncio.sleep(0.002)  # noqa: TID251  # stands for work

    @app.task
    async def refuse(ctx: Context) -> None:
        raise Dead("it is hopeless")

    @app.task
    async def later(ctx: Context) -> None:
        witness.saw(Op.EFFECT, ctx.id)

    @app.task
    async def linger(ctx: Context) -> None:
        await asyncio.sleep(30)  # noqa: TID251  # stands for work that outlasts the stop

    return app


async def send_all(app: App, witness: Witness) -> None:
    """Some one by one, the rest at once; each is noted when its answer is there."""
    place = app.named("place")
    calls = [place.bind(order) for order in range(ORDERS)]
    calls += [app.named("refuse").bind(), app.named("refuse").bind()]
    calls += [app.named("later").options(delay="60ms").bind() for _ in range(3)]
    for call in calls[:4]:
        (handle,) = await app.send_many([call])
        witness.saw(Op.SEND, handle.id)
    for handle in await app.send_many(calls[4:]):
        witness.saw(Op.SEND, handle.id)


async def is_quiet(app: App) -> bool:
    """Whether all that is stored has ended."""
    counts = await app.count()
    return all(
        state in (State.SUCCEEDED, State.DEAD)
        for queue in counts.queues
        for state, number in queue.states.items()
        if number
    )


async def _abandon(url: str, witness: Witness) -> None:
    """Somebody who took work and was never heard of again, so that there is something to sweep."""
    app = shop(url, witness, Timing(lease=3_000, heartbeat=1_000, sweep=1_000, crashes=100))
    async with app:
        store = app.plant().engine.connect("abandoned", SystemClock())
        try:
            await store.declare([])
            await store.receive([Ask(Source(queue="default"), new_token(), 2)], wait=0)
        finally:
            await store.close()


async def _live(url: str, witness: Witness) -> None:
    app = shop(url, witness, SHORT)
    async with app:
        await send_all(app, witness)
        await _abandon(url, witness)
        worker = app.worker(WorkerOptions(concurrency=SLOTS, stop_within=50_000))
        async with asyncio.TaskGroup() as group:
            group.create_task(worker.run())
            await eventually(partial(is_quiet, app), within=20)
            await app.send_many([app.named("linger").bind() for _ in range(2)])
            await eventually(lambda: worker.load["running"] == 2, within=20)
            worker.stop()


# -- where the points are


def _kinds(works: list[Callable[..., Any]]) -> Iterator[str]:
    """What a transaction is about to do."""
    for work in works:
        owner = getattr(work, "__self__", None)
        if isinstance(owner, Claim):
            yield "claim"
            now = SystemClock().now()
            if any(sight.due is not None and sight.due <= now for sight in owner._sights):
                yield "promote"
            continue
        name = getattr(getattr(work, "func", None), "__name__", "")
        yield {"admit": "send"}.get(name, name)
        if isinstance(work, partial) and name == "settle":
            yield from _verdicts(work.keywords["settlements"])


def _verdicts(settlements: list[Settlement]) -> Iterator[str]:
    names = {v.Retry: "retry", v.Dead: "dead", v.Release: "release", v.Snooze: "snooze"}
    for settlement in settlements:
        if settlement.then:
            yield "follow"
        if (name := names.get(type(settlement.verdict))) is not None:
            yield name


def _around(owner: type, method: str, point: str) -> None:
    plain = getattr(owner, method)

    @wraps(plain)
    def mortal(*args: Any, **kwargs: Any) -> Any:
        points.hit(f"{point} before")
        answer = plain(*args, **kwargs)
        points.hit(f"{point} after")
        return answer

    setattr(owner, method, mortal)


def _commits() -> None:
    plain = DatabaseThread._commit

    def mortal(
        self: DatabaseThread, session: Any, works: list[Callable[..., Any]], *, lone: bool = False
    ) -> list[Any]:
        kinds = list(dict.fromkeys(_kinds(works)))

        def hit(when: str) -> None:
            for kind in kinds:
                points.hit(f"{kind} {when}")

        hit("before")
        values = plain(self, session, [*works, lambda _: hit("worked")], lone=lone)
        hit("after")
        return values[:-1]

    DatabaseThread._commit = mortal  # type: ignore[method-assign]  # a planted death
    inner = publish.publish

    def between(*args: Any) -> Any:
        points.hit("follow between")
        return inner(*args)

    vars(settle)["publish"] = between  # between a success and what follows from it


def _opening() -> None:
    plain = connection._migrate

    def mortal(conn: Any, version: int) -> None:
        points.hit("migrate before")

        def committing() -> bool:
            points.hit("migrate worked")
            return False

        conn.set_commit_hook(committing)
        plain(conn, version)
        conn.set_commit_hook(None)
        points.hit("migrate after")

    connection._migrate = mortal


def _checkpoints() -> None:
    checkpoint.STEP = 8  # type: ignore[misc]  # often enough to be met
    _around(connection.Connection, "wal_checkpoint", "checkpoint")
    _around(Checkpoints, "close", "close")


def _all_points() -> None:
    _commits()
    _opening()
    _checkpoints()
    _around(Runner, "_start", "start")
    _around(Settler, "submit", "submit")
    _around(Worker, "_drain", "drain")
    _around(Worker, "_last_settle", "last settle")


def main() -> None:
    url, history, fatal, at = sys.argv[1:]
    points.doom(fatal, int(at))
    _all_points()
    asyncio.run(_live(url, Witness(Log(Path(history)), "mortal", SystemClock())))


if __name__ == "__main__":
    main()
