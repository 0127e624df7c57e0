"""What an App asks of its engine beyond keeping and handing out messages, checked against the engine's traits: when it is declared against
what the class can do, when a broker is opened against what the server can.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from forebay.errors import Unsupported
from forebay.model.rule import settings_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from forebay.declaring.options import QueueOptions
    from forebay.engine import Source, Traits

STORE: Final = "sqlite:///forebay.db"


@dataclass(frozen=True, slots=True)
class Feature:
    """Something that not every engine can do. ``lacking``: what one has not; ``instead``: what to do there."""

    has: Callable[[Traits], bool]
    lacking: str
    instead: str


PRIORITIES: Final = Feature(
    lambda t: t.priorities,
    "no priorities",
    "give each priority a queue of its own, whose weight is its share of the worker",
)
TIMERS: Final = Feature(
    lambda t: t.delay,
    "no timers, so that what is tried again comes back at once",
    f"leave it out, or join it to a store: App({STORE!r}, bus=...)",
)
TOPICS: Final = Feature(
    lambda t: t.fan_out, "no topics", f"send tasks, or use an engine that has them, such as {STORE}"
)
GROUPS: Final = Feature(
    lambda t: t.scopes and t.delay,
    "no memory for what gathers",
    "use batch= and within=, which gather in the worker, or a store",
)
LIMITS: Final = Feature(lambda t: t.limits, "no limits", "declare the queue without limit=, or use a store")
LINES: Final = Feature(
    lambda t: t.lines,
    "no rules that hold over all processes",
    f"leave it out, bound each worker by its own concurrency, or join it to a store: App({STORE!r}, bus=...)",
)
EXPIRY: Final = Feature(
    lambda t: t.expiry, "no expiry, so that nothing there can be dropped for it", "use when_full='reject'"
)
CLOCK: Final = Feature(
    lambda t: t.virtual_clock, "a time of its own", "leave clock= out, or use memory:// in a test"
)
MEMORY: Final = Feature(
    lambda t: t.remembers, "no memory: it is a bus itself", "give a store, or the bus alone"
)
FLOWS: Final = Feature(
    lambda t: t.flows,
    "no flows",
    f"give a store that has them, alone or beside the bus, as in App({STORE!r}, bus=...)",
)
SCHEDULES: Final = Feature(
    lambda t: t.remembers,
    "no memory in which schedules could be kept",
    f"join it to a store: App({STORE!r}, bus=...)",
)
IDS: Final = Feature(
    lambda t: t.dedupes and t.fences,
    "no way to refuse what is sent or settled twice, which the bridge relies on",
    f"join the bus to a store such as {STORE}",
)


@dataclass(frozen=True, slots=True)
class Need:
    """What was asked for, ``where`` and by which ``option``."""

    where: str
    option: str
    feature: Feature

    def check(self, traits: Traits) -> None:
        """Raise `Unsupported`, with what to do, if an engine with these traits cannot."""
        feature = self.feature
        if not feature.has(traits):
            raise Unsupported(
                f"{self.where}: {self.option} cannot be: the {traits.engine} engine has {feature.lacking}. "
                f"{feature.instead[0].upper()}{feature.instead[1:]}."
            )


def needs_of_handler(name: str, options: Mapping[str, object]) -> list[Need]:
    """What the options of a handler ask for."""
    asked = {
        "priority": PRIORITIES,
        "backoff": TIMERS,
        "backoff_cap": TIMERS,
        "max_running": LINES,
        "gather": GROUPS,
    }
    return [
        Need(f"Handler {name!r}", f"{option}={options[option]!r}", feature)
        for option, feature in asked.items()
        if option in options
    ]


def needs_topics(where: str, source: Source) -> Need:
    """What a subscription asks for."""
    return Need(where, f"a subscription to {source.pattern!r}", TOPICS)


def needs_of_queues(queues: Mapping[str, QueueOptions]) -> list[Need]:
    """What the options of queues ask for."""
    return [
        need
        for queue, options in queues.items()
        for asked, need in (
            (options.limit is not None, Need(f"Queue {queue!r}", f"limit={options.limit}", LIMITS)),
            (
                options.when_full == "drop-expired",
                Need(f"Queue {queue!r}", "when_full='drop-expired'", EXPIRY),
            ),
            *(
                (True, Need(f"Queue {queue!r}", f"{name}={value!r}", LINES))
                for name, value in settings_of(options.rule).items()
            ),
        )
        if asked
    ]


def needs_room(size: int) -> Need:
    """What a largest body asks for."""
    feature = Feature(
        lambda t: size <= t.max_body,
        f"no room for bodies of {size:,} bytes",
        "give a smaller one, store what is larger elsewhere and send a reference",
    )
    return Need("App", f"max_body={size}", feature)


def check_all(needs: Iterable[Need], traits: Traits) -> None:
    """Raise `Unsupported` for the first that an engine cannot fulfil."""
    for need in needs:
        need.check(traits)


def check_native(queues: Mapping[str, QueueOptions], engines: Iterable[Traits]) -> None:
    """Raise `Unsupported` for a native value that none of these engines knows."""
    known = {traits.native for traits in engines} - {None}
    for queue, options in queues.items():
        if options.native is not None and type(options.native) not in known:
            names = ", ".join(traits.engine for traits in engines)
            takes = " or ".join(sorted(kind.__name__ for kind in known if kind is not None))
            raise Unsupported(
                f"Queue {queue!r}: native={type(options.native).__name__}(...) is not for {names}: "
                f"{f'give a {takes}' if takes else 'leave it out'}, or use the engine that it is for."
            )


def for_engine(source: Source, traits: Traits) -> Source:
    """``source`` without a native value that is for another engine."""
    own = traits.native is not None and isinstance(source.native, traits.native)
    return source if own or source.native is None else replace(source, native=None)
