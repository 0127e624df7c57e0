"""What work on the database is done with: a connection, its statements, the options, and the news to tell once it is committed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import msgspec

from forebay.stores.sqlite.tally import Caps, Tallies
from forebay.stores.sums import Sums

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from forebay.engine import EngineOptions, Topic
    from forebay.model.when import Instant
    from forebay.stores.sqlite.connection import Connection

T = TypeVar("T")
Row: TypeAlias = tuple[Any, ...]
Value: TypeAlias = int | str | bytes | None

_PIECE: Final = re.compile(r"\{(piece_\w+)\}")
NAME: Final = "\n-- name: "
"""What comes before the name of a statement in its file."""
CHUNK: Final = 1_000
"""Rows in one statement at most."""
_ENCODER: Final = msgspec.json.Encoder()


@dataclass(slots=True)
class Session:
    """Used by one thread at a time. ``news`` is emptied before each transaction and told after it. ``now`` is read when the work begins:
    inside the transaction, where there is one, so that no wait for the lock makes it old. ``tallies`` are shared by all sessions of an
    engine, under its lock. ``sums``: what the transaction did, written at its end or ``carried``, with their minute, to
    the end of another. ``unfinished``: a transaction has left work that the next is to go on with. ``stirred``: it has marked something in
    flows, for certain; ``walked``: from which mark on the next one looks, so that each has its turn.
    """

    conn: Connection
    sql: Mapping[str, str]
    options: EngineOptions
    tallies: Tallies = field(default_factory=Tallies)
    caps: Caps = field(default_factory=Caps)
    news: set[Topic] = field(default_factory=set)
    sums: Sums = field(default_factory=Sums)
    stirred: bool = False
    walked: int = 0
    carried: dict[tuple[Instant, str, str], list[int]] = field(default_factory=dict)
    now: Instant = 0
    unfinished: bool = False

    def rows(self, name: str, bindings: Mapping[str, Value] | None = None) -> list[Row]:
        """All rows of a query."""
        return self.conn.execute(self.sql[name], bindings).fetchall()

    def stream(self, name: str, bindings: Mapping[str, Value]) -> Iterator[Row]:
        """The rows of a query, each read when it is asked for."""
        return iter(self.conn.execute(self.sql[name], bindings))

    def row(self, name: str, bindings: Mapping[str, Value] | None = None) -> Row:
        """The one row of a query that always has one."""
        return self.conn.execute(self.sql[name], bindings).fetchall()[0]

    def change(self, name: str, bindings: Mapping[str, Value] | None = None) -> int:
        """Carry out a change; returns how many rows it concerned."""
        self.conn.execute(self.sql[name], bindings)
        return self.conn.changes()

    def each(self, name: str, rows: Sequence[tuple[Value, ...]]) -> None:
        """Carry out a change once for each row of parameters, in their order in the statement."""
        self.conn.executemany(self.sql[name], rows)


def statements() -> Mapping[str, str]:
    """All statements by name, without their comments. A file holds those of one operation, each after a line ``-- name: ...``."""
    found: dict[str, str] = {}
    for file in resources.files(__package__).joinpath("sql").iterdir():
        _, *parts = file.read_text("utf-8").split(NAME)
        for part in parts:
            name, *lines = part.splitlines()
            found[name] = "\n".join(line for line in lines if not line.startswith("--")).strip()
    return MappingProxyType(dict(_composed(found)))


def _composed(found: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Statements with their ``{piece_...}`` in place, and with each ``{way}`` to go."""
    pieces = {name: found.pop(name) for name in [name for name in found if name.startswith("piece_")]}
    for name, text in found.items():
        whole = _PIECE.sub(lambda named: pieces[named[1]], text)
        if "{way}" in whole:
            yield name, whole.replace("{way}", "ASC")
            yield f"{name}_newest", whole.replace("{way}", "DESC")
        else:
            yield name, whole


def batch(rows: object) -> str:
    """Rows as the JSON text that a batch statement takes."""
    return _ENCODER.encode(rows).decode()


def parts(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """Rows in parts that one statement takes."""
    return (rows[n : n + CHUNK] for n in range(0, len(rows), CHUNK))


def numbers(seqs: Iterable[int]) -> str:
    """Sequence numbers as a JSON array."""
    return f"[{','.join(map(str, seqs))}]"
