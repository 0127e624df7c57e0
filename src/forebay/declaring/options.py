"""What is declared of a queue."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast, get_args

from forebay.errors import InvalidOption
from forebay.model.amounts import check_count
from forebay.model.rule import Rule, Settings, rule_of
from forebay.model.when import Duration, micros

if TYPE_CHECKING:
    from collections.abc import Mapping

WhenFull: TypeAlias = Literal["reject", "block", "drop-expired"]
BLOCK_FOR: Final = "10s"
"""How long a sender waits for room, unless the queue's options say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueOptions:
    """What an App knows of one queue.

    What holds over all processes, kept with the queue: ``rate``, such as ``"100/s"``, ``"5/min"`` or ``"30/h"``: how many of its messages
    begin in a time, no more than ``burst`` at one moment (default: what a second brings); ``rate_per_key`` and ``burst_per_key``: the same
    of each key; ``concurrency``: how many run at once; ``per_key``: of each key; ``ordered``: those of a key run one at a time, in the
    order of a queue, and what is to be tried again keeps its place; ``fair``: keys take turns, whatever their backlog, as many as their
    ``weights`` say (default 1). What holds in one process: ``per_process``: how many of its deliveries that handles at a time;
    ``weight``: the queue's share of the worker.
    ``limit``: how many messages may wait in it before senders are refused (None: any number); it is kept with the queue, for senders of
    every process. ``when_full``: ``"reject"`` raises `QueueFull`; ``"block"`` waits for room, ``block_for`` at most (default 10 s);
    ``"drop-expired"`` ends what has expired, and then rejects. Retries and what handlers send with their success are never refused.
    ``native``: what only one engine has, a value of a class of that engine.

    >>> QueueOptions(limit=10_000, when_full="block", block_for="5s").limit
    10000
    """

    rate: str | None = None
    burst: int | None = None
    rate_per_key: str | None = None
    burst_per_key: int | None = None
    concurrency: int | None = None
    per_key: int | None = None
    ordered: bool = False
    fair: bool = False
    weights: Mapping[str, int] | None = None
    per_process: int | None = None
    weight: int = 1
    limit: int | None = None
    when_full: WhenFull = "reject"
    block_for: Duration | None = None
    native: object | None = None

    def __post_init__(self) -> None:
        if self.limit is not None:
            check_count(self.limit, "QueueOptions(limit=...)", 1, 10_000_000)
        _check_when_full(self)
        if self.per_process is not None:
            check_count(self.per_process, "QueueOptions(per_process=...)", 1, 100_000)
        _ = self.rule
        check_count(self.weight, "QueueOptions(weight=...)", 1, 1_000)

    @property
    def rule(self) -> Rule:
        """What holds over all processes. Raises `InvalidOption` for what cannot be."""
        said = {name: getattr(self, name) for name in Settings.__annotations__}
        return rule_of(cast("Settings", said), "queue option ")


class QueueSettings(Settings, total=False):
    """`QueueOptions` as the keyword arguments of `App.queue`."""

    per_process: int | None
    weight: int
    limit: int | None
    when_full: WhenFull
    block_for: Duration | None
    native: object | None


def _check_when_full(options: QueueOptions) -> None:
    """Raise `InvalidOption` for a policy that does not exist, or does not go with the rest."""
    if options.when_full not in get_args(WhenFull):
        near = difflib.get_close_matches(str(options.when_full), get_args(WhenFull), n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"it is one of {', '.join(get_args(WhenFull))}."
        raise InvalidOption(f"QueueOptions(when_full={options.when_full!r}) is no policy: {hint}")
    if options.when_full == "drop-expired" and options.limit is None:
        raise InvalidOption(
            "QueueOptions(when_full='drop-expired') needs a limit=: without one nothing is ever full."
        )
    if options.block_for is None:
        return
    if options.when_full != "block":
        raise InvalidOption(
            f"QueueOptions(block_for=...) goes with when_full='block', not with {options.when_full!r}, which does not wait."
        )
    if micros(options.block_for, "QueueOptions(block_for=...)") == 0:
        raise InvalidOption(
            "QueueOptions(block_for=...) must be longer than 0; when_full='reject' does not wait."
        )
