"""`forebay send` and `forebay publish`."""

from __future__ import annotations

import asyncio
import io
import sys
from pathlib import Path

import pytest

from forebay import App
from forebay.cli import send as room
from forebay.cli.exits import Exit
from forebay.errors import OutcomeUnknown
from tests.cli.kit import Cli, Work


def test_it_prints_the_id_and_nothing_else(store: str, cli: Cli) -> None:
    answer = cli("send", "greet", "Ada", "--queue", "mail")

    assert (answer.code, answer.err.count("\n")) == (Exit.OK, 1), "that nobody works on it, and no more"
    shown = cli("task", "show", answer.out.strip(), "--json").document
    assert (shown["name"], shown["queue"], shown["state"], shown["body"]) == (
        "greet",
        "mail",
        "ready",
        ["Ada"],
    )


def test_arguments_are_json_or_text(store: str, cli: Cli) -> None:
    key = cli(
        "send", "f", "7", '"7"', "[1,2]", "true", "ada@example.org", "--kw", "n=1.5", "--kw", "text=a=b"
    ).out.strip()

    shown = cli("task", "show", key, "--json").document
    assert shown["body"] == {"*": [7, "7", [1, 2], True, "ada@example.org"], "n": 1.5, "text": "a=b"}


def test_a_worker_runs_what_was_sent_by_hand(store: str, cli: Cli, work: Work) -> None:
    key = cli("send", "greet", "--kw", "name=Ada", "--queue", "mail").out.strip()

    work(1)

    assert cli("task", "show", key, "--json").document["result"] == "Hello Ada"


def test_all_options_reach_the_message(store: str, cli: Cli) -> None:
    key = cli(
        *(
            "send",
            "f",
            "--delay",
            "1h",
            "--expires",
            "2100-01-31T08:00:00Z",
            "--priority",
            "9",
            "--unique",
            "u",
        ),
        *("--key", "k", "--header", "a=b=c", "--id", "my-own-id"),
    ).out.strip()

    shown = cli("task", "show", key, "--json").document
    assert shown["id"] == key == "my-own-id"
    assert (shown["state"], shown["priority"], shown["unique"], shown["key"]) == ("scheduled", 9, "u", "k")
    assert shown["headers"] == {"a": "b=c"}
    assert shown["expires"] == "2100-01-31T08:00:00.000000Z"


def test_a_bare_number_is_seconds(store: str, cli: Cli) -> None:
    key = cli("send", "f", "--delay", "90").out.strip()

    assert cli("task", "show", key, "--json").document["state"] == "scheduled"


def test_sending_twice_with_one_id_says_so(store: str, cli: Cli) -> None:
    cli("send", "f", "--id", "once")

    again = cli("send", "f", "--id", "once")

    assert (again.code, again.out) == (Exit.OK, "once\n")
    assert "already" in again.err
    assert cli("send", "f", "--id", "once", "--json").document == {"id": "once", "duplicate": True}


def test_it_creates_the_file_only_when_told(tmp_path: Path, cli: Cli) -> None:
    assert cli("send", "f").code == Exit.ENGINE

    assert cli("send", "f", "--create").code == Exit.OK

    assert (tmp_path / "forebay.db").exists()
    assert cli("send", "f").code == Exit.OK


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["no spaces please"], "not a valid name"),
        (["f", "--queue", "a b"], "not a valid name"),
        (["f", "--kw", "novalue"], "--kw takes NAME=VALUE"),
        (["f", "--header", "=x"], "--header takes NAME=VALUE"),
        (["f", "--priority", "10"], "priority must be"),
        (["f", "--delay", "soon"], "delay is not a duration"),
        (["f", "--delay", "-5"], "delay must be between"),
        (["f", "--delay", "nan"], "delay must be between"),
        (["f", "--delay", "2030-01-31T08:00:00"], "no time zone"),
        (["f", "--delay", "2030-13-31"], "is no time"),
        (["f", "--id", "a@b"], "id must be"),
        (["f", "--delay", "9" * 5_000 + "s"], "delay must be between"),
        (["f", "--delay", "9999-12-31T23:00:00-12:00"], "delay lies outside the years 1 to 9999 of UTC"),
        (["f", "[1e999]"], "'[1e999]' holds a number that cannot be sent: Number out of range"),
        (["f", "9" * 5_000], "holds a number that cannot be sent"),
        (["f", "--kw", "a=-1e999"], "'-1e999' holds a number that cannot be sent"),
    ],
)
def test_bad_options_are_refused_with_a_hint(words: list[str], hint: str, store: str, cli: Cli) -> None:
    answer = cli("send", *words)

    assert (answer.code, answer.out) == (Exit.USAGE, "")
    assert hint in answer.err
    assert cli("task", "list", "--json").document == []


def test_an_unknown_outcome_tells_how_to_repeat(
    store: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(*_: object, **__: object) -> None:
        raise OutcomeUnknown("The connection broke.")

    monkeypatch.setattr("forebay.tasks.Task.send_sync", cut_off)

    answer = cli("send", "f", "--id", "mine")

    assert answer.code == Exit.UNKNOWN
    assert "--id mine" in answer.err


def test_publish_says_how_many_groups_have_a_copy(subscribed: str, cli: Cli) -> None:
    answer = cli("publish", "orders.placed", '{"id": 7}', "--key", "7")

    assert (answer.code, answer.err) == (Exit.OK, "")
    key, groups = answer.out.split()
    assert groups == "groups=2"
    names = {record["id"] for record in cli("task", "list", "--json").document}
    assert names == {f"{key}@billing.orders._any", f"{key}@stock.orders.placed"}
    assert cli("publish", "orders.placed", "1", "--json").document["groups"] == 2


def test_publish_to_nobody_succeeds_and_says_so(store: str, cli: Cli) -> None:
    answer = cli("publish", "orders.placed", "{}")

    assert answer.code == Exit.OK
    assert answer.out.endswith(" groups=0\n")
    assert "no group is subscribed" in answer.err


def test_publish_says_that_what_waited_has_the_event(store: str, cli: Cli) -> None:
    async def wait() -> None:
        async with App(store) as app:
            flow = app.flow("order-7")
            flow.wait_for("payment.settled", key="7", timeout="2d")
            await flow.send()

    asyncio.run(wait())

    other = cli("publish", "payment.settled", "{}", "--key", "8")
    answer = cli("publish", "payment.settled", "{}", "--key", "7")

    assert "nothing was kept" in other.err
    assert answer.out.endswith(" groups=0\n")
    assert "what waited for this event has it" in answer.err
    assert "nothing was kept" not in answer.err
    assert cli("publish", "payment.settled", "{}", "--json").document["awaited"] is False


def test_an_event_comes_from_a_file_byte_for_byte(subscribed: str, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "event.json").write_bytes(b'{"n":  12345678901234567890123}')

    cli("publish", "orders.billed", "@event.json")

    shown = cli("task", "show", cli("task", "list", "--json").document[0]["id"], "--json")
    assert "12345678901234567890123" in shown.out


def test_an_event_comes_from_stdin(subscribed: str, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\x00")))

    answer = cli("publish", "orders.billed", "-", "--raw")

    assert answer.code == Exit.OK
    (shown,) = cli("task", "list", "--json").document
    assert (shown["body"], shown["body_base64"]) == (None, "/wA=")


@pytest.mark.parametrize(
    ("event", "hint"), [("hello", "not JSON"), ("@nowhere.json", "cannot be read"), ("", "not JSON")]
)
def test_an_event_that_cannot_be_is_refused(event: str, hint: str, store: str, cli: Cli) -> None:
    answer = cli("publish", "orders.placed", event)

    assert (answer.code, answer.out) == (Exit.USAGE, "")
    assert hint in answer.err


def test_no_more_is_read_than_any_engine_takes(
    subscribed: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "LARGEST", 1 << 21)
    (tmp_path / "large.bin").write_bytes(b"x" * (1 << 22))

    answer = cli("publish", "orders.placed", "@large.bin", "--raw")

    assert answer.code == Exit.USAGE
    assert "2097153 bytes" in answer.err

    answer = cli("publish", "orders.placed", "@large.bin")

    assert answer.code == Exit.USAGE
    assert "more than 2097152 bytes" in answer.err
