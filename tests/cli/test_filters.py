"""The options that say which messages, and `forebay dead groups`."""

from __future__ import annotations

import pytest

from forebay.cli.exits import Exit
from tests.cli.kit import Cli, Work


@pytest.fixture
def keys(store: str, cli: Cli, work: Work) -> dict[str, str]:
    """Three dead letters, of two faults; one that succeeded, and one that waits."""
    sent = {
        words: cli("send", *words.split(), "--queue", "mail").out.strip()
        for words in ("stumble bread", "stumble milk", "give_up", "greet Ada")
    }
    work(4)
    return {**sent, "waits": cli("send", "greet", "Bob", "--queue", "mail").out.strip()}


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--error", "ValueError"], ["stumble milk", "stumble bread"]),
        (["--error", "ValueError", "--name", "greet"], []),
        (["--error", "Dead"], ["give_up"]),
        (["--key", "k"], []),
        (["--sent-within", "1h", "--name", "give_up"], ["give_up"]),
        (["--ended-within", "1h", "--name", "greet"], ["greet Ada"]),
        (["--ended-within", "0s"], []),
        (["--worker", "nobody"], []),
        (["--state", "ready", "--queue", "mail"], ["waits"]),
        (["--name", "greet"], ["waits", "greet Ada"]),
    ],
)
def test_a_list_is_narrowed_by_every_option(
    options: list[str], found: list[str], keys: dict[str, str], cli: Cli
) -> None:
    listed = cli("task", "list", *options, "--json").document

    assert [one["id"] for one in listed] == [keys[word] for word in found]


def test_dead_letters_are_grouped_by_their_faults_and_a_group_is_retried(
    keys: dict[str, str], cli: Cli
) -> None:
    head, *lines = cli("dead", "groups").out.splitlines()
    groups = cli("dead", "groups", "--json").document
    by_name = cli("dead", "groups", "--by", "name", "--error", "ValueError", "--json").document

    assert head.split()[:3] == ["fingerprint", "number", "example"]
    assert len(lines) == len(groups) == 3, "the words differ and stand in no quotes"
    assert {one["number"] for one in groups} == {1}
    assert [(one["name"], one["number"]) for one in by_name] == [("stumble", 2)]

    mark = next(one["fingerprint"] for one in groups if one["example"] == keys["stumble milk"])
    assert [one["id"] for one in cli("dead", "list", "--fingerprint", mark, "--json").document] == [
        keys["stumble milk"]
    ]
    assert cli("dead", "retry", "--fingerprint", mark, "--yes").code == Exit.OK
    assert len(cli("dead", "groups", "--json").document) == 2


@pytest.mark.parametrize("verb", ["retry", "discard"])
def test_ids_and_options_are_not_said_together(verb: str, keys: dict[str, str], cli: Cli) -> None:
    assert cli("dead", verb, keys["give_up"], "--error", "Dead").code == Exit.USAGE
    assert cli("dead", verb).code == Exit.USAGE
    assert cli("dead", verb, "--ended-within", "soon").code == Exit.USAGE
