"""Ids sort by time, strictly, whoever asks; tokens do not repeat."""

from __future__ import annotations

import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from forebay.support.ids import Ids, new_token


def test_an_id_is_a_uuid_of_version_7() -> None:
    before = time.time_ns() // 1_000_000
    made = Ids().message()
    later = time.time_ns() // 1_000_000

    value = uuid.UUID(made)
    assert str(value) == made
    assert value.variant == uuid.RFC_4122
    assert value.version == 7
    assert before <= value.int >> 80 <= later


def test_ids_strictly_increase() -> None:
    ids = Ids()

    made = [ids.message() for _ in range(50_000)]

    assert all(a < b for a, b in pairwise(made))


def test_ids_made_by_many_threads_are_all_different_and_grow_for_each() -> None:
    ids, start = Ids(), threading.Barrier(8)

    def make() -> list[str]:
        start.wait()
        return [ids.message() for _ in range(2_000)]

    with ThreadPoolExecutor(8) as pool:
        made = [done.result() for done in [pool.submit(make) for _ in range(8)]]

    assert len({message for part in made for message in part}) == 16_000
    assert all(part == sorted(part) for part in made)


def test_two_makers_do_not_make_the_same() -> None:
    first, second = Ids(), Ids()

    assert len({maker.message() for _ in range(1_000) for maker in (first, second)}) == 2_000


def test_tokens_do_not_repeat() -> None:
    assert len({new_token() for _ in range(10_000)}) == 10_000
    assert len(new_token()) == 24
