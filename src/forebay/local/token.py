"""Asking others to stop, as Go's context does: a tree of tokens with deadlines and causes. Nothing is interrupted; who watches, stops."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Never, Self

from forebay.local.channel import Channel, ReceiveOnly
from forebay.local.errors import Cancelled, DeadlineExceeded

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class Token:
    """A request to stop that spreads to all its children and never upward. The first cause wins.

    ``deadline`` is a moment of the loop's clock in seconds: the sooner of the parent's and ``timeout`` seconds from now.

    ```python
    with Token(timeout=5.0) as token:
        while not token.error:
            match await select(jobs.receiving(), token.done.receiving()):
                case Received(0, job):
                    await work(job, token.child())
    ```
    """

    def __init__(self, parent: Token | None = None, *, timeout: float | None = None) -> None:
        loop = asyncio.get_running_loop()
        own = None if timeout is None else loop.time() + timeout
        ends = [end for end in (own, parent.deadline if parent else None) if end is not None]
        self.deadline: float | None = min(ends, default=None)
        self.error: Cancelled | None = None
        self.cause: BaseException | None = None
        self._parent = parent
        self._children: dict[Token, None] = {}
        self._after: dict[Callable[[], object], None] = {}
        self._done = Channel[Never](name="token")
        self._timer: asyncio.TimerHandle | None = None
        if parent is not None and parent.error is not None:
            self._end(parent.error, parent.cause)
            return
        if parent is not None:
            parent._children[self] = None
        if own is not None and own == self.deadline:
            self._timer = loop.call_at(own, self._expire)

    @property
    def done(self) -> ReceiveOnly[Never]:
        """A channel that ends when the token is cancelled: for `select`."""
        return self._done.receive_only

    def cancel(self, cause: BaseException | None = None) -> None:
        """Ask to stop; only the first time counts."""
        error = Cancelled("The token was cancelled.")
        self._end(error, cause or error)

    def child(self, *, timeout: float | None = None) -> Token:
        """Return a token that ends with this one, or before it."""
        return Token(self, timeout=timeout)

    def check(self) -> None:
        """Raise the token's error, if it was cancelled, from its cause."""
        if self.error is not None:
            raise self.error from (self.cause if self.cause is not self.error else None)

    def after(self, fn: Callable[[], object]) -> Callable[[], bool]:
        """Call ``fn`` on the loop once the token is cancelled. The function returned prevents that, and says whether it did."""

        def call() -> object:
            return fn()

        def stop() -> bool:
            return self._after.pop(call, self) is not self

        if self.error is not None:
            asyncio.get_running_loop().call_soon(call)
        else:
            self._after[call] = None
        return stop

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    def _expire(self) -> None:
        error = DeadlineExceeded("The token's time is over.")
        self._end(error, error)

    def _end(self, error: Cancelled, cause: BaseException | None) -> None:
        if self.error is not None:
            return
        self.error, self.cause = error, cause
        self._done.close()
        if self._timer is not None:
            self._timer.cancel()
        if self._parent is not None:
            self._parent._children.pop(self, None)
        children, self._children = self._children, {}
        for child in children:
            child._end(error, cause)
        after, self._after = self._after, {}
        loop: Any = asyncio.get_running_loop()
        for call in after:
            loop.call_soon(call)
