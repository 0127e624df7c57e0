"""`forebay queue` and `forebay dead`."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from forebay import App, QueueOptions, State
from forebay.cli.exits import Exit
from forebay.cli.queue import unworked
from forebay.model.note import Note, Revision
from forebay.model.rule import RULE
from forebay.model.survey import Workers
from forebay.testing.clock import eventually
from tests.cli.kit import Cli, Work, shop


def fill(cli: Cli, work: Work) -> dict[str, str]:
    """Two dead letters and a success in `mail`, then one that waits."""
    keys = {name: cli("send", name, *words, "--queue", "mail").out.strip() for name, *words in (
        ("greet", "Ada"), ("stumble", "bread"), ("give_up",)
    )}  # fmt: skip
    work(3)
    return {**keys, "waits": cli("send", "greet", "Bob", "--queue", "mail").out.strip()}


def states(cli: Cli) -> dict[str, str]:
    return {record["id"]: record["state"] for record in cli("task", "list", "--json").document}


def test_list_counts_every_queue(store: str, cli: Cli, work: Work) -> None:
    fill(cli, work)

    rows = {line.split()[0]: line for line in cli("queue", "list").out.splitlines()}

    assert rows["queue"].split() == [
        "queue", "ready", "running", "scheduled", "retrying", "dead", "succeeded", "oldest", "from", "tap",
    ]  # fmt: skip
    assert rows["mail"].split()[:7] == ["mail", "1", "0", "0", "0", "2", "1"]
    assert "orders.* for billing" in rows["billing.orders._any"]


def test_list_is_a_document_too(store: str, cli: Cli, work: Work) -> None:
    fill(cli, work)

    queues = {one["queue"]: one for one in cli("queue", "list", "--json").document}

    assert queues["mail"]["states"] == {
        state.value: {"ready": 1, "dead": 2, "succeeded": 1}.get(state, 0) for state in State
    }
    assert queues["mail"]["oldest_ready_seconds"] >= 0
    assert (queues["stock.orders.placed"]["topic"], queues["stock.orders.placed"]["group"]) == (
        "orders.placed",
        "stock",
    )


def test_show_tells_all_of_one_queue(store: str, cli: Cli, work: Work) -> None:
    fill(cli, work)

    assert "dead              2" in cli("queue", "show", "mail").out
    assert "group billing of topic orders.*" in cli("queue", "show", "billing.orders._any").out
    assert cli("queue", "show", "mail", "--json").document["states"]["dead"] == 2


def test_a_queue_is_paused_and_resumed(store: str, cli: Cli) -> None:
    cli("send", "greet", "Ada", "--queue", "mail")

    assert cli("queue", "pause", "mail").out == "paused mail\n"
    assert cli("queue", "pause", "mail").out == "mail was paused already\n"
    assert "mail (paused)" in cli("queue", "show", "mail").out
    assert "paused" in cli("queue", "list").out
    assert cli("queue", "resume", "mail", "--json").document == {
        "queue": "mail",
        "paused": False,
        "changed": True,
    }
    assert cli("queue", "resume", "mail").out == "mail was not paused\n"


def test_a_rule_is_set_over_the_code_shown_with_its_origin_and_reset(store: str, cli: Cli) -> None:
    async def declare() -> None:
        app = App(store)
        app.queue("mail", rate="100/s", per_key=2)
        app.task(queue="mail", name="slow", max_running=3)(_slow)
        async with app:
            await app.send("slow", queue="mail")

    asyncio.run(declare())

    shown = cli("queue", "set", "mail", "rate=50/s", "fair=yes", "per-key=none").out

    assert shown.startswith("changed mail\n  rate: 50/s (set by ")
    assert "  per_key: none (set by " in shown
    assert "  max_running: slow:3 (in the code)" in cli("queue", "show", "mail").out
    assert "50/s, fair, slow 3 at once" in cli("queue", "list").out
    assert cli("queue", "set", "mail", "rate=50/s").out.startswith("unchanged mail")
    assert "set rate=50/s fair=True per_key=None" in cli("audit").out
    rule = cli("queue", "reset", "mail", "rate", "--json").document["rule"]
    assert rule["rate"] == {"value": "100/s", "from": "code"}
    assert rule["fair"]["from"] == "set"
    assert cli("queue", "reset", "mail", "--json").document["changed"]
    assert cli("queue", "show", "mail", "--json").document["rule"] == {
        "rate": {"value": "100/s", "from": "code"},
        "burst": {"value": 100, "from": "code"},
        "per_key": {"value": 2, "from": "code"},
        "max_running": {"value": {"slow": 3}, "from": "code"},
    }


def test_each_setting_is_shown_with_who_said_it_last(store: str, cli: Cli) -> None:
    async def declare() -> None:
        app = App(store)
        app.queue("mail", ordered=True)
        async with app:
            await app.set_queue("mail", concurrency=5, rate="5/s")

    asyncio.run(declare())
    cli("queue", "set", "mail", "rate=50/s")

    rule = cli("queue", "show", "mail", "--json").document["rule"]

    assert rule["concurrency"]["by"] == "app"
    assert rule["rate"]["by"] == rule["burst"]["by"] != "app"
    assert rule["ordered"] == {"value": True, "from": "code"}


def test_what_a_later_version_said_of_a_queue_is_shown_as_nothing_and_can_be_taken_back(
    store: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def declare() -> None:
        app = App(store)
        app.queue("mail", rate="5/s")
        async with app:
            note = Note(kind=RULE, name="mail", body=b'{"said": {"speed": "fast"}}')
            with monkeypatch.context() as later:
                later.setattr("forebay.model.note.override_of", bool)
                await (await app._client.link()).store.note([Revision(note)])

    asyncio.run(declare())

    assert cli("queue", "show", "mail", "--json").document["rule"]["rate"] == {"value": "5/s", "from": "code"}
    refused = cli("queue", "set", "mail", "rate=50/s")
    assert refused.code == Exit.USAGE
    assert "'speed'" in refused.err
    assert cli("queue", "reset", "mail", "--json").document["changed"]
    assert not cli("queue", "reset", "mail", "--json").document["changed"]
    assert cli("queue", "set", "mail", "rate=50/s").code == Exit.OK


async def _slow() -> None: ...


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rate=fast"], "must be a rate"), (["rate"], "write, say, rate=50/s"), (["weights=a:0"], "weights"),
        (["speed=5"], "no setting 'speed'"),
        (["concurrency=many"], "concurrency"),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_be_is_refused(words: list[str], said: str, subscribed: str, cli: Cli) -> None:
    answer = cli("queue", "set", "stock.orders.placed", *words)

    assert answer.code == Exit.USAGE
    assert said in answer.err


@pytest.mark.parametrize("verb", ["show", "pause", "resume", "purge", "reset"])
def test_a_queue_nobody_knows_is_not_touched(verb: str, subscribed: str, cli: Cli) -> None:
    answer = cli("queue", verb, "mial")

    assert (answer.code, answer.out) == (Exit.FAILED, "")
    assert (
        "No queue 'mial' is known here: known are billing.orders._any, mail, stock.orders.placed."
        in answer.err
    )


def test_purge_deletes_what_waits_and_only_that(store: str, cli: Cli, work: Work) -> None:
    keys = fill(cli, work)

    refused = cli("queue", "purge", "mail")
    assert (refused.code, "This would delete 1 task (ready)" in refused.err) == (Exit.USAGE, True)

    assert cli("queue", "purge", "mail", "--yes").out == "deleted 1 task\n"
    assert set(states(cli)) == set(keys.values()) - {keys["waits"]}


def test_dead_letters_are_listed_with_their_reason(store: str, cli: Cli, work: Work) -> None:
    keys = fill(cli, work)

    lines = cli("dead", "list").out.splitlines()[1:]

    assert {line.split()[0] for line in lines} == {keys["stumble"], keys["give_up"]}
    assert any(line.endswith("asked: Dead: it is hopeless") for line in lines)
    assert cli("dead", "list", "--queue", "other", "--json").document == []
    assert [one["id"] for one in cli("dead", "list", "--name", "give_up", "--json").document] == [
        keys["give_up"]
    ]


def test_dead_letters_go_back_to_work(store: str, cli: Cli, work: Work) -> None:
    keys = fill(cli, work)

    assert cli("dead", "retry", keys["stumble"]).out == f"retried {keys['stumble']}\n"
    assert cli("dead", "retry", "--queue", "mail", "--yes").out == "retried 1 task\n"
    assert cli("dead", "list", "--json").document == []


def test_dead_does_not_touch_what_is_not_dead(store: str, cli: Cli, work: Work) -> None:
    keys = fill(cli, work)

    for verb in ("retry", "discard"):
        answer = cli("dead", verb, keys["greet"], "--yes")

        assert answer.code == Exit.FAILED
        assert "it is succeeded" in answer.err
    assert states(cli)[keys["greet"]] == State.SUCCEEDED


def test_dead_letters_are_thrown_away(store: str, cli: Cli, work: Work) -> None:
    keys = fill(cli, work)

    assert cli("dead", "discard", keys["stumble"]).code == Exit.USAGE
    assert cli("dead", "discard", "--all").code == Exit.USAGE
    assert cli("dead", "discard", "--all", "--yes", "--json").document == {"discarded": 2, "skipped": {}}
    assert set(states(cli)) == {keys["greet"], keys["waits"]}


@pytest.mark.parametrize("words", [[], ["some-task-id", "--all"]], ids=str)
@pytest.mark.parametrize("verb", ["retry", "discard"])
def test_it_must_be_clear_which_are_meant(verb: str, words: list[str], store: str, cli: Cli) -> None:
    answer = cli("dead", verb, *words, "--yes")

    assert answer.code == Exit.USAGE
    assert "Say which dead letters" in answer.err


# -- limits


@pytest.fixture
def full(store: str, cli: Cli) -> str:
    """The queue `mail` with a limit of two, both of which wait, and the subscription of one group with a limit of one."""
    limits = {"mail": QueueOptions(limit=2), "billing.orders._any": QueueOptions(limit=1)}
    with App(store, queues=limits) as app:
        app.sync(app.count())
    for name in ("Ada", "Bob"):
        assert cli("send", "greet", name, "--queue", "mail").code == Exit.OK
    return store


def test_a_send_to_a_full_queue_says_so_and_ends_in_a_code_of_its_own(full: str, cli: Cli) -> None:
    answer = cli("send", "greet", "Eve", "--queue", "mail")

    assert (answer.code, answer.out) == (Exit.FULL, "")
    assert answer.err.startswith(
        "forebay: Queue 'mail' is full: its limit of 2 waiting messages is reached, and nothing"
    )
    assert len(states(cli)) == 2


def test_a_publish_to_somebody_full_does_so_too(full: str, subscribed: str, cli: Cli) -> None:
    with App(full, queues={"billing.orders._any": QueueOptions(limit=1)}) as app:
        app.sync(app.count())
    assert cli("publish", "orders.placed", "{}").out.endswith("groups=2\n")

    answer = cli("publish", "orders.placed", "{}")

    assert answer.code == Exit.FULL
    assert "billing.orders._any" in answer.err


def test_a_limit_is_shown_where_there_is_one(full: str, cli: Cli) -> None:
    rows = {line.split()[0]: line for line in cli("queue", "list").out.splitlines()}

    assert "limit" in rows["queue"].split()
    assert "2 full" in rows["mail"]
    assert "full" not in rows["billing.orders._any"]
    assert "limit: 2 may wait, and 2 do" in cli("queue", "show", "mail").out
    documents = {one["queue"]: one["limit"] for one in cli("queue", "list", "--json").document}
    assert documents == {"mail": 2, "billing.orders._any": 1}
    assert "2 full" in cli("top", "--once").out


def test_a_queue_that_nobody_works_is_told_of(store: str, cli: Cli, work: Work) -> None:
    first = cli("send", "greet", "Ada", "--queue", "mial")
    again = cli("send", "greet", "Ada", "--queue", "mial")
    listed = cli("queue", "list")

    assert (first.code, again.code, listed.code) == (Exit.OK, Exit.OK, Exit.OK)
    assert (
        "queue 'mial' was not there before, and no worker takes from it now: the message waits." in first.err
    )
    assert "no worker takes from queue 'mial' now" in again.err
    assert "messages wait in mial, and no worker that is there takes from it" in listed.err
    assert cli("queue", "list", "--json").err == ""


def test_a_queue_that_somebody_works_is_not(store: str, cli: Cli) -> None:
    async def main() -> None:
        worker = shop(store).worker()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(worker.run())
            await worker.ready.wait()
            async with App(store) as app:
                await eventually(partial(app.survey, Workers()), what="the worker says that it is there")
            sent = await asyncio.to_thread(_sent, store, "mail", "mial")
            worker.stop()
        assert sent == [
            "",
            "forebay: queue 'mial' was not there before, and no worker takes from it now: the message waits. Did you mean 'mail'?",
        ]

    asyncio.run(main())


def _sent(store: str, *queues: str) -> list[str]:
    told = []
    with App(store) as app:
        for queue in queues:
            app.send_sync("greet", "Ada", queue=queue)
            told.append(unworked(app, queue))
    return told
