"""What SQLite itself gives through apsw, on the same disk and with the same durability: the ceiling of the run."""

from __future__ import annotations

import asyncio
import json
import queue
import threading
import time
from typing import TYPE_CHECKING

import apsw

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 20_000
BATCH = 100

_SCHEMA = """
PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=1000;
CREATE TABLE job(seq INTEGER PRIMARY KEY, state INTEGER NOT NULL DEFAULT 0, body BLOB);
CREATE INDEX ready ON job(seq) WHERE state = 0;
"""


def one_row_commits(folder: Path, count: int = 1_000) -> float:
    """Single-row inserts a second, each committed for itself."""
    db = _open(folder / "single.db")
    began = time.perf_counter()
    for n in range(count):
        db.execute("INSERT INTO job(body) VALUES (?)", (f"[{n}]",))
    return count / (time.perf_counter() - began)


def one_row_commits_from_a_loop(folder: Path, count: int = 1_000) -> float:
    """The same from an event loop that is not to be blocked: each insert is handed to a thread and its end back."""
    db = _open(folder / "handed.db")
    jobs: queue.SimpleQueue[asyncio.Future[None] | None] = queue.SimpleQueue()

    def serve(loop: asyncio.AbstractEventLoop) -> None:
        while (done := jobs.get()) is not None:
            db.execute("INSERT INTO job(body) VALUES (?)", ("[1]",))
            loop.call_soon_threadsafe(done.set_result, None)

    async def insert() -> float:
        loop = asyncio.get_running_loop()
        thread = threading.Thread(target=serve, args=(loop,))
        thread.start()
        began = time.perf_counter()
        for _ in range(count):
            done: asyncio.Future[None] = loop.create_future()
            jobs.put(done)
            await done
        rate = count / (time.perf_counter() - began)
        jobs.put(None)
        thread.join()
        return rate

    return asyncio.run(insert())


def batches(folder: Path) -> dict[str, float]:
    """Rows a second, in batches of 100, one transaction each: insert, claim, finish."""
    db = _open(folder / "batch.db")
    bodies = [json.dumps([f"[{n}]" for n in range(start, start + BATCH)]) for start in range(0, ROWS, BATCH)]
    began = time.perf_counter()
    for text in bodies:
        db.execute("BEGIN IMMEDIATE; INSERT INTO job(body) SELECT value FROM json_each(?); COMMIT", (text,))
    rates = {"insert": ROWS / (time.perf_counter() - began)}
    claim = "UPDATE job SET state = 1 WHERE seq IN (SELECT seq FROM job WHERE state = 0 ORDER BY seq LIMIT ?) RETURNING seq, body"
    claimed, began = [], time.perf_counter()
    while rows := db.execute(claim, (BATCH,)).fetchall():
        claimed.append(json.dumps([seq for seq, _ in rows]))
    rates["claim"] = ROWS / (time.perf_counter() - began)
    began = time.perf_counter()
    for text in claimed:
        db.execute("UPDATE job SET state = 2 WHERE seq IN (SELECT value FROM json_each(?))", (text,))
    rates["finish"] = ROWS / (time.perf_counter() - began)
    return rates


def _open(path: Path) -> apsw.Connection:
    db = apsw.Connection(str(path))
    db.execute(_SCHEMA).fetchall()
    return db
