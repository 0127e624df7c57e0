"""`forebay doctor`: what it says of a healthy installation, and of broken ones."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import apsw
import pytest

from forebay import App
from forebay.cli.exits import Exit
from forebay.model.checkup import Grade
from forebay.stores.sqlite import SqliteEngine, checkup as room
from tests.cli.kit import Cli, Work

NOBODY: Final = 65_534
SHOP = """
from forebay import App

app = App()


@app.task(queue="mail")
async def greet(name: str) -> str: ...
"""


def checks(cli: Cli, *words: str) -> dict[str, dict[str, Any]]:
    answer = cli("doctor", *words, "--json")
    found = {one["name"]: one for one in answer.document["checks"]}
    failed = any(one["status"] == Grade.FAIL for one in found.values())
    assert answer.code == (Exit.FAILED if failed else Exit.OK)
    for one in found.values():
        assert (one["fix"] is not None) >= (one["status"] in (Grade.WARN, Grade.FAIL)), one
    return found


def grades(cli: Cli, *words: str) -> dict[str, str]:
    return {name: one["status"] for name, one in checks(cli, *words).items()}


def change(store: str, sql: str) -> None:
    with apsw.Connection(store.removeprefix("sqlite:///")) as conn:
        conn.execute(sql)
    conn.close()


def send(store: str, *names: str, queue: str = "mail") -> None:
    with App(store) as app:
        for name in names:
            app.send_sync("greet", name, queue=queue)


@pytest.fixture(autouse=True)
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's disk is not the matter here."""
    monkeypatch.setattr(room, "LEAST_ROOM", 0)
    monkeypatch.setattr(room, "LITTLE_ROOM", 0)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of its own for each test: an import is remembered."""
    name = f"shop_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(SHOP)
    monkeypatch.syspath_prepend(str(tmp_path))
    return f"{name}:app"


def test_a_healthy_installation_has_nothing_but_ok(store: str, shop: str, cli: Cli) -> None:
    found = grades(cli, shop)

    assert {name for name, grade in found.items() if grade != Grade.OK} <= {"uvloop", "file system"}
    assert set(found) >= {"python", "settings", "app", "engine", "sqlite", "file", "mode", "owner", "disk", "log", "lock"}  # fmt: skip
    assert set(found) >= {"signals", "format", "journal", "synchronous", "integrity", "leases", "clock", "backlog"}  # fmt: skip
    assert set(found) >= {"dead letters", "paused", "handlers"}


def test_people_get_a_line_for_each_and_what_to_do(store: str, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "jobs.db").chmod(0o644)

    lines = cli("doctor").out.splitlines()

    at = next(number for number, line in enumerate(lines) if line.startswith("warn     mode"))
    assert lines[at].endswith("0644: others may reach into the messages")
    assert (
        lines[at + 1].strip() == f"-> chmod 600 {tmp_path / 'jobs.db'}, if no other user's process shares it."
    )
    assert lines[-1].endswith("skipped")
    assert " 1 warn, 0 fail, " in lines[-1]


def test_it_makes_no_file_that_is_not_there(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREBAY_URL", "sqlite:///none.db")

    found = grades(cli)

    assert (found["file"], found["contents"], found["queues"]) == (Grade.WARN, Grade.SKIPPED, Grade.SKIPPED)
    assert list(tmp_path.iterdir()) == []


def test_it_changes_nothing_in_the_file(store: str, cli: Cli, tmp_path: Path) -> None:
    send(store, "Ada")
    before = (tmp_path / "jobs.db").read_bytes()

    cli("doctor", "--deep")

    assert (tmp_path / "jobs.db").read_bytes() == before


@pytest.mark.parametrize(
    ("variable", "text", "word"),
    [
        ("FOREBAY_HEARTBEAT", "20s", "three heartbeats"),
        ("FOREBAY_MAX_MEMORY", "5X", "number of bytes"),
        ("FOREBAY_MAX_TASKS", "-1", "max_tasks"),
        ("FOREBAY_HEALTH", "99999", "port"),
        ("FOREBAY_LEASE", "soon", "not a duration"),
        ("FOREBAY_CONCURRENCY", "many", "whole number"),
        ("FOREBAY_QUEUES", "a,a", "twice"),
        ("FOREBAY_LOG_LEVEL", "loud", "log_level must be one of"),
    ],
)
def test_settings_that_cannot_be_fail(
    variable: str, text: str, word: str, store: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, text)

    found = checks(cli)

    assert found["settings"]["status"] == Grade.FAIL
    assert word in found["settings"]["text"]
    assert found["integrity"]["status"] == Grade.OK


def test_a_misspelt_variable_is_noticed(store: str, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOREBAY_LAESE", "1m")

    assert "FOREBAY_LAESE" in checks(cli)["settings"]["text"]


@pytest.mark.parametrize("url", ["nonsense", "postgresql://db/jobs"])
def test_an_engine_nobody_knows_fails_and_ends_it(url: str, cli: Cli) -> None:
    found = checks(cli, "--url", url)

    assert found["engine"]["status"] == Grade.FAIL
    assert list(found)[-1] == "engine"


def test_memory_has_nothing_to_look_at(cli: Cli) -> None:
    assert grades(cli, "--url", "memory://")["contents"] == Grade.SKIPPED


@pytest.mark.parametrize("module", ["", "raise OSError('no harbour')", "app = 7"])
def test_an_app_that_cannot_work_fails(
    module: str, store: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"broken_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(module)
    monkeypatch.syspath_prepend(str(tmp_path))

    found = grades(cli, f"{name}:app")

    assert (found["app"], found["engine"]) == (Grade.FAIL, Grade.SKIPPED)
    assert list(found)[-1] == "engine"


def test_an_app_brings_its_own_engine(store: str, shop: str, cli: Cli) -> None:
    assert cli("doctor", shop, "--url", store).code == Exit.USAGE


def test_a_directory_that_is_not_there_fails(cli: Cli) -> None:
    found = checks(cli, "--url", "sqlite:///no/where.db")

    assert found["file"]["status"] == Grade.FAIL
    assert found["file"]["fix"].startswith("Create it")


def test_a_damaged_file_fails(store: str, cli: Cli, tmp_path: Path) -> None:
    size = (tmp_path / "jobs.db").stat().st_size
    assert size > 8192
    with (tmp_path / "jobs.db").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))

    found = grades(cli)

    assert Grade.FAIL in (found.get("integrity"), found.get("contents"))
    assert found["queues"] == Grade.SKIPPED


def test_what_is_no_database_fails(store: str, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "jobs.db").write_bytes(b"hello " * 2000)

    found = checks(cli)

    assert found["contents"]["status"] == Grade.FAIL
    assert found["contents"]["fix"].startswith("Restore it")


def test_a_file_of_another_program_fails(cli: Cli, tmp_path: Path) -> None:
    change("sqlite:///other.db", "CREATE TABLE mine (a)")

    assert grades(cli, "--url", "sqlite:///other.db")["format"] == Grade.FAIL


def test_a_newer_schema_fails(store: str, cli: Cli) -> None:
    change(store, "PRAGMA user_version = 99")

    found = checks(cli)["format"]

    assert (found["status"], "99" in found["text"]) == (Grade.FAIL, True)


def test_a_file_that_lacks_a_table_fails(store: str, cli: Cli) -> None:
    change(store, "DROP TABLE lease")

    found = checks(cli)

    assert "no such table: lease" in found["contents"]["text"]
    assert found["queues"]["status"] == Grade.SKIPPED


def test_a_lock_that_somebody_keeps_fails(
    store: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "PATIENCE", 0.01)
    with (tmp_path / "jobs.db.lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)

        found = checks(cli)

    assert (found["lock"]["status"], "stopped or stuck" in found["lock"]["fix"]) == (Grade.FAIL, True)
    # Reading takes no lock; what could only wait is left out.
    assert (found["integrity"]["status"], found["queues"]["status"]) == (Grade.OK, Grade.SKIPPED)


def test_sockets_of_killed_processes_are_noticed(
    store: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    # By a short way: an address has room for about a hundred bytes.
    monkeypatch.chdir("jobs.db.wake")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as left:
        left.bind("r-1-left")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind("r-2-heard")

        found = checks(cli)["signals"]

    assert (found["status"], found["text"].startswith("1 of 2 ")) == (Grade.WARN, True)


@pytest.mark.parametrize(("query", "grade"), [("", Grade.FAIL), ("?network=allow", Grade.WARN)])
def test_a_network_file_system_is_named(
    query: str, grade: Grade, store: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "filesystem", lambda _: "nfs4")

    assert grades(cli, "--url", f"{store}{query}")["file system"] == grade


def test_a_full_disk_fails(store: str, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "LITTLE_ROOM", 1 << 62)
    assert grades(cli)["disk"] == Grade.WARN

    monkeypatch.setattr(room, "LEAST_ROOM", 1 << 62)
    assert grades(cli)["disk"] == Grade.FAIL


def test_a_long_log_is_noticed(store: str, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "LONG_LOG", -1)

    assert grades(cli)["log"] == Grade.WARN


def test_a_large_file_is_read_through_only_when_asked(
    store: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "QUICK_SIZE", 0)

    assert grades(cli)["integrity"] == Grade.SKIPPED
    assert grades(cli, "--deep")["integrity"] == Grade.OK


@pytest.mark.parametrize(
    ("version", "grade"), [("3.40.1", Grade.WARN), ("3.51.2", Grade.WARN), ("3.51.3", Grade.OK)]
)
def test_a_library_with_the_known_fault_is_named(version: str, grade: Grade) -> None:
    assert room._library(version).grade is grade


def test_leases_that_nobody_takes_back_are_noticed(store: str, cli: Cli) -> None:
    change(store, "INSERT INTO lease (token, worker, until, held, entries) VALUES ('t', 'w', 1, 0, '[]')")

    assert checks(cli)["leases"]["text"].startswith("1 over: ")


def test_messages_from_the_future_are_noticed(store: str, cli: Cli) -> None:
    send(store, "Ada")
    assert grades(cli)["clock"] == Grade.OK

    change(store, "UPDATE entry SET created = created + 3600000000")

    assert checks(cli)["clock"]["text"].startswith("messages were stored 3,6")


def test_a_queue_without_a_handler_is_noticed(store: str, shop: str, cli: Cli) -> None:
    send(store, "Ada")
    assert grades(cli, shop)["handlers"] == Grade.OK

    send(store, "Bob", queue="male")

    found = checks(cli, shop)["handlers"]
    assert (found["status"], found["text"].startswith("male:")) == (Grade.WARN, True)


def test_a_pause_is_noticed(store: str, shop: str, cli: Cli) -> None:
    send(store, "Ada")
    cli("queue", "pause", "mail")

    found = checks(cli, shop)

    assert found["paused"]["fix"] == found["handlers"]["fix"] == "forebay queue resume mail"


def test_an_old_backlog_and_dead_letters_are_noticed(store: str, cli: Cli, work: Work) -> None:
    cli("send", "give_up", "--queue", "mail")
    work(1)
    send(store, "Ada")
    change(store, "UPDATE entry SET ready_since = ready_since - 3600000000 WHERE state = 'ready'")

    found = checks(cli)

    assert (found["dead letters"]["status"], found["backlog"]["status"]) == (Grade.WARN, Grade.WARN)
    assert "in mail, for 1h" in found["backlog"]["text"]


def test_a_directory_that_may_not_be_written_fails() -> None:
    """As somebody else, where the superuser runs the tests: the superuser may do everything."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "fixed.db"
        path.touch(0o600)
        path.chmod(0o666)
        Path(folder).chmod(0o555)
        engine, was = SqliteEngine(path), os.geteuid()
        if was == 0:
            os.seteuid(NOBODY)
        try:
            found = {one.name: one for one in engine.checkup(0)}
        finally:
            os.seteuid(was)
            Path(folder).chmod(0o700)

    assert found["file"].grade is Grade.FAIL
    assert "may not be written" in found["file"].text
