"""From URL to engine: the one place that knows which schemes exist. Engines are imported when they are asked for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from forebay.errors import ConfigError, Unsupported
from forebay.support.masking import without_secrets

if TYPE_CHECKING:
    from forebay.engine import Engine, EngineOptions

PLANNED: Final = {
    "postgresql": "PostgreSQL",
    "postgres": "PostgreSQL",
    "redis": "Redis",
    "rediss": "Redis",
    "valkey": "Valkey",
    "amqp": "RabbitMQ",
    "amqps": "RabbitMQ",
    "nats": "NATS JetStream",
    "kafka": "Kafka",
}
"""Engines that are known and not part of this version."""

HINT: Final = "Use sqlite:///relative/path.db, sqlite:////absolute/path.db or memory://."


_ADDRESS: Final = re.compile(r":.*@")
"""In the path of a file: the end of a user and a password. A file that has both signs in its name writes one as %40."""


def engine_for(url: str, options: EngineOptions) -> Engine:
    """The engine a URL names; nothing is opened yet. Raises `ConfigError` with what is wrong with the URL."""
    scheme, separator, rest = url.partition("://")
    if not separator or "@" in scheme or ":" in scheme:
        raise ConfigError(f"{_shown(url)} is not an engine URL: it has no scheme. {HINT}")
    match scheme.lower():
        case "memory":
            return _memory(url, rest, options)
        case "sqlite":
            return _sqlite(url, rest, options)
        case planned if planned in PLANNED:
            raise Unsupported(f"This version of Forebay has no {PLANNED[planned]} engine yet. {HINT}")
        case _:
            raise ConfigError(f"{_shown(url)} has the unknown scheme {scheme!r}. {HINT}")


def _memory(url: str, rest: str, options: EngineOptions) -> Engine:
    from forebay.stores.memory import MemoryEngine  # only the engine in use is imported

    if rest:
        raise ConfigError(
            f"{_shown(url)}: a memory engine belongs to its App and has no address; write memory://."
        )
    return MemoryEngine(options)


def _sqlite(url: str, rest: str, options: EngineOptions) -> Engine:
    from forebay.stores.sqlite import SqliteEngine  # only the engine in use is imported

    location, _, query = rest.partition("#")[0].partition("?")
    host, slash, path = location.partition("/")
    if host:
        where = "" if without_secrets(url) != url or "@" in host else f": write sqlite:///{host}{slash}{path}"
        raise ConfigError(
            f"{_shown(url)} has two slashes too few or a host{where}. A SQLite file is on this host, and has no user. {HINT}"
        )
    if _ADDRESS.search(path):
        raise ConfigError(f"{_shown(url)} names a user, which a SQLite file has not. {HINT}")
    path = unquote(path)
    if not path or path.endswith("/") or path == ":memory:":
        raise ConfigError(f"{_shown(url)} names no file. {HINT}")
    flags = dict(flag.partition("=")[::2] for flag in query.split("&") if flag)
    if flags not in ({}, {"network": "allow"}):
        raise ConfigError(f"{_shown(url)} has an unknown option: the only one is ?network=allow.")
    return SqliteEngine(path, options, network=bool(flags))


def _shown(url: str) -> str:
    return repr(without_secrets(url))
