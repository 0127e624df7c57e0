"""What the command line's exit codes mean, and which error ends in which."""

from __future__ import annotations

from enum import IntEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from forebay.errors import ConfigError, EngineError, ForebayError, OutcomeUnknown, QueueFull, SendError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Exit(IntEnum):
    """How ``forebay`` ends."""

    OK = 0
    FAILED = 1
    USAGE = 2
    ENGINE = 3
    UNKNOWN = 4
    STUCK = 5
    BLOCKED = 6
    FULL = 7
    INTERRUPTED = 130
    PIPE = 141


MEANINGS: Final[Mapping[Exit, str]] = MappingProxyType(
    {
        Exit.OK: "done; for a worker: stopped in order",
        Exit.FAILED: "not done: not found, nothing matched, declined, failed, output not written",
        Exit.USAGE: "the command line, the APP, a name or a setting is wrong",
        Exit.ENGINE: "the engine cannot be reached or refuses the file",
        Exit.UNKNOWN: "the outcome is unknown: repeat with the same --id",
        Exit.STUCK: "the worker stopped, but handlers, or threads they left, would not; their work is handed back",
        Exit.BLOCKED: "the worker ended itself: a handler blocked it past its timeout; its log has the stacks",
        Exit.FULL: "the queue is at its limit: nothing was sent; repeat after a while",
        Exit.INTERRUPTED: "interrupted",
        Exit.PIPE: "nobody reads the output, or it is closed",
    }
)


def code_of(error: ForebayError) -> Exit:
    """The exit code for an error."""
    match error:
        case OutcomeUnknown():
            return Exit.UNKNOWN
        case EngineError():
            return Exit.ENGINE
        case QueueFull():
            return Exit.FULL
        case ConfigError() | SendError():
            return Exit.USAGE
        case _:
            return Exit.FAILED


def table() -> str:
    """The codes and their meanings, for ``--help``."""
    return "\n".join(f"  {code.value:>3}  {meaning}" for code, meaning in MEANINGS.items())
