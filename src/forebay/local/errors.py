"""Every error of this room, in one tree. It stands apart from `forebay.errors`, because this room stands apart.

LocalError
├── ClosedError                the channel or queue is closed
├── WouldBlock                 it cannot be done now, and waiting was not asked for
│   └── QueueFull
├── Cancelled                  a token was cancelled
│   └── DeadlineExceeded
├── MisuseError                the call itself is wrong: fix the code
│   └── WrongLoop
├── LeakError                  something was left running
└── DeadlockError              nothing moved for too long; the message names who waits for what
"""

from __future__ import annotations


class LocalError(Exception):
    """The root: ``except LocalError`` catches everything this room raises on purpose."""


class ClosedError(LocalError):
    """The channel or queue is closed: nothing more goes in, or nothing more comes out."""


class WouldBlock(LocalError):
    """It cannot be done at once."""


class QueueFull(WouldBlock):
    """The background queue is full and set to reject."""


class Cancelled(LocalError):
    """A token was cancelled: whoever watches it should stop."""


class DeadlineExceeded(Cancelled, TimeoutError):
    """A token's time is over."""


class MisuseError(LocalError, ValueError):
    """The call is wrong in itself, and would be wrong each time."""


class WrongLoop(MisuseError, RuntimeError):
    """A thing of one event loop was used from another one, or from a thread."""


class LeakError(LocalError, AssertionError):
    """A test left tasks or threads behind."""


class DeadlockError(LocalError, TimeoutError):
    """The block did not end in time; the message is the report of who waits for what."""
