"""What a bus keeps of a message in the message itself: how often it was tried, crashed and handed back, and since when it exists.

A bus remembers nothing, so a retry there is a new copy, and what a store would count goes with it in headers, beside the sender's own. They
are taken out again before a handler sees the message; what comes from strangers and is no number counts as nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

import msgspec

from forebay.model.effect import Unknown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from forebay.model.effect import Effect
    from forebay.model.when import Instant

PREFIX: Final = "forebay-"
LONGEST: Final = 18
"""Digits of a number that is read: microseconds for the next 30,000 years."""


class Carried(msgspec.Struct, frozen=True, kw_only=True):
    """The counters of a delivery. ``created``: when its first copy was published; None for a message that no copy was made of yet."""

    attempts: int = 0
    crashes: int = 0
    releases: int = 0
    created: Instant | None = None
    unknown_since: Instant | None = None

    def after(self, change: Effect, now: Instant) -> Self:
        """What the next copy carries, after a try that ended so.

        >>> from forebay.model.effect import effect
        >>> from forebay.model.verdict import Release
        >>> Carried(attempts=2).after(effect(Release(), crashes=0, most_crashes=3, now=0), now=0).releases
        1
        """
        unknown = {
            Unknown.KEEP: self.unknown_since,
            Unknown.BEGIN: now if self.unknown_since is None else self.unknown_since,
            Unknown.CLEAR: None,
        }
        return msgspec.structs.replace(
            self,
            attempts=self.attempts + change.attempts,
            crashes=self.crashes + change.crashes,
            releases=self.releases + change.releases,
            unknown_since=unknown[change.unknown],
        )


_NAMES: Final = {field: PREFIX + field.replace("_", "-") for field in Carried.__struct_fields__}


def with_carried(headers: Mapping[str, str], carried: Carried) -> dict[str, str]:
    """The headers of a copy: those of the message, none of ours that a sender may have written, and what is carried.

    >>> with_carried({"traceparent": "00-1", "forebay-attempts": "9"}, Carried(attempts=1))
    {'traceparent': '00-1', 'forebay-attempts': '1'}
    """
    counts = {name: getattr(carried, field) for field, name in _NAMES.items()}
    return without_carried(headers) | {name: str(count) for name, count in counts.items() if count}


def without_carried(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers a sender wrote."""
    return {name: value for name, value in headers.items() if not name.startswith(PREFIX)}


def read_carried(headers: Mapping[str, str]) -> Carried:
    """What a copy carries.

    >>> read_carried({"forebay-crashes": "2", "forebay-attempts": "many"})
    Carried(attempts=0, crashes=2, releases=0, created=None, unknown_since=None)
    """
    return Carried(
        **{
            field: int(value)
            for field, name in _NAMES.items()
            if (value := headers.get(name, "")).isascii() and value.isdecimal() and len(value) <= LONGEST
        }
    )
