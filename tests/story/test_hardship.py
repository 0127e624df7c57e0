"""A worker that is stopped past its lease, and one whose disk is full: real processes, which come through by themselves."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import threading
from pathlib import Path

import pytest

from forebay import State
from forebay.cli.exits import Exit
from forebay.stores.sqlite.lock import FileLock
from forebay.testing.clock import eventually
from tests.cli.kit import process
from tests.story.test_supervisor import done, everything, notes, opened, supervised

HELD = 5
ROOM = 65_536
"""Bytes a file of the worker may have: less than the database's log has already."""


def is_stopped(pid: int) -> bool:
    """With all its threads: it takes a moment until the last one has heard of it."""
    return all("\nState:\tT" in one.read_text() for one in Path(f"/proc/{pid}/task").glob("*/status"))


@pytest.fixture
def short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"LEASE": "1500ms", "HEARTBEAT": "300ms", "SWEEP": "200ms"}.items():
        monkeypatch.setenv(f"FOREBAY_{name}", value)


def test_a_process_stopped_past_its_leases_settles_nothing_and_works_on_when_it_is_continued(
    short_leases: None, tmp_path: Path
) -> None:
    async def story() -> None:
        async with opened(tmp_path) as app:
            with supervised(tmp_path, "yard:app") as frozen:
                handles = [await app.named("wait").send(str(tmp_path)) for _ in range(HELD)]
                await eventually(lambda: len(notes(tmp_path)) == HELD, within=25)
                # Not while it writes: all would wait for it.
                with FileLock(f"{tmp_path / 'story.db'}.lock", threading.Lock()).held():
                    os.kill(frozen.process.pid, signal.SIGSTOP)
                    await eventually(lambda: is_stopped(frozen.process.pid), within=25)

                with supervised(tmp_path, "yard:app", log="other.log") as heir:
                    await eventually(lambda: len(notes(tmp_path)) == 2 * HELD, within=25)
                    (tmp_path / "go").touch()
                    results = [await handle.result(25) for handle in handles]
                    assert heir.stop() == Exit.OK

                os.kill(frozen.process.pid, signal.SIGCONT)

                async def told() -> bool:
                    stale = (await app.count()).counters.get("stale", 0)
                    return stale + frozen.said.count("lease.lost task=wait") == HELD

                await eventually(told, within=25)
                assert await app.named("wait").send(str(tmp_path)) is not None
                await eventually(lambda: done(app, HELD + 1), within=25)
                assert frozen.stop() == Exit.OK
            records = await everything(app)
            assert [await handle.result(1) for handle in handles] == results

        assert frozen.process.pid not in results, "the late results count for nothing"
        assert {record.state for record in records} == {State.SUCCEEDED}
        assert sorted(record.crashes for record in records) == [0] + [1] * HELD
        assert sum(record.attempts for record in records) == HELD + 1

    asyncio.run(story())


def test_a_worker_whose_disk_is_full_waits_and_goes_on_by_itself_when_there_is_room(
    short_leases: None, tmp_path: Path
) -> None:
    async def story() -> None:
        async with opened(tmp_path) as app:
            await app.named("nobody", "elsewhere").send("x" * 4 * ROOM)
            with supervised(tmp_path, "yard:app") as crew:
                pid = crew.process.pid
                handles = [await app.named("wait").send(str(tmp_path)) for _ in range(HELD)]
                await eventually(lambda: len(notes(tmp_path)) == HELD, within=25)
                was = resource.prlimit(pid, resource.RLIMIT_FSIZE, (ROOM, resource.RLIM_INFINITY))
                (tmp_path / "go").touch()
                more = await app.send_many(app.named("quick").bind() for _ in range(20))
                await eventually(lambda: "settle.waits" in crew.said, within=25)
                await eventually(lambda: "receive.waits" in crew.said, within=25)
                assert not await done(app, 1)

                resource.prlimit(pid, resource.RLIMIT_FSIZE, was)

                assert [await handle.result(25) for handle in handles] == [pid] * HELD
                for handle in more:
                    await handle.result(25)
                assert crew.stop() == Exit.OK
                said = crew.said
            records = [record for record in await everything(app) if record.queue != "elsewhere"]

        assert {record.state for record in records} == {State.SUCCEEDED}
        assert len(records) == HELD + 20
        assert "Traceback" not in said
        assert "was stored" in said or "was changed" in said or "be stored" in said, said

    asyncio.run(story())


def test_a_sender_whose_disk_is_full_is_told_what_and_what_to_do(tmp_path: Path) -> None:
    async def story() -> tuple[int, str, int]:
        async with opened(tmp_path) as app:
            await app.named("nobody", "elsewhere").send("x" * 4 * ROOM)
            with process(
                "send", "quick", "--url", f"sqlite:///{tmp_path / 'story.db'}", preexec_fn=_small
            ) as sender:
                _, said = sender.communicate(timeout=20)
            return sender.returncode, said, len(await everything(app))

    code, said, stored = asyncio.run(story())

    assert (code, stored) == (Exit.UNKNOWN, 1)
    assert said.startswith("forebay: Writing to ")
    assert said.count("\n") == 1
    assert "story.db" in said
    assert "Repeat the command with --id" in said


def _small() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, resource.RLIM_INFINITY))
