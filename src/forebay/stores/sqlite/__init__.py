"""The SQLite engine: messages in one file, for any number of processes of one host. The only room that speaks `apsw`."""

from forebay.stores.sqlite.engine import SqliteEngine

__all__ = ["SqliteEngine"]
