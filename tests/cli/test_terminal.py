r"""Nothing that comes out of a store can command the terminal it is shown on: escape sequences, C1 controls, text that turns direction.

The store here is one that somebody wrote into past every check, so that no check but the last one is left: what is shown is harmless.
"""

from __future__ import annotations

import json

import apsw
import msgspec
import pytest

from forebay import App
from forebay.cli.exits import Exit
from tests.cli.kit import Cli, Work, process

EVIL = "a\x1b[31mb\x1b]0;c\x07d\x9b2Je\rf\u202eg\x08"
HARMLESS = {"\n"}


@pytest.fixture
def poisoned(store: str, cli: Cli, work: Work) -> str:
    """A store with one message of each fate, and every text in it hostile."""
    cli("send", "stumble", EVIL, "--queue", "mail", "--key", "k")
    cli("send", "greet", EVIL, "--queue", "mail")
    work(2)
    cli("send", "greet", "x", "--queue", "mail", "--delay", "1h")
    cli("send", "greet", "x", "--queue", "mail")
    with apsw.Connection(store.removeprefix("sqlite:///")) as conn:
        conn.execute(
            """
            UPDATE message SET id = id || :e, name = name || :e, key = :e, headers = json_object('h' || :e, :e),
                unique_key = NULL, content_type = NULL;
            UPDATE message SET content_type = 'text/' || :e WHERE seq = 1;
            UPDATE entry SET id = id || :e, queue = 'mail' || :e;
            UPDATE try SET worker = :e;
            UPDATE try SET error = json_object('type', 'T' || :e, 'message', 'M' || :e, 'traceback', 'File' || :e)
                WHERE error IS NOT NULL;
            """,
            {"e": EVIL},
        )
    conn.close()
    return store


@pytest.fixture
def running(store: str) -> str:
    """A store with a message at work that says something hostile of its progress."""
    with App(store) as app:
        handle = app.send_sync("greet", "x", queue="mail")
    with apsw.Connection(store.removeprefix("sqlite:///")) as conn:
        conn.execute(
            """
            UPDATE entry SET state = 'running', started = created;
            INSERT INTO progress (entry, share, note, overdue, at) SELECT seq, 0.5, :e, 1, created + 1 FROM entry;
            """,
            {"e": EVIL},
        )
    conn.close()
    return handle.id


def harmless(said: str) -> None:
    bad = {c for c in said if not c.isprintable()} - HARMLESS
    assert not bad, f"{bad} in {said!r}"


COMMANDS = [
    ("task", "list"),
    ("task", "list", "--json"),
    ("task", "list", "--limit", "1"),
    ("dead", "list"),
    ("dead", "list", "--json"),
    ("dead", "retry", "--all", "--dry-run"),
    ("dead", "retry", "--all", "--dry-run", "--json"),
    ("queue", "list"),
    ("queue", "list", "--json"),
    ("queue", "show", "mail" + EVIL),
    ("queue", "show", EVIL),
    ("top", "--once"),
    ("top", "--once", "--json"),
    ("doctor",),
    ("doctor", "--json"),
    ("task", "show", EVIL),
    ("task", "wait", EVIL),
    ("task", "cancel", EVIL),
    ("send", EVIL),
    ("publish", EVIL, "{}"),
    ("send", "greet", "--queue", EVIL),
    ("send", "greet", "--id", EVIL),
    ("send", "greet", "--url", f"sqlite:///{EVIL}/x"),
    ("task", "list", "--state", EVIL),
    ("task", "list", "--cursor", EVIL),
    (EVIL,),
    ("task", f"--{EVIL}"),
]


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: ascii(" ".join(words)))
def test_no_command_shows_anything_that_a_terminal_would_obey(
    words: tuple[str, ...], poisoned: str, cli: Cli
) -> None:
    answer = cli(*words)

    assert answer.out + answer.err
    harmless(answer.out)
    harmless(answer.err)


def test_a_worker_that_finds_no_app_of_that_name_says_so_harmlessly() -> None:
    with process("worker", EVIL) as child:
        out, err = child.communicate(timeout=20)

    assert (child.returncode, out) == (Exit.USAGE, "")
    harmless(err)


@pytest.mark.parametrize("command", ["show", "wait", "cancel"])
@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
def test_what_is_shown_of_one_message_is_harmless_too(
    command: str, form: tuple[str, ...], poisoned: str, cli: Cli
) -> None:
    ids = [record["id"] for record in cli("task", "list", "--json").document]
    assert len(ids) == 4
    assert all(id_.endswith(EVIL) for id_ in ids), "a program reads what is there"
    timeout = ("--timeout", "10ms") if command == "wait" else ()
    for id_ in ids:
        answer = cli("task", command, id_, *form, *timeout)
        harmless(answer.out)
        harmless(answer.err)


def test_a_note_of_progress_is_harmless(running: str, cli: Cli) -> None:
    for words in (("list",), ("list", "--json"), ("show", running), ("show", running, "--json")):
        said = cli("task", *words)
        assert said.code == Exit.OK
        assert "50%" in said.out or "0.5" in said.out
        harmless(said.out)


def test_json_says_the_same_in_harmless_letters(poisoned: str, cli: Cli) -> None:
    said = cli("dead", "list", "--json").out
    (record,) = json.loads(said)

    assert record == msgspec.json.decode(said)[0]
    assert record["tries"][0]["error"]["message"] == f"M{EVIL}"
