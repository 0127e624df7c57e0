"""What ``forebay doctor`` looks at: this Python, the settings, the App, the engine by its own checkup, the queues through the App."""

from __future__ import annotations

import os
import platform
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from forebay.app import App
from forebay.cli.loading import load
from forebay.cli.orders import weights
from forebay.cli.output import counted, span
from forebay.engine import Checkable, EngineOptions, Timing, timing_from
from forebay.engines import engine_for
from forebay.errors import ConfigError, ForebayError
from forebay.model.amounts import byte_size, whole_number
from forebay.model.checkup import Finding, Grade
from forebay.model.state import WAITING, State
from forebay.model.when import SECOND, micros
from forebay.processes.health import Address
from forebay.runtime.bridge import OUTBOX
from forebay.support.clock import SystemClock
from forebay.support.logs import Looks
from forebay.support.masking import masked
from forebay.support.settings import SETTINGS, read, read_all

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from forebay.engine import Engine
    from forebay.model.query import Counts, QueueCounts
    from forebay.model.when import Instant
    from forebay.support.settings import Value

OLD: Final = 900 * SECOND
"""How long the oldest ready message of a queue may have been waiting before that is worth a word."""
OLDEST_PYTHON: Final = (3, 11)
OTHER_VARIABLES: Final = frozenset({"FOREBAY_DEBUG", "FOREBAY_DEMO_NOTEBOOK", "FOREBAY_POOL_LOG"})
"""Variables that are no settings."""
NAMED: Final = 5
"""Queues that are named in one line."""


def look_over(spec: str | None, url: str | None, include: Sequence[str] = (), *, deep: bool) -> list[Finding]:
    """All checks in turn. What one of them stands on and is not there is skipped, not raised."""
    found = [_python(), _uvloop(), _settings()]
    app, said = _app(spec, include)
    found.append(said)
    if spec is not None and app is None:
        found.append(
            Finding(
                "engine", Grade.SKIPPED, "the App says which", "forebay doctor --url URL looks at it alone."
            )
        )
        return found
    engine, said = _engine(app, url)
    found.append(said)
    if engine is None:
        return found
    return [*found, *_checkups(app, engine, deep=deep)]


def _checkups(app: App | None, engine: Engine, *, deep: bool) -> Iterator[Finding]:
    if not isinstance(engine, Checkable):
        what = (
            "lives inside one process, and this one has just begun"
            if not engine.traits.shared
            else "has no checkup"
        )
        yield Finding("contents", Grade.SKIPPED, f"{engine.url} {what}")
        return
    found = engine.checkup(SystemClock().now(), deep=deep)
    yield from found
    # A file that is not whole, or not there, is not opened in the usual way: that would make it, or fail with the same words again.
    if any(one.grade is Grade.FAIL or one.name == "contents" for one in found):
        yield Finding("queues", Grade.SKIPPED, "the store was not opened")
        return
    try:
        with App(engine, timing=Timing(), max_body=1) as looking:
            counts = looking.sync(looking.count())
    except ForebayError as error:
        yield Finding("queues", Grade.FAIL, str(error), "Do as the line above says.")
        return
    yield from _queues(counts)
    yield from _handlers(app, counts)


# -- this process


def _python() -> Finding:
    text = f"{platform.python_implementation()} {platform.python_version()}"
    if sys.version_info >= OLDEST_PYTHON:
        return Finding("python", Grade.OK, text)
    return Finding("python", Grade.FAIL, text, "Install Python 3.11 or newer.")


def _uvloop() -> Finding:
    if find_spec("uvloop") is not None:
        return Finding("uvloop", Grade.OK, "installed: workers run on it")
    return Finding("uvloop", Grade.SKIPPED, "not installed: workers run on asyncio's own loop, which is slower",
                   "pip install 'forebay[uvloop]'")  # fmt: skip


def _settings() -> Finding:
    try:
        values = read_all()
        _read_through(values)
    except ConfigError as error:
        return Finding(
            "settings",
            Grade.FAIL,
            masked(str(error)),
            "forebay config show says where each setting comes from.",
        )
    known = {setting.variable for setting in SETTINGS} | OTHER_VARIABLES
    strange = sorted(name for name in os.environ if name.startswith("FOREBAY_") and name not in known)
    if strange:
        return Finding("settings", Grade.WARN, f"{_some(strange)} in the environment: no setting has that name",
                       "Check the spelling: forebay config show lists all of them.")  # fmt: skip
    said = sum(value.origin != "default" for value in values.values())
    return Finding("settings", Grade.OK, f"{said} set, {len(values) - said} by default")


def _read_through(values: dict[str, Value]) -> None:
    """Read every value as its user will. Raises `ConfigError` for the first that cannot be, or that does not go with another."""
    for name, lowest in (
        ("concurrency", 1),
        ("processes", 0),
        ("max_tasks", 0),
        ("pool_processes", 0),
    ):
        whole_number(values[name].text, name, lowest)
    byte_size(values["max_body"].text, "max_body", 1)
    byte_size(values["max_memory"].text, "max_memory")
    if values["health"].text:
        Address.parse(values["health"].text)
    micros(values["stop_within"].text, "stop_within")
    weights(values["queues"].text)
    timing_from({name: value.text for name, value in values.items()})
    Looks(values["log_level"].text, values["log_format"].text, values["logging"].text)


def _app(spec: str | None, include: Sequence[str]) -> tuple[App | None, Finding]:
    if spec is None:
        return None, Finding("app", Grade.SKIPPED, "none was named", "forebay doctor shop:app")
    try:
        app = load(spec, include)
    except ForebayError as error:
        return None, Finding("app", Grade.FAIL, masked(str(error)), "Make the import work, then look again.")
    routes = app.routes()
    handlers = sum(1 if route.handler is not None else len(route.handlers) for route in routes)
    text = f"{spec} declares {counted(handlers, 'handler')} for {counted(len(routes), 'queue')}"
    return app, Finding("app", Grade.OK, text)


def _engine(app: App | None, url: str | None) -> tuple[Engine | None, Finding]:
    try:
        engine = app.engine if app is not None else engine_for(read("url", url), EngineOptions())
    except ConfigError as error:
        return None, Finding(
            "engine", Grade.FAIL, str(error), "Write the URL so in --url, FOREBAY_URL or the setting url."
        )
    return engine, Finding("engine", Grade.OK, engine.url)


# -- the queues


def _queues(counts: Counts) -> Iterator[Finding]:
    yield _backlog(counts)
    dead = {one.queue: one.states.get(State.DEAD, 0) for one in counts.queues if one.states.get(State.DEAD)}
    yield Finding("dead letters", Grade.OK, "none") if not dead else Finding(
        "dead letters", Grade.WARN, f"{counted(sum(dead.values()), 'message')} in {_some(dead)}",
        "forebay dead list says why; dead retry and dead discard end it.",
    )  # fmt: skip
    paused = [one.queue for one in counts.queues if one.paused and _waiting(one)]
    yield Finding("paused", Grade.OK, "no queue that has work") if not paused else Finding(
        "paused", Grade.WARN, f"{_some(paused)}: messages wait, and none is handed out", f"forebay queue resume {paused[0]}"
    )  # fmt: skip


def _backlog(counts: Counts) -> Finding:
    ages = {one.queue: _age(one, counts.now) for one in counts.queues if not one.paused}
    queue = max(ages, key=lambda queue: ages[queue], default="")
    if not queue or not ages[queue]:
        return Finding("backlog", Grade.OK, "nothing is waiting for a worker")
    text = f"the oldest ready message is in {queue}, for {span(ages[queue])}"
    if ages[queue] <= OLD:
        return Finding("backlog", Grade.OK, text)
    return Finding(
        "backlog",
        Grade.WARN,
        text,
        "See that a worker runs that takes from this queue, and give it more concurrency or company.",
    )


def _handlers(app: App | None, counts: Counts) -> Iterator[Finding]:
    """What the App's handlers and the store's queues say of each other."""
    if app is None:
        yield Finding("handlers", Grade.SKIPPED, "no App was named, so nobody knows which queues have a handler",
                      "forebay doctor shop:app")  # fmt: skip
        return
    ours = {route.source.queue for route in app.routes()}
    if app.bus is not None:
        ours.add(OUTBOX)
    orphans = [one.queue for one in counts.queues if one.queue not in ours and _waiting(one)]
    if orphans:
        yield Finding("handlers", Grade.WARN, f"{_some(orphans)}: messages wait, and this App has no handler for the queue",
                      "See that another App's worker takes from it, or send to a queue that is handled.")  # fmt: skip
        return
    paused = [one.queue for one in counts.queues if one.queue in ours and one.paused]
    if paused:
        yield Finding("handlers", Grade.WARN, f"{_some(paused)}: this App has handlers for it, but it is paused",
                      f"forebay queue resume {paused[0]}")  # fmt: skip
        return
    yield Finding("handlers", Grade.OK, "for every queue that has work")


def _waiting(one: QueueCounts) -> int:
    return sum(one.states.get(state, 0) for state in WAITING - {State.BLOCKED})


def _age(one: QueueCounts, now: Instant) -> int:
    return 0 if one.oldest_ready is None else max(0, now - one.oldest_ready)


def _some(names: Iterable[str]) -> str:
    """The first few names."""
    every = list(names)
    more = len(every) - NAMED
    return ", ".join(every[:NAMED]) + (f" and {more} more" if more > 0 else "")
