"""`forebay task`: looking at messages, and steering them."""

from __future__ import annotations

from typing import Any

import pytest

from forebay import App, State, Task
from forebay.cli import touch
from forebay.cli.exits import Exit
from forebay.compose import Draft
from forebay.model.when import At
from tests.cli.kit import Cli, Work, at_terminal


def send(cli: Cli, *words: str) -> str:
    return cli("send", *words, "--queue", "mail").out.strip()


def states(cli: Cli) -> dict[str, str]:
    return {record["id"]: record["state"] for record in cli("task", "list", "--json").document}


# -- list


def test_list_shows_the_newest_first(store: str, cli: Cli) -> None:
    first, second = send(cli, "greet", "Ada"), send(cli, "greet", "Bob")

    lines = cli("task", "list").out.splitlines()

    assert lines[0].split() == ["id", "name", "queue", "state", "attempts", "age", "note"]
    assert [line.split()[0] for line in lines[1:]] == [second, first]


def test_list_keeps_to_its_filters(store: str, cli: Cli, work: Work) -> None:
    done, failed = send(cli, "greet", "Ada"), send(cli, "stumble", "bread")
    work(2)
    late = cli("send", "report", "--delay", "1h").out.strip()

    def found(*words: str) -> set[str]:
        return {record["id"] for record in cli("task", "list", "--json", *words).document}

    assert found("--queue", "mail") == {done, failed}
    assert found("--name", "report") == {late}
    assert found("--state", "dead") == {failed}
    assert found("--state", "dead", "--state", "scheduled") == {failed, late}
    assert found("--queue", "nothing") == set()


def test_list_says_the_one_thing_worth_knowing(store: str, cli: Cli, work: Work) -> None:
    send(cli, "stumble", "bread")
    work(1)
    send(cli, "later", "--delay", "2h")

    later, stumble = cli("task", "list").out.splitlines()[1:]

    assert " in 1h59m" in later
    assert stumble.endswith(r"exhausted: ValueError: no bread today\x1b[31m")


@pytest.mark.parametrize("instant", [253_402_343_999_999_999, -62_135_640_000_000_000, 2**62, -(2**62)])
def test_a_moment_that_no_calendar_has_is_shown_as_the_nearest(store: str, cli: Cli, instant: int) -> None:
    with App(store) as app:
        known = app.named("greet")
        late = Draft("mail", fixed={"due": At(instant), "expires": At(2**62), "deadline": At(2**62)})
        old: Task[..., Any, ..., Any] = Task(known.function, known.signature, late, "greet", known.client)
        handle = old.send_sync("Ada")
    edge = "9999-12-31" if instant > 0 else "0001-01-01"

    assert handle.id in cli("task", "list").out
    assert f"{edge}T" in cli("task", "show", handle.id, "--json").out
    assert "9999-12-31 23:59:59Z" in cli("task", "show", handle.id).out


def test_a_limit_may_be_any_number(store: str, cli: Cli) -> None:
    send(cli, "greet", "Ada")

    for limit in ("9" * 19, "9" * 40):
        assert len(cli("task", "list", "--json", "--limit", limit).document) == 1


def test_pages_follow_each_other(store: str, cli: Cli) -> None:
    sent = [send(cli, "greet", "Ada") for _ in range(5)]

    first = cli("task", "list", "--limit", "2", "--json")
    cursor = first.err.split()[-1]
    rest = cli("task", "list", "--cursor", cursor, "--json")

    assert [record["id"] for record in (*first.document, *rest.document)] == sent[::-1]
    assert rest.err == ""


def test_lists_longer_than_a_page_come_whole(store: str, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forebay.cli.show.PAGE", 2)
    sent = [send(cli, "greet", "Ada") for _ in range(5)]

    answer = cli("task", "list", "--limit", "5", "--json")

    assert ([record["id"] for record in answer.document], answer.err) == (sent[::-1], "")


def test_a_foreign_cursor_is_refused(store: str, cli: Cli) -> None:
    answer = cli("task", "list", "--cursor", "elsewhere")

    assert answer.code == Exit.USAGE
    assert "is not a cursor" in answer.err


# -- show


def test_show_tells_the_whole_story(store: str, cli: Cli, work: Work) -> None:
    key = send(cli, "stumble", "bread", "--header", "trace=1")
    work(1)

    told = cli("task", "show", key).out

    for part in (
        key,
        "stumble",
        "dead: exhausted",
        "mail",
        "header trace 1",
        "attempts  1",
        "ValueError: no bread today",
        "Traceback",
    ):
        assert part in told
    assert '[\n    "bread"\n  ]' in told
    assert "\x1b" not in told


def test_show_can_leave_the_body_out(store: str, cli: Cli, work: Work) -> None:
    key = send(cli, "greet", "secret")
    work(1)

    assert "Hello secret" in cli("task", "show", key).out
    assert "secret" not in cli("task", "show", key, "--no-body").out
    assert "secret" not in cli("task", "show", key, "--no-body", "--json").out
    assert "secret" not in cli("task", "list", "--no-body", "--json").out


def test_show_is_a_document_too(store: str, cli: Cli, work: Work) -> None:
    key = send(cli, "stumble", "bread")
    work(1)

    shown = cli("task", "show", key, "--json").document

    assert (shown["state"], shown["reason"], shown["attempts"], shown["body"]) == (
        "dead",
        "exhausted",
        1,
        ["bread"],
    )
    (one,) = shown["tries"]
    assert (one["number"], one["verdict"], one["error"]["type"]) == (1, "bury", "ValueError")
    assert shown["finished"].endswith("Z")


def test_a_large_body_is_cut_for_people(store: str, cli: Cli) -> None:
    key = send(cli, "greet", "x" * 10_000)

    assert "(10,004 bytes in all: --json shows them)" in cli("task", "show", key).out
    assert cli("task", "show", key, "--json").document["body"] == ["x" * 10_000]


def test_the_beginning_of_an_id_is_enough(store: str, cli: Cli) -> None:
    cli("send", "f", "--id", "aaaaaaaa-1")
    cli("send", "f", "--id", "bbbbbbbb-1")

    assert cli("task", "show", "aaaaaaaa", "--json").document["id"] == "aaaaaaaa-1"


def test_an_ambiguous_beginning_names_its_tasks(store: str, cli: Cli) -> None:
    for number in range(7):
        cli("send", "f", "--id", f"aaaaaaaa-{number}")

    answer = cli("task", "show", "aaaaaaaa")

    assert answer.code == Exit.USAGE
    assert "beginning of several ids: aaaaaaaa-6, " in answer.err
    assert "and 2 others" in answer.err


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("short", "will do from 8 characters on"),
        ("cccccccc", "among the newest"),
        ("01a20947-2db8-70c7-bb53-7b50cb3e7d3d", "never sent, or its history was pruned"),
    ],
)
def test_what_is_not_there_is_not_found(key: str, hint: str, store: str, cli: Cli) -> None:
    answer = cli("task", "show", key)

    assert (answer.code, answer.out) == (Exit.FAILED, "")
    assert hint in answer.err


def test_the_search_for_a_beginning_is_bounded(store: str, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(touch, "FARTHEST", 2)
    for key in ("aaaaaaaa-1", "bbbbbbbb-1", "cccccccc-1"):
        cli("send", "f", "--id", key)

    assert cli("task", "show", "bbbbbbbb").code == Exit.OK
    assert cli("task", "show", "aaaaaaaa").code == Exit.FAILED
    assert cli("task", "show", "aaaaaaaa-1").code == Exit.OK


def test_the_id_of_an_event_leads_to_its_copies(subscribed: str, cli: Cli) -> None:
    one = cli("publish", "orders.billed", "{}").out.split()[0]
    two = cli("publish", "orders.placed", "{}").out.split()[0]

    assert cli("task", "show", one, "--json").document["id"] == f"{one}@billing.orders._any"
    assert f"{two}@stock.orders.placed" in cli("task", "show", two).err


# -- retry, cancel, delete


def test_a_task_named_by_its_id_is_retried_without_asking(store: str, cli: Cli, work: Work) -> None:
    key = send(cli, "stumble", "bread")
    work(1)

    answer = cli("task", "retry", key)

    assert (answer.code, answer.out) == (Exit.OK, f"retried {key}\n")
    assert states(cli) == {key: State.READY}


def test_a_task_named_by_its_id_is_cancelled_without_asking(store: str, cli: Cli) -> None:
    key = send(cli, "greet", "Ada")

    assert cli("task", "cancel", key).out == f"cancelled {key}\n"
    assert states(cli) == {key: State.CANCELLED}


def test_what_cannot_be_changed_is_said_one_by_one(store: str, cli: Cli) -> None:
    waits, gone = send(cli, "greet", "Ada"), send(cli, "greet", "Bob")
    cli("task", "cancel", gone)

    answer = cli("task", "cancel", waits, gone, "no-such-task-anywhere", "--json")

    assert answer.code == Exit.FAILED
    assert answer.document == {
        "cancelled": 1,
        "asked_to_stop": 0,
        "unchanged": [
            {"id": "no-such-task-anywhere", "why": "no such task is known here"},
            {"id": gone, "why": "it is cancelled"},
        ][::-1],
    }
    assert f"forebay: {gone} was not cancelled: it is cancelled." in answer.err


def test_retry_refuses_a_task_whose_unique_key_is_taken(store: str, cli: Cli) -> None:
    first = send(cli, "greet", "Ada", "--unique", "ada")
    cli("task", "cancel", first)
    send(cli, "greet", "Ada", "--unique", "ada")

    answer = cli("task", "retry", first)

    assert answer.code == Exit.FAILED
    assert "it has a unique key that another task holds now" in answer.err


def test_without_a_terminal_and_without_yes_nothing_is_deleted(store: str, cli: Cli) -> None:
    key = send(cli, "greet", "Ada")

    answer = cli("task", "delete", key)

    assert (answer.code, answer.out) == (Exit.USAGE, "")
    assert "This would delete 1 task:" in answer.err
    assert key in answer.err
    assert "--yes" in answer.err
    assert key in states(cli)


def test_yes_deletes(store: str, cli: Cli) -> None:
    key = send(cli, "greet", "Ada")

    assert cli("task", "delete", key, "--yes").out == f"deleted {key}\n"
    assert states(cli) == {}


def test_a_selection_is_shown_before_it_is_touched(store: str, cli: Cli) -> None:
    keys = [send(cli, "greet", "Ada") for _ in range(7)]
    cli("send", "greet", "Eve", "--queue", "other")

    answer = cli("task", "cancel", "--queue", "mail")

    assert answer.code == Exit.USAGE
    assert "This would cancel 7 tasks (ready):" in answer.err
    assert [line.split()[0] for line in answer.err.splitlines()[1:6]] == keys[:5]
    assert "... and 2 more" in answer.err
    assert set(states(cli).values()) == {State.READY}


def test_a_selection_is_touched_with_yes(store: str, cli: Cli) -> None:
    for _ in range(3):
        send(cli, "greet", "Ada")
    spared = cli("send", "greet", "Eve", "--queue", "other").out.strip()

    answer = cli("task", "cancel", "--queue", "mail", "--yes", "--json")

    assert answer.document == {"cancelled": 3, "asked_to_stop": 0, "skipped": {}}
    assert [key for key, state in states(cli).items() if state == State.READY] == [spared]


def test_a_limit_touches_the_oldest(store: str, cli: Cli) -> None:
    keys = [send(cli, "greet", "Ada") for _ in range(3)]

    assert "This would cancel 2 tasks" in cli("task", "cancel", "--name", "greet", "--limit", "2").err
    assert cli("task", "cancel", "--name", "greet", "--limit", "2", "--yes").out == "cancelled 2 tasks\n"
    assert states(cli)[keys[2]] == State.READY


def test_retry_by_options_means_dead_letters_unless_told(store: str, cli: Cli, work: Work) -> None:
    done, failed = send(cli, "greet", "Ada"), send(cli, "stumble", "bread")
    work(2)

    assert cli("task", "retry", "--queue", "mail", "--yes").out == "retried 1 task\n"
    assert states(cli) == {done: State.SUCCEEDED, failed: State.READY}

    refused = cli("task", "retry", "--queue", "mail", "--state", "succeeded", "--yes")
    assert refused.code == Exit.USAGE
    assert "What is succeeded cannot be retried" in refused.err


def test_states_that_a_command_cannot_change_are_refused(store: str, cli: Cli) -> None:
    answer = cli("task", "delete", "--state", "running", "--yes")

    assert answer.code == Exit.USAGE
    assert "What is running cannot be deleted" in answer.err


def test_nothing_matched_is_a_failure(store: str, cli: Cli) -> None:
    answer = cli("task", "delete", "--queue", "mail", "--state", "dead", "--yes")

    assert answer.code == Exit.FAILED
    assert answer.err == "forebay: There is nothing to delete in queue mail that is dead.\n"


@pytest.mark.parametrize("words", [[], ["some-task-id", "--queue", "mail"], ["--limit", "3"]], ids=str)
@pytest.mark.parametrize("verb", ["retry", "cancel", "delete"])
def test_it_must_be_clear_what_is_meant(verb: str, words: list[str], store: str, cli: Cli) -> None:
    answer = cli("task", verb, *words, "--yes")

    assert answer.code == Exit.USAGE
    assert "Say which tasks" in answer.err


def test_at_a_terminal_the_person_is_asked(store: str, cli: Cli) -> None:
    key = send(cli, "greet", "Ada")

    code, seen = at_terminal("task", "delete", key, types="n\n")

    assert code == Exit.FAILED
    assert "Go on? [y/N]" in seen
    assert "Nothing was deleted." in seen
    assert key in states(cli)

    code, seen = at_terminal("task", "delete", key, types="y\n")

    assert (code, states(cli)) == (Exit.OK, {})


def test_a_terminal_gets_colours_unless_it_asks_for_none(
    store: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    send(cli, "greet", "Ada")

    assert "\x1b[36mready" in at_terminal("task", "list")[1]

    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in at_terminal("task", "list")[1]
