"""How a worker is to work, as it was said on the command line and in the settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from forebay.errors import InvalidOption
from forebay.model.amounts import whole_number
from forebay.model.names import check_name
from forebay.model.when import SECOND, micros
from forebay.runtime.worker import CUT_OFF, LAST_SETTLE, WorkerOptions
from forebay.support.logs import Looks
from forebay.support.settings import read, read_all

if TYPE_CHECKING:
    from collections.abc import Mapping

    from forebay.model.when import Micros

SLACK: Final = 5 * SECOND
"""For all that has no limit of its own: closing files, ending the interpreter."""


@dataclass(frozen=True, slots=True)
class Orders:
    """How the worker is to work, and how its log is to look."""

    options: WorkerOptions
    looks: Looks

    @classmethod
    def read(  # noqa: PLR0913  # one parameter for each option
        cls,
        *,
        concurrency: str | None,
        queues: str | None,
        pool_processes: str | None,
        strict: bool,
        schedules: bool,
        stop_within: str | None,
        log_level: str | None,
        log_format: str | None,
    ) -> Self:
        """From arguments, and for what they do not say from the settings. Raises `InvalidOption` or `InvalidName`."""
        chosen = WorkerOptions(
            concurrency=whole_number(read("concurrency", concurrency), "concurrency"),
            queues=weights(read("queues", queues)),
            strict=strict,
            schedules=schedules,
            pool_processes=whole_number(read("pool_processes", pool_processes), "pool_processes", 0),
            stop_within=micros(read("stop_within", stop_within), "stop_within"),
        )
        return cls(chosen, looks(log_level, log_format))


def looks(level: str | None, form: str | None) -> Looks:
    """How a log is to look, from arguments or settings. Raises `InvalidOption`."""
    said = read_all()
    asked = level is not None or said["log_level"].origin != "default"
    return Looks(read("log_level", level), read("log_format", form), said["logging"].text, said=asked)


def weights(text: str) -> Mapping[str, int] | None:
    """Queues and their weights, in order; a queue without one has 1. Empty: None.

    >>> weights("critical=6,default")
    {'critical': 6, 'default': 1}
    """
    found: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, weight = part.partition("=")
        queue = check_name(name.strip(), "queue")
        if queue in found:
            raise InvalidOption(f"queues names {queue!r} twice.")
        found[queue] = whole_number(weight.strip() or "1", f"the weight of queue {queue!r}")
    return found or None


def patience(orders: Orders) -> Micros:
    """How long a worker may take to stop in order, when all goes well and when it does not."""
    return orders.options.stop_within + CUT_OFF + LAST_SETTLE + SLACK
