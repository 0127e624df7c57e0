"""The file of a SQLite store: whose it is, who may read it, which version it has, and where it may lie."""

from __future__ import annotations

import asyncio
import os
import re
import stat
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import apsw
import pytest

from forebay.engine import Ask, EngineOptions, Ready, Source
from forebay.errors import EngineRefused
from forebay.model.checkup import Grade
from forebay.model.message import Message
from forebay.stores.sqlite import SqliteEngine, connection
from forebay.stores.sqlite.place import check_place, filesystem
from forebay.support.clock import SystemClock
from forebay.support.ids import Ids, new_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAIL = Source(queue="mail")
NOBODY = 65534


def opened(path: Path, *, create: bool = True) -> None:
    async def story() -> None:
        store = SqliteEngine(path, create=create).connect("worker", SystemClock())
        try:
            await store.declare([MAIL])
        finally:
            await store.close()

    asyncio.run(story())


def modes_in(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def refused(path: Path, words: str, *, create: bool = True) -> None:
    with pytest.raises(EngineRefused, match=words) as caught:
        opened(path, create=create)
    assert str(path) in str(caught.value)


def test_all_files_are_for_their_owner_only(tmp_path: Path) -> None:
    async def story() -> None:
        mask = os.umask(0)
        store = SqliteEngine(tmp_path / "own.db").connect("worker", SystemClock())
        try:
            await store.declare([MAIL])
            await store.publish([Message(id=Ids().message(), name="t", queue="mail")])
            watching = store.watch(Ready("mail"))
            await anext(watching)
            modes = modes_in(tmp_path)
            await watching.aclose()  # type: ignore[attr-defined]
        finally:
            os.umask(mask)
            await store.close()

        assert modes == {
            "own.db": 0o600,
            "own.db-wal": 0o600,
            "own.db-shm": 0o600,
            "own.db.lock": 0o600,
            "own.db.wake": 0o700,
        }

    asyncio.run(story())


def test_what_was_stored_is_there_when_the_file_is_opened_again(tmp_path: Path) -> None:
    async def story() -> None:
        message = Message(id=Ids().message(), name="t", queue="mail", body=b"\xff\0", headers={"k": "v"})
        for _ in range(2):
            store = SqliteEngine(tmp_path / "again.db").connect("worker", SystemClock())
            await store.declare([MAIL])
            await store.publish([message])
            await store.close()
        store = SqliteEngine(tmp_path / "again.db").connect("worker", SystemClock())
        await store.declare([MAIL])

        taken = await store.receive([Ask(MAIL, new_token(), 5)], wait=0)
        await store.close()

        assert [d.message for d in taken] == [message]

    asyncio.run(story())


def test_the_database_of_another_program_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    other = apsw.Connection(str(path))
    other.execute("CREATE TABLE theirs (a); INSERT INTO theirs VALUES (1)")
    other.close()
    before = path.read_bytes()

    refused(path, "another program")

    assert path.read_bytes() == before


def test_a_database_marked_by_another_program_is_refused_though_it_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "marked.db"
    other = apsw.Connection(str(path))
    other.pragma("application_id", 7)
    other.close()

    refused(path, "another program")


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "letter.db"
    path.write_bytes(b"Dear reader, " * 500)

    refused(path, "not a sound SQLite database")

    assert path.read_bytes() == b"Dear reader, " * 500


def test_a_file_of_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "newer.db"
    opened(path)
    newer = apsw.Connection(str(path))
    newer.pragma("user_version", len(connection.migrations()) + 1)
    newer.close()

    refused(path, "upgrade Forebay")


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineRefused, match="does not exist"):
        opened(tmp_path / "nowhere" / "x.db")


def test_a_directory_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "folder.db").mkdir()

    refused(tmp_path / "folder.db", "is not a file")


def away(path: Path) -> None:
    path.unlink()


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def log_left(path: Path) -> None:
    Path(f"{path}-wal").write_bytes(b"frames")
    path.unlink()


def log_left_and_lock_deleted(path: Path) -> None:
    log_left(path)
    Path(f"{path}.lock").unlink()


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (away, r"is gone, and there was a database: put it back. To begin anew, .* delete .*x\.db\.lock\."),
        (emptied, "is empty, and there was a database: put it back"),
        (log_left, r"is gone, but its log .*x\.db-wal is there and may hold messages: put the database back"),
        (log_left_and_lock_deleted, "is gone, but its log"),
    ],
)
def test_where_there_was_a_database_no_new_one_is_begun(
    harm: Callable[[Path], None], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.db"
    opened(path)
    harm(path)

    refused(path, words)
    findings = {finding.name: finding for finding in SqliteEngine(path).checkup(0)}
    assert findings["file"].grade is Grade.FAIL
    assert re.search(words.partition(":")[0], findings["file"].text)

    assert not path.exists() or not path.stat().st_size
    for name in ("x.db-wal", "x.db.lock"):
        (tmp_path / name).unlink(missing_ok=True)
    opened(path)


def test_an_empty_file_that_was_none_of_ours_becomes_a_database(tmp_path: Path) -> None:
    (tmp_path / "x.db").touch()

    opened(tmp_path / "x.db")


@pytest.mark.parametrize(
    "path", ["n" * 248, "n" * 4_000, "n" * 200 + "/" + "m" * 248 + "/x.db", "/".join(["n" * 90] * 6)]
)
def test_a_name_that_is_too_long_is_refused(path: str, tmp_path: Path) -> None:
    with pytest.raises(EngineRefused, match="is too long: a path may have 500 bytes, and a name in it 247"):
        opened(tmp_path / path)


def test_the_longest_name_works(tmp_path: Path) -> None:
    opened(tmp_path / ("n" * 247))


def test_a_missing_file_is_refused_where_none_is_to_be_created(tmp_path: Path) -> None:
    refused(tmp_path / "none.db", "no database", create=False)

    assert not (tmp_path / "none.db").exists()


@contextmanager
def as_nobody() -> Iterator[None]:
    """The superuser may write everything, so as one this is done as somebody else."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(was)


def test_a_file_that_may_not_be_written_is_refused() -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "fixed.db"
        opened(path)
        Path(folder).chmod(0o755)
        path.chmod(0o444)

        with as_nobody():
            refused(path, "may not be read and written")


MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw
30 22 0:50 / /srv rw,relatime shared:5 master:2 - nfs4 server:/export rw,vers=4.2
31 30 254:1 / /srv/local\\040disk rw - xfs /dev/vdb rw
32 22 0:60 / {place} rw - {kind} what rw
"""


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs"])
def test_a_network_file_system_is_refused_unless_it_is_allowed(kind: str, tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS.format(place=tmp_path.resolve(), kind=kind))

    with pytest.raises(EngineRefused, match=f"network file system \\({kind}\\)"):
        check_place(tmp_path / "x.db", create=True, network=False, mounts=str(mounts))

    check_place(tmp_path / "x.db", create=True, network=True, mounts=str(mounts))


def test_the_file_system_of_a_path_is_that_of_its_longest_mount_point(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS.format(place="/nowhere", kind="ext4"))

    kinds = [
        filesystem(Path(p), str(mounts)) for p in ("/x.db", "/srv/x.db", "/srv/local disk/x.db", "/srvx/x.db")
    ]

    assert kinds == ["ext4", "nfs4", "xfs", "ext4"]
    assert filesystem(Path("/x.db"), str(tmp_path / "no table")) is None


def test_a_file_opened_by_many_at_once_is_made_once(tmp_path: Path) -> None:
    async def story() -> None:
        stores = [SqliteEngine(tmp_path / "many.db").connect(f"w{n}", SystemClock()) for n in range(8)]

        await asyncio.gather(*(store.declare([MAIL]) for store in stores))
        answers = await asyncio.gather(*(store.count() for store in stores))
        await asyncio.gather(*(store.close() for store in stores))

        assert all([q.queue for q in counts.queues] == ["mail"] for counts in answers)

    asyncio.run(story())


def test_a_long_path_works_and_wakes(tmp_path: Path) -> None:
    async def story() -> None:
        folder = tmp_path.joinpath(*["a-rather-long-name-for-a-directory"] * 5)
        folder.mkdir(parents=True)
        one = SqliteEngine(folder / "long.db").connect("w1", SystemClock())
        other = SqliteEngine(folder / "long.db").connect("w2", SystemClock())
        await one.declare([MAIL])
        await other.declare([MAIL])
        watching = other.watch(Ready("mail"))
        await anext(watching)
        woken = [p.name for p in (folder / "long.db.wake").iterdir()]

        message = Message(id=Ids().message(), name="t", queue="mail")
        taken, _ = await asyncio.gather(
            other.receive([Ask(MAIL, new_token(), 1)], wait=30_000_000), one.publish([message])
        )
        await watching.aclose()  # type: ignore[attr-defined]
        await one.close()
        await other.close()

        assert [d.message for d in taken] == [message]
        assert len(woken) == 1
        assert list((folder / "long.db.wake").iterdir()) == []

    asyncio.run(story())


def test_the_options_of_two_engines_on_one_file_are_their_own(tmp_path: Path) -> None:
    assert SqliteEngine(tmp_path / "x.db", EngineOptions()).url == f"sqlite:///{tmp_path}/x.db"
