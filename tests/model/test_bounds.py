"""The judge of rules, on histories that keep them and on such with a planted fault."""

from __future__ import annotations

from forebay.model.rule import Rule, Rules, rate_limit
from forebay.model.when import SECOND
from forebay.testing.bounds import check_rules
from forebay.testing.history import Event, Op


def tries(*spans: tuple[str, str | None, int, int | None]) -> list[Event]:
    """Tries (id, key, start, finish; None: cut off), each under a lease of its own, and their sends before."""
    events = [Event(t=0, node="s", op=Op.SEND, id=name) for name in dict.fromkeys(name for name, *_ in spans)]
    for n, (name, key, start, finish) in enumerate(spans):
        events.append(
            Event(t=start, node=f"w{n}", op=Op.START, id=name, key=key, lease=f"l{n}", received=start)
        )
        if finish is not None:
            events.append(Event(t=finish, node=f"w{n}", op=Op.FINISH, id=name, lease=f"l{n}"))
    return events


def test_tries_one_after_the_other_keep_every_rule() -> None:
    rule = Rule(concurrency=1, per_key=1, ordered=True, rate=rate_limit("1/s", "rate", 1))
    history = tries(("a", "k", 1, 2), ("b", "k", 2 + SECOND, 3 + SECOND), ("b", "k", 4 + 3 * SECOND, None))

    assert check_rules(history, Rules(rule)).ok


def test_more_at_once_than_may_be_are_crowded_in_the_queue_and_in_a_key() -> None:
    history = tries(("a", "k", 1, 9), ("b", "l", 2, 9), ("c", "k", 3, 9))

    assert [one.id for one in check_rules(history, Rules(Rule(concurrency=2))).crowded] == ["c"]
    assert [one.id for one in check_rules(history, Rules(Rule(per_key=1))).crowded] == ["c"]
    assert check_rules(history, Rules(Rule(per_key=2, concurrency=3))).ok


def test_a_try_that_was_cut_off_takes_a_place_until_its_node_falls_silent() -> None:
    cut = tries(("a", "k", 1, None), ("b", "k", 5, 9))

    assert check_rules(cut, Rules(Rule(per_key=1))).ok
    spoke = [*cut, Event(t=6, node="w0", op=Op.EFFECT, id="other")]
    assert [one.id for one in check_rules(spoke, Rules(Rule(per_key=1))).crowded] == ["b"]


def test_more_in_a_span_than_burst_and_rate_are_rushed() -> None:
    rate = rate_limit("1/s", "rate", 2)
    history = tries(*((f"m{n}", "k", n * SECOND // 2, n * SECOND // 2 + 1) for n in range(1, 6)))

    assert [one.id for one in check_rules(history, Rules(Rule(rate=rate))).rushed] == ["m4", "m5"]
    assert [one.id for one in check_rules(history, Rules(Rule(rate_per_key=rate))).rushed] == ["m4", "m5"]
    assert check_rules(history, Rules(Rule(rate=rate_limit("2/s", "rate", 1)))).ok


def test_one_that_begins_after_a_later_one_of_its_key_is_disordered() -> None:
    history = tries(("a", "k", 1, 2), ("b", "k", 3, 4), ("a", "k", 5, 6), ("c", "l", 7, 8))

    assert [one.id for one in check_rules(history, Rules(Rule(ordered=True))).disordered] == ["a"]
    assert check_rules(history, Rules(Rule(per_key=1))).ok
