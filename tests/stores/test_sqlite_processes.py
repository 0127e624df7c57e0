"""Several processes on one SQLite file: no message twice, none lost, a killed writer in nobody's way, and no waiting for a poll."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import apsw

from forebay.engine import Ask, Source
from forebay.model.message import Message
from forebay.model.state import State
from forebay.stores.sqlite import SqliteEngine
from forebay.support.clock import SystemClock
from forebay.support.ids import Ids, new_token

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.engine import Store

MAIL = Source(queue="mail")

CLAIMER = """
import asyncio, json, sys
from forebay.support.clock import SystemClock
from forebay.engine import Ask, Settlement, Source
from forebay.support.ids import new_token
from forebay.model.verdict import Done
from forebay.stores.sqlite import SqliteEngine

async def main(path, name):
    store, source, taken = SqliteEngine(path).connect(name, SystemClock()), Source(queue="mail"), []
    await store.declare([source])
    print("here", flush=True)
    sys.stdin.readline()
    while batch := await store.receive([Ask(source, new_token(), 20)], wait=2_000_000):
        taken += [d.id for d in batch]
        assert set(await store.settle([Settlement(d, Done()) for d in batch])) == {"ok"}
    await store.close()
    print(json.dumps(taken))

asyncio.run(main(*sys.argv[1:]))
"""

STUCK = """
import asyncio, sys, time
from forebay.support.clock import SystemClock
from forebay.engine import Source
from forebay.support.ids import Ids
from forebay.model.message import Message
from forebay.stores.sqlite import SqliteEngine
from forebay.stores.sqlite.publish import publish

async def main(path):
    store, ids = SqliteEngine(path).connect("doomed", SystemClock()), Ids()
    await store.declare([Source(queue="mail")])

    def work(session):
        publish(session, [Message(id=ids.message(), name="t", queue="mail", body=b"x" * 9000) for _ in range(2000)])
        print("inside", flush=True)
        sys.stdin.read()

    await store._thread().submit(work=work)

asyncio.run(main(*sys.argv[1:]))
"""

LISTENER = """
import asyncio, sys, time
from forebay.support.clock import SystemClock
from forebay.engine import Ask, Settlement, Source
from forebay.support.ids import new_token
from forebay.model.verdict import Done
from forebay.stores.sqlite import SqliteEngine

async def main(path, times):
    store, source = SqliteEngine(path).connect("listener", SystemClock()), Source(queue="mail")
    await store.declare([source])
    watching = store.watch(__import__("forebay.engine").engine.Ready("mail"))
    await anext(watching)
    print("listening", flush=True)
    for _ in range(int(times)):
        (taken,) = await store.receive([Ask(source, new_token(), 1)], wait=30_000_000)
        print(time.time_ns() // 1000, flush=True)
        await store.settle([Settlement(taken, Done())])
    await watching.aclose()
    await store.close()

asyncio.run(main(*sys.argv[1:]))
"""

SENDER = """
import asyncio, sys
from forebay import App, Debounce, Unique

async def main(path, name):
    app, answers = App(f"sqlite:///{path}"), []

    @app.task(gather="1h", gather_max=7)
    async def add(numbers: list[int]) -> None: ...

    job = app.named("job")
    async with app:
        print("here", flush=True)
        sys.stdin.readline()
        for n in range(30):
            answers.append(await job.options(throttle="1h").send(1))
            answers.append(await job.options(unique=True).send(2))
            await job.options(debounce=Debounce("1h"), key="k").send(n)
            await add.options(key="k").send(n)
    print(sum(not answer.duplicate for answer in answers))

asyncio.run(main(*sys.argv[1:]))
"""


def start(code: str, *args: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def messages(n: int) -> list[Message]:
    ids = Ids()
    return [Message(id=ids.message(), name="t", queue="mail") for _ in range(n)]


async def opened(path: Path) -> Store:
    store = SqliteEngine(path).connect("parent", SystemClock())
    await store.declare([MAIL])
    return store


def test_processes_that_claim_at_once_never_share_a_message(tmp_path: Path) -> None:
    async def story() -> None:
        path = tmp_path / "shared.db"
        store = await opened(path)
        sent = messages(3_000)
        await store.publish(sent[:1_500])
        claimers = [start(CLAIMER, path, f"worker-{n}") for n in range(4)]
        for claimer in claimers:
            assert await asyncio.to_thread(line, claimer) == "here"
        for claimer in claimers:
            assert claimer.stdin is not None
            claimer.stdin.write("go\n")
            claimer.stdin.flush()
        for batch in range(1_500, 3_000, 100):
            await store.publish(sent[batch : batch + 100])

        taken = [json.loads((await asyncio.to_thread(claimer.communicate))[0]) for claimer in claimers]

        found = sorted(key for one in taken for key in one)
        assert found == sorted(m.id for m in sent)
        assert sum(map(bool, taken)) >= 2
        (queue,) = (await store.count()).queues
        assert queue.states == {State.SUCCEEDED: 3_000}
        await store.close()

    asyncio.run(story())


def test_a_process_killed_inside_a_transaction_is_in_nobodys_way(tmp_path: Path) -> None:
    async def story() -> None:
        path = tmp_path / "killed.db"
        store = await opened(path)
        await store.publish(messages(3))
        doomed = start(STUCK, path)
        assert await asyncio.to_thread(line, doomed) == "inside"

        waiting = asyncio.get_running_loop().create_task(store.publish(messages(1)))
        doomed.send_signal(signal.SIGKILL)
        doomed.communicate()

        await asyncio.wait_for(waiting, 10)
        taken = await store.receive([Ask(MAIL, new_token(), 5_000)], wait=0)
        assert len(taken) == 4
        await store.close()
        check = apsw.Connection(str(path))
        assert check.pragma("integrity_check") == "ok"
        check.close()

    asyncio.run(story())


def test_work_from_another_process_wakes_long_before_the_poll(tmp_path: Path) -> None:
    async def story() -> None:
        path = tmp_path / "wake.db"
        store = await opened(path)
        listener = start(LISTENER, path, 9)
        assert await asyncio.to_thread(line, listener) == "listening"

        late = []
        for message in messages(9):
            sent = SystemClock().now()
            await store.publish([message])
            late.append(int(await asyncio.to_thread(line, listener)) - sent)
        listener.communicate()
        await store.close()

        # By polling once a second the middle one would be half a second late.
        assert sorted(late)[4] < 200_000, late

    asyncio.run(story())


def test_sockets_of_the_dead_are_cleared_away(tmp_path: Path) -> None:
    async def story() -> None:
        path = tmp_path / "dead.db"
        store = await opened(path)
        listener = start(LISTENER, path, 9)
        assert await asyncio.to_thread(line, listener) == "listening"
        assert len(list((tmp_path / "dead.db.wake").iterdir())) == 1
        listener.kill()
        listener.communicate()

        await store.publish(messages(1))
        await store.close()

        assert list((tmp_path / "dead.db.wake").iterdir()) == []

    asyncio.run(story())


def test_of_the_senders_in_several_processes_one_has_the_key_and_all_gather(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    senders = [start(SENDER, path, name) for name in "abc"]
    assert [line(sender) for sender in senders] == ["here"] * 3
    for sender in senders:
        assert sender.stdin is not None
        sender.stdin.write("\n")
        sender.stdin.flush()
    stored = [int(sender.communicate(timeout=60)[0]) for sender in senders]

    with apsw.Connection(str(path)) as conn:
        names = dict(conn.execute("SELECT name, count(*) FROM entry GROUP BY name"))
        groups = [n for (n,) in conn.execute("SELECT count(*) FROM company GROUP BY head ORDER BY head")]
        open_ones = conn.execute("SELECT gathered FROM hold WHERE gathered IS NOT NULL").fetchall()
    assert sum(stored) == 2, "one that is throttled, one that is unique"
    assert names == {"job": 3, "add": 90}
    assert groups == [6] * 12 + [5]
    assert open_ones == [(6,)]
