"""Looking again and again until somebody says stop: the wait between two looks, and how it ends."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import sys
from contextlib import contextmanager, redirect_stdout, suppress
from io import StringIO
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from forebay.model.when import Micros

SHORTEST: Final = 100_000
"""Microseconds between two looks at least: a screen that moves faster cannot be read, and the store has other work."""
SHARE: Final = 4
"""A wait is at least so many times as long as the look before it took, so that watching is never most of a store's work."""
_ENOUGH: Final = (b"q", b"Q", b"\x04")
_ENTER: Final = "\x1b[?1049h\x1b[?25l\x1b[?7l"
"""To a screen of its own, with the cursor hidden, and lines that do not wrap."""
_LEAVE: Final = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_AFRESH: Final = "\x1b[H\x1b[J"


class Pauses(Protocol):
    """The time between two looks."""

    def wait(self, span: Micros) -> bool:
        """Wait; False if the person wants no more."""
        ...

    def draw(self, look: Callable[[], None]) -> None:
        """Show what ``look`` says: in place of what it said before, where there is a screen, and no more than fits on it."""
        ...


class Plain:
    """Nobody can press a key, and lines follow each other. An interrupt ends the wait, as it ends everything."""

    def wait(self, span: Micros) -> bool:
        """Wait all of it."""
        with interruptible() as bell:
            select.select([bell], [], [], span / 1e6)
        return True

    def draw(self, look: Callable[[], None]) -> None:
        """One picture follows the other."""
        look()


class Keys:
    """Somebody sits at a terminal: the letter q, or the end of their input, ends it."""

    def wait(self, span: Micros) -> bool:
        """Wait all of it, or until a key says something."""
        with interruptible() as bell:
            ready, _, _ = select.select([sys.stdin, bell], [], [], span / 1e6)
        # By descriptor: what Python had buffered, `select` would not see.
        typed = os.read(sys.stdin.fileno(), 64) if sys.stdin in ready else b" "
        return bool(typed) and not any(key in typed for key in _ENOUGH)

    def draw(self, look: Callable[[], None]) -> None:
        """From the top, as many lines as there are; the terminal itself cuts those that are too long."""
        picture = Picture()
        with redirect_stdout(picture):
            look()
        lines = picture.getvalue().rstrip("\n").split("\n")[: shutil.get_terminal_size().lines]
        # No line feed at the end: on the last line it would move the first one out of sight.
        sys.stdout.write(_AFRESH + "\n".join(lines))
        sys.stdout.flush()


class Picture(StringIO):
    """What is about to be seen on a terminal."""

    def isatty(self) -> bool:
        """As what it stands for."""
        return True


def repeated(watch: str | None, look: Callable[[], None]) -> None:
    """Look once, or with ``watch`` (a time) again and again until the person wants no more. Raises `InvalidOption`."""
    if watch is None:
        look()
        return
    from forebay.model.when import micros  # not for help

    span = max(micros(watch, "--watch"), SHORTEST)
    # An interrupt is the usual way out.
    with suppress(KeyboardInterrupt), pauses() as between:
        while True:
            between.draw(look)
            if not between.wait(span):
                return


@contextmanager
def interruptible() -> Iterator[socket.socket]:
    """Something to wait for beside everything else, so that a signal in the moment before a wait begins is not slept through."""
    bell, hammer = socket.socketpair()
    with bell, hammer:
        hammer.setblocking(False)
        before = signal.set_wakeup_fd(hammer.fileno(), warn_on_full_buffer=False)
        try:
            yield bell
        finally:
            signal.set_wakeup_fd(before)


@contextmanager
def pauses() -> Iterator[Pauses]:
    """Pauses as stdin and stdout allow them. At a terminal with a screen of its own, which is given back however it ends."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        yield Plain()
        return
    import termios  # not everywhere, but wherever there is a terminal
    import tty

    before = termios.tcgetattr(sys.stdin)
    # What was typed before is not thrown away.
    tty.setcbreak(sys.stdin, termios.TCSADRAIN)
    sys.stdout.write(_ENTER)
    try:
        yield Keys()
    finally:
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
