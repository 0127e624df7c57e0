"""From outcome to verdict: retry, backoff, deadlines, grace. Pure; the only place that decides what follows a try."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from forebay.model import verdict as v
from forebay.model.outcome import (
    Buried,
    CalledOff,
    Failed,
    Fell,
    Interrupted,
    Nameless,
    Put,
    Returned,
    TooLate,
)
from forebay.model.verdict import Failure, Reason
from forebay.model.when import SECOND, After, At, resolve

if TYPE_CHECKING:
    from forebay.model.outcome import Outcome
    from forebay.model.verdict import Verdict
    from forebay.model.when import Instant, Micros, When

GRACE_STEP: Final = 5 * SECOND
"""How long a message with an unknown name is put off at a time, where it is luck who gets it next."""
NAMES_KEPT: Final = 30 * 86_400 * SECOND
"""How long a store keeps that somebody knew a name: longer than a message with an unknown one waits."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how late a failed try is repeated. Times in microseconds.

    The n-th retry waits a random time between 0 and ``min(cap, base * 2**(n-1))``: exponential backoff with full jitter, which spreads a
    crowd of failures widest (Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
    """

    max_attempts: int = 20
    base: Micros = SECOND
    cap: Micros = 3_600 * SECOND

    def most(self, asked: int | None) -> int:
        """How many tries a message has in all that asks for ``asked``."""
        return asked or self.max_attempts

    def backoff(self, attempt: int, roll: float) -> Micros:
        """The wait after the failed try number ``attempt`` (from 1), for a ``roll`` in [0, 1)."""
        ceiling = (
            self.cap if attempt > 40 else min(self.cap, self.base << (attempt - 1))
        )  # 2**40 s is past any cap
        return int(ceiling * roll)


class Facts(msgspec.Struct, frozen=True):
    """What policy may know of the delivery it judges. Instants are the store's; ``now`` is its clock carried forward.

    ``handed_on``: what is put off because its name is unknown does not wait until it is due for a worker that knows it (`Ask.names`).
    """

    attempts: int
    now: Instant
    max_attempts: int | None = None
    deadline: Instant | None = None
    unknown_since: Instant | None = None
    grace: Micros = 0
    handed_on: bool = False


def decide(outcome: Outcome, facts: Facts, policy: RetryPolicy, roll: float) -> Verdict:
    """The verdict on a try. ``roll`` is a random number in [0, 1), handed in so that the decision can be tested."""
    match outcome:
        case Returned(result):
            return v.Done(result)
        case Failed():
            return _failed(outcome, facts, policy, roll)
        case Put(at, awaits):
            return _awaiting(at, facts) if awaits else _in_time(v.Snooze(at), at, facts)
        case Buried(reason, failure, counts):
            return v.Dead(reason, failure, counts=counts)
        case Nameless(name):
            return _nameless(name, facts)
        case Interrupted():
            return v.Release()
        case CalledOff():
            return v.Cancelled()
        case Fell(failure):
            return v.Crashed(failure)
        case TooLate():
            return v.Expired()


def _failed(outcome: Failed, facts: Facts, policy: RetryPolicy, roll: float) -> Verdict:
    attempt = facts.attempts + 1
    if not outcome.retryable:
        return v.Dead(Reason.NOT_RETRYABLE, outcome.failure)
    if attempt >= policy.most(facts.max_attempts):
        return v.Dead(Reason.EXHAUSTED, outcome.failure)
    at = outcome.at or After(policy.backoff(attempt, roll))
    return _in_time(v.Retry(at, outcome.failure), at, facts)


def _in_time(verdict: v.Retry | v.Snooze, at: When, facts: Facts) -> Verdict:
    """A try that could only begin past the deadline is not waited for."""
    again = resolve(at, facts.now)
    if facts.deadline is None or again is None or again < facts.deadline:
        return verdict
    error = v.failure_of(verdict) or Failure("Deadline", "the next try would begin after the deadline")
    return v.Dead(Reason.DEADLINE, error, counts=v.spends_attempt(verdict))


def _awaiting(at: When, facts: Facts) -> Verdict:
    """What waits for an event may go on before its time: it waits until its deadline, where that is sooner."""
    again = resolve(at, facts.now)
    if facts.deadline is not None and (again is None or again > facts.deadline):
        at = At(facts.deadline)
    return v.Snooze(at, awaits=True)


def _nameless(name: str, facts: Facts) -> Verdict:
    since = facts.now if facts.unknown_since is None else facts.unknown_since
    if facts.now - since < facts.grace:
        over = since + facts.grace
        return v.Snooze(At(over if facts.handed_on else min(facts.now + GRACE_STEP, over)), unknown=True)
    error = Failure(
        "UnknownName",
        f"no worker of this queue has had a handler named {name!r} for {facts.grace // SECOND} s",
    )
    return v.Dead(Reason.UNKNOWN_NAME, error, counts=False)
