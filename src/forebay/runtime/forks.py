"""What a fork of a worker's process may do: its own thing, until it ends. It is no worker, though it has all that the worker had."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import traceback
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NoReturn
from weakref import ref

if TYPE_CHECKING:
    from collections.abc import Sequence


class Home:
    """The process in which this was made, and its running loop. ``left``: we are a fork of it. Cheaper to ask, for each message, than the
    system.
    """

    __slots__ = ("__weakref__", "left", "loop")

    def __init__(self) -> None:
        self.left, self.loop = False, asyncio.get_running_loop()
        os.register_at_fork(after_in_child=partial(_leave, ref(self)))


def _leave(known: ref[Home]) -> None:
    if (home := known()) is not None:
        home.left = True
        with suppress(RuntimeError):  # it is closed, or another thread's
            home.loop.call_soon(
                end_fork, RuntimeError("a fork of a worker cannot await: its loop is the worker's")
            )


def end_fork(error: BaseException | None) -> NoReturn:
    """End a fork in which user code has come back, as its own program would have ended: it would go on with the worker's loop, and take
    events, files and messages from it.
    """
    code = 0 if error is None else 1
    if error is not None and issubclass(type(error), SystemExit):
        said = getattr(error, "code", None)
        code = said & 0xFF if isinstance(said, int) else int(said is not None)
    with suppress(Exception):  # whatever the application has put in the place of its streams
        if error is not None and not issubclass(type(error), SystemExit):
            traceback.print_exception(error)
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def forget_in_forks(caught: Sequence[signal.Signals]) -> None:
    """From now on a fork does with the signals in ``caught`` (a list that may change) what a new program does, from its first moment on.

    Else a SIGTERM for a fork would stop the worker, over the socket that both have for signals, and leave the fork alive: who ended it so,
    as `multiprocessing` does when the interpreter ends, would wait for it for ever.
    """
    masks: dict[int, set[int]] = {}

    def hold() -> None:
        masks[threading.get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, caught)

    def let_go() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.pop(threading.get_ident()))

    def forget() -> None:
        if caught:
            signal.set_wakeup_fd(-1)
        for number in caught:
            signal.signal(number, signal.SIG_DFL)
        let_go()

    os.register_at_fork(before=hold, after_in_parent=let_go, after_in_child=forget)
