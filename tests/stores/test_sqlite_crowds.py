"""Crowds: a claim and a look of the sweep take as many steps of SQLite beside one as without it, and a crowd is forgotten to the last."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import apsw
import pytest

from forebay.engine import Ask, EngineOptions, Source
from forebay.stores.sqlite import upkeep
from forebay.stores.sqlite.claim import PROMOTED, Claim
from forebay.stores.sqlite.connection import APPLICATION, connect, migrations
from forebay.stores.sqlite.forgetting import forget
from forebay.stores.sqlite.session import Session, statements
from forebay.support.ids import new_token

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from forebay.stores.face import Claimed

NOW = 1_000_000
CROWD = 20_000
MORE = 2_000
"""Steps of SQLite's machine that a claim may take more, beside a crowd: a tenth of one for each of it."""
NUMBERS = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers LIMIT {}) "
ENTRIES = (
    "INSERT INTO entry (seq, message, id, queue, priority, created, ready_since, state, expires, due, token, finished) "
    "SELECT n + {first}, n + {first}, n + {first}, {queue}, 0, 1, 1, {state}, {expires}, {due}, {token}, {finished} FROM numbers"
)
MESSAGES = (
    "INSERT INTO message (seq, id, name, queue, body, priority, copies) "
    "SELECT n + {first}, n + {first}, 't', 'a', x'', 0, 1 FROM numbers"
)
OLD = (
    "INSERT INTO entry (seq, message, id, queue, priority, created, state, finished) "
    "SELECT n, n, n, iif(n % 2, 'a', 'b'), 0, 1, iif(n % 3, 'succeeded', 'dead'), iif(n % 5, n, NULL) FROM numbers"
)
CROWDS = {
    "expired in another queue": {"queue": "'b'", "expires": "5"},
    "expired in a queue for each": {"queue": "n", "expires": "5"},
    "scheduled in the same queue, and late": {"state": "'scheduled'", "expires": "5", "due": "9000000"},
    "scheduled in the same queue": {"state": "'scheduled'", "due": "9000000"},
    "due in another queue": {"queue": "'b'", "state": "'retrying'", "due": "5"},
    "ready in another queue": {"queue": "'b'"},
    "running in the same queue": {"state": "'running'", "token": "n"},
    "finished in the same queue": {"state": "'succeeded'", "finished": "n"},
}


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    conn = connect(str(tmp_path / "crowd.db"))
    yield Session(conn, statements(), EngineOptions(), now=NOW)
    conn.close()


def fill(session: Session, number: int, first: int, **columns: str) -> None:
    """Entries that are ready in queue a, but for what ``columns`` say."""
    given = {
        "queue": "'a'", "state": "'ready'", "expires": "NULL", "due": "NULL", "token": "NULL", "finished": "NULL", **columns,
    }  # fmt: skip
    for statement in (MESSAGES, ENTRIES):
        session.conn.execute(NUMBERS.format(number) + statement.format(first=first, **given))


def claim(session: Session, limit: int = 5) -> Claimed:
    job = Claim([Ask(Source(queue="a"), new_token(), limit)], None, "worker")
    return job.look(session) or job.work(session)


def steps(session: Session) -> int:
    """The steps of one claim and one look of the sweep."""
    counted = 0

    def step() -> bool:
        nonlocal counted
        counted += 1
        return False

    session.conn.set_progress_handler(step, 1)
    assert len(claim(session).deliveries) == 5
    upkeep.look(session)
    session.conn.set_progress_handler(None)
    return counted


@pytest.mark.parametrize("kind", CROWDS)
def test_a_claim_takes_no_more_steps_beside_a_crowd(kind: str, session: Session) -> None:
    fill(session, 20, CROWD)
    alone = steps(session)

    fill(session, CROWD, 0, **CROWDS[kind])

    assert steps(session) < alone + MORE


def test_what_is_late_is_ended_in_portions_before_anything_behind_it_is_taken(session: Session) -> None:
    fill(session, 2 * PROMOTED + 1, 0, expires="5")
    fill(session, 5, 2 * PROMOTED + 1)

    taken = [[d.id for d in claim(session).deliveries] for _ in range(3)]

    assert taken == [[], [], [str(2 * PROMOTED + 1 + n) for n in range(1, 6)]]


@pytest.mark.parametrize("seqs", [range(1, 101), range(1, 101, 2), [*range(1, 40), *range(60, 101)], [50]])
def test_what_is_forgotten_leaves_nothing_behind_and_takes_nothing_else(
    seqs: Sequence[int], session: Session
) -> None:
    # Every fifth message is an event with copies in two queues.
    fill(session, 100, 0, state="'succeeded'", finished="n")
    session.conn.execute("UPDATE entry SET message = seq - 1 WHERE seq % 5 = 1")
    session.conn.execute("UPDATE message SET copies = 2 WHERE seq % 5 = 0 AND seq < 100")
    session.conn.execute("DELETE FROM message WHERE seq % 5 = 1")
    session.conn.execute(
        "INSERT INTO message (seq, id, name, queue, body, priority, copies) VALUES (0, 'a', 't', 'a', x'', 0, 1)"
    )
    session.conn.execute("INSERT INTO try SELECT seq, 1, 'w', 1, 1, 'done', NULL FROM entry")
    session.conn.execute("INSERT INTO result SELECT seq, x'' FROM entry")
    session.conn.execute("INSERT INTO kept SELECT queue, state, count(*) FROM entry GROUP BY 1, 2")

    forget(session, list(seqs))

    left = sorted(set(range(1, 101)) - set(seqs))
    for question in ("SELECT seq FROM entry", "SELECT entry FROM try", "SELECT entry FROM result"):
        assert sorted(n for (n,) in session.conn.execute(question)) == left
    of = [seq - 1 if seq % 5 == 1 else seq for seq in left]
    assert dict(session.conn.execute("SELECT seq, copies FROM message")) == Counter(of)
    assert session.rows("sweep_kept") == ([("succeeded", len(left))] if left else [])


def test_a_file_of_an_older_version_is_counted_once(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with apsw.Connection(str(path)) as old:
        for step in migrations()[:3]:
            old.execute(step)
        old.execute(NUMBERS.format(30) + OLD)
        old.pragma("application_id", APPLICATION)
        old.pragma("user_version", 3)
    old.close()

    new = connect(str(path))
    kept = new.execute("SELECT queue, state, n FROM kept ORDER BY 1, 2").fetchall()
    new.close()

    assert kept == [("a", "dead", 4), ("a", "succeeded", 8), ("b", "dead", 4), ("b", "succeeded", 8)]
