"""`forebay schedule`: looking at schedules and changing them, without the code that declares them."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest

from forebay import App, WorkerOptions
from forebay.cli.exits import Exit
from forebay.features.schedules.book import KIND
from forebay.model.note import Note, Revision
from tests.cli.kit import at_terminal, line_with, process, shop

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.kit import Cli


@pytest.fixture
def declared(store: str) -> str:
    """The store, with the schedules of an App's code."""

    async def work() -> None:
        app = shop(store)
        greet = app.named("greet", "mail")
        app.schedule("0 6 * * mon", name="greeting", zone="Europe/Berlin", jitter="20s")(greet.bind("Ada"))
        app.every("90s", greet.bind("Bob"), name="often", overlap="queue")
        async with app:
            worker = app.worker()
            async with asyncio.TaskGroup() as group:
                group.create_task(worker.run())
                await worker.ready.wait()
                while len([one for one in await app.schedules.list() if not one.new]) < 2:
                    pass
                worker.stop()

    asyncio.run(work())
    return store


def test_list_shows_when_each_ticks_in_plain_words(declared: str, cli: Cli) -> None:
    rows = {line.split()[0]: line for line in cli("schedule", "list").out.splitlines()}

    assert list(rows) == ["schedule", "greeting", "often"]
    assert "active" in rows["greeting"]
    assert rows["greeting"].endswith("greet  0 6 * * mon  at 06:00 on Monday, Europe/Berlin")
    assert rows["often"].endswith("greet               every 1m30s")


def test_list_and_show_are_documents_too(declared: str, cli: Cli) -> None:
    greeting, often = cli("schedule", "list", "--json").document
    shown = cli("schedule", "show", "often", "--json").document

    assert (greeting["schedule"], greeting["state"], greeting["app"]) == ("greeting", "active", "shop")
    assert (greeting["cron"], greeting["zone"], greeting["jitter_seconds"]) == (
        "0 6 * * mon",
        "Europe/Berlin",
        20,
    )
    assert (greeting["overridden"], greeting["in_code"], "body" in greeting) == (False, True, False)
    assert len(greeting["next"]) == 5
    assert (often["every_seconds"], often["overlap"], often["cron"]) == (90, "queue", None)
    assert shown == {**often, "body": {"name": "Bob"}, "runs": [], "next": shown["next"]}
    assert "body" not in cli("schedule", "show", "often", "--no-body", "--json").document


def test_show_tells_all_of_one(declared: str, cli: Cli) -> None:
    key = cli("schedule", "run", "greeting").out.strip()
    told = cli("schedule", "show", "greeting").out

    assert told.startswith("greeting: at 06:00 on Monday, Europe/Berlin\n")
    for line in (
        "state      active",
        "cron       0 6 * * mon, Europe/Berlin",
        "sends      greet to queue mail",
        'arguments  {"name":"Ada"}',
        "jitter     20s",
        "catch up   one",
        "overlap    allow",
    ):
        assert f"  {line}\n" in told
    assert "Ada" not in cli("schedule", "show", "greeting", "--no-body").out
    assert told.splitlines()[-1].split()[2:] == ["by-hand", "ready", key]


def test_run_sends_its_message_now(declared: str, cli: Cli) -> None:
    key = cli("schedule", "run", "often").out.strip()

    assert cli("task", "show", key, "--json").document["name"] == "greet"
    answer = cli("schedule", "run", "often", "--json").document
    assert (answer["schedule"], answer["id"] != key) == ("often", True)


def test_a_schedule_is_paused_resumed_and_one_tick_of_it_skipped(declared: str, cli: Cli) -> None:
    assert cli("schedule", "pause", "often").out == "paused often\n"
    assert cli("schedule", "list", "--json").document[1]["state"] == "paused"
    assert cli("schedule", "pause", "often", "--until", "2030-01-31T08:00:00Z").out == (
        "paused often until 2030-01-31 08:00:00Z\n"
    )
    assert (
        cli("schedule", "show", "often", "--json").document["paused_until"] == "2030-01-31T08:00:00.000000Z"
    )
    assert cli("schedule", "resume", "often").out == "resumed often\n"
    before = cli("schedule", "show", "greeting", "--json").document["next"]
    assert cli("schedule", "skip", "greeting").out.startswith("greeting leaves out ")
    after = cli("schedule", "show", "greeting", "--json").document
    assert after["next"][:4] == before[1:]
    assert after["skips"] is not None


def test_put_overrides_code_until_it_is_reset(declared: str, cli: Cli) -> None:
    said = cli("schedule", "put", "often", "--cron", "@daily", "--zone", "Asia/Tokyo", "--catch-up", "all")
    assert said.out == "put often: at 00:00 every day, Asia/Tokyo\n"
    shown = cli("schedule", "show", "often").out
    assert "state      active, overridden" in shown
    assert "in code    every 1m30s" in shown
    assert cli("schedule", "reset", "often").out == "reset often: every 1m30s\n"
    assert not cli("schedule", "show", "often", "--json").document["overridden"]


def test_put_makes_a_schedule_of_a_task_by_name_and_remove_forgets_it(store: str, cli: Cli) -> None:
    made = cli(
        "schedule", "put", "tidy", "7", "--every", "1h", "--task", "cleanup", "--kw", "deep=true",
        "--queue", "low", "--json",
    ).document  # fmt: skip
    assert (made["task"], made["queue"], made["every_seconds"], made["in_code"]) == (
        "cleanup",
        "low",
        3600,
        False,
    )
    assert cli("schedule", "show", "tidy", "--json").document["body"] == {"*": [7], "deep": True}

    refused = cli("schedule", "remove", "tidy")
    assert (refused.code, "tidy  cleanup  every 1h" in refused.err) == (
        Exit.USAGE,
        True,
    )
    assert cli("schedule", "remove", "tidy", "--yes").out == "removed tidy\n"
    assert cli("schedule", "list", "--json").document == []


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("show", "nobody"), Exit.FAILED, "There is no schedule 'nobody': `forebay schedule list`"),
        (("run", "nobody"), Exit.FAILED, "There is no schedule 'nobody'"),
        (("put", "x", "--every", "1h"), Exit.FAILED, "There is no schedule 'x' yet"),
        (("put", "x", "--every", "1h", "7"), Exit.USAGE, "Arguments go with --task"),
        (("put", "x", "--task", "t"), Exit.USAGE, "say when, with cron="),
        (("put", "x", "--task", "t", "--cron", "61 * * * *"), Exit.USAGE, "minute '61' is not possible"),
        (("put", "x", "--task", "t", "--cron", "@daily", "--zone", "berlin"), Exit.USAGE, "'Europe/Berlin'"),
        (("put", "x", "--task", "t", "--every", "1ms"), Exit.USAGE, "a second is the least"),
        (("pause", "often", "--until", "soon"), Exit.USAGE, "until is not a duration"),
        (("remove", "often", "--yes"), Exit.USAGE, "is in the code of App 'shop'"),
        (("reset", "put"), Exit.FAILED, "There is no schedule 'put'"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(
    words: tuple[str, ...], code: Exit, said: str, declared: str, cli: Cli
) -> None:
    answer = cli("schedule", *words)

    assert (answer.code, answer.out) == (code, "")
    assert said in answer.err


def test_who_changed_a_schedule_is_in_the_audit(declared: str, cli: Cli) -> None:
    cli("schedule", "pause", "often")
    cli("schedule", "run", "often")

    run, pause = cli("audit", "--json").document[:2]

    assert (pause["command"]["name"], pause["command"]["what"], pause["by"]["via"]) == (
        "often",
        "pause",
        "command line",
    )
    assert run["command"]["what"] == "run"
    assert {"schedule often: run", "schedule often: pause"} <= set(re.findall("schedule.*", cli("audit").out))


def test_a_schedule_that_is_not_known_here_is_shown_all_the_same(store: str, cli: Cli) -> None:
    async def put() -> None:
        async with App(store) as app:
            body = b'{"plan":{"task":{"id":"","name":"x\\u001b[31m"},"cron":"0 0 1 1 *","zone":"Mars/Base"}}'
            note = Note(kind=KIND, name="new", body=body)
            await (await app._client.link()).store.note([Revision(note)])

    asyncio.run(put())

    assert "unreadable" in cli("schedule", "list").out
    assert "\x1b" not in cli("schedule", "show", "new").out
    assert cli("schedule", "list", "--json").document[0]["next"] == []


def test_a_worker_of_the_command_line_fires_unless_it_is_told_not_to(store: str, tmp_path: Path) -> None:
    (tmp_path / "clock.py").write_text(
        "from forebay import App\n"
        "app = App(name='clock')\n"
        "@app.schedule('* * * * * *')\n"
        "@app.task\n"
        "async def tick() -> None:\n"
        "    print('ticked', flush=True)\n"
    )
    words = ("worker", "clock:app", "--log-level", "debug")
    with process(*words, "--no-schedules") as still, process(*words) as worker:
        line_with(still, "worker.started")
        line_with(worker, "schedule.fired")
        for child in (worker, still):
            child.terminate()
        _, told = still.communicate()
        worker.communicate()

    assert "schedule." not in told


def test_remove_asks_at_a_terminal(store: str, cli: Cli) -> None:
    cli("schedule", "put", "tidy", "--every", "1h", "--task", "cleanup")

    code, seen = at_terminal("schedule", "remove", "tidy", types="n\n")
    assert (code, "Nothing was removed." in seen) == (Exit.FAILED, True)
    code, seen = at_terminal("schedule", "remove", "tidy", types="y\n")
    assert (code, "removed tidy" in seen) == (Exit.OK, True)


def test_options_of_a_worker() -> None:
    assert WorkerOptions().schedules
