"""How Forebay logs: so that no line can do harm, and, where the application says nothing of it, as lines of words for people or objects of
fields for programs. Bodies are never among them.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Self

from forebay.errors import InvalidOption, name_of, shown, text_of
from forebay.model.when import as_datetime

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

LEVELS: Final = ("debug", "info", "warning", "error", "critical")
FORMATS: Final = ("text", "json")
SWITCH: Final = ("on", "off")
_PLAIN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
LONGEST_EVENT: Final = 200
_LOST: Final = count(1)
"""Lines that were lost in this process."""


class Log(logging.LoggerAdapter[logging.Logger]):
    """A logger whose calls never raise: an application's filter, handler or formatter decides nothing but its own line.

    Every line of Forebay goes through one (``log = Log("forebay.runner")``); ``extra`` is added to those of each call. A line that is lost
    is told on stderr: the first, and then ever more seldom.
    """

    def __init__(self, name: str, extra: Mapping[str, object] | None = None) -> None:
        super().__init__(logging.getLogger(name), extra)

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """As `logging.Logger.log`."""
        try:
            # One frame more between the logger and who calls it.
            super().log(level, msg, *args, **{**kwargs, "stacklevel": kwargs.get("stacklevel", 1) + 1})
        except KeyboardInterrupt:
            raise  # may be the person's own, in this very moment
        except BaseException as error:  # noqa: BLE001  # whatever the application's own code raises
            _tell_of_loss(msg, error)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """With the fields of both."""
        return msg, {**kwargs, "extra": {**(self.extra or {}), **(kwargs.get("extra") or {})}}


def _tell_of_loss(event: object, error: BaseException) -> None:
    lost = next(_LOST)
    if lost & (lost - 1):
        return  # only each power of two
    place = shown(lambda: "{0.filename}:{0.lineno}".format(traceback.extract_tb(error.__traceback__)[-1]))
    with suppress(Exception):  # stderr may be closed, full, or nothing at all
        sys.stderr.write(
            f"forebay: a filter, handler or formatter of this application's logging raised {name_of(error)} at {place}: {text_of(error)}. "
            f"The line {shown(lambda: repr(event)[:LONGEST_EVENT])} is lost ({lost} so far); the work goes on. Mend it there.\n"
        )
        sys.stderr.flush()


@dataclass(frozen=True, slots=True)
class Looks:
    """How our log looks where the application does not say: from ``level`` up, in ``form``. ``said``: somebody asked for this level.

    Raises `InvalidOption` for a word there is not.
    """

    level: str
    form: str
    switch: str = "on"
    said: bool = False

    def __post_init__(self) -> None:
        for name, word, words in (
            ("log_level", self.level, LEVELS),
            ("log_format", self.form, FORMATS),
            ("logging", self.switch, SWITCH),
        ):
            if word.lower() not in words:
                known = " or ".join(words) if len(words) == 2 else f"one of {', '.join(words)}"
                raise InvalidOption(f"{name} must be {known}, not {word!r}.")

    @classmethod
    def parse(cls, text: str) -> Self:
        """What `words` says."""
        level, form, switch, said = text.split()
        return cls(level, form, switch, said=said == "said")

    @property
    def words(self) -> str:
        """All of it in a line, for a process that is to log as this one does."""
        return f"{self.level} {self.form} {self.switch} {'said' if self.said else 'default'}"

    @property
    def as_objects(self) -> bool:
        """Whether it is for programs."""
        return self.form.lower() == "json"

    def set_up(self) -> bool:
        """Log to stderr, once the application was imported; returns whether that is ours.

        Where the application has handlers of its own, for all or for ``forebay``, they stay and are alone; its level is changed only if
        somebody asked for one.
        """
        ours = logging.getLogger("forebay")
        configured = ours.hasHandlers() or not ours.propagate
        silent = configured or self.switch.lower() == "off"
        if self.said or not silent:
            ours.setLevel(self.level.upper())
        if silent:
            return False
        handler = Stderr()
        handler.setFormatter(Objects() if self.as_objects else Lines())
        ours.addHandler(handler)
        return True


class Stderr(logging.StreamHandler[Any]):
    """Writes to what stderr is now. If nobody reads there any more, or nothing has room there, lines are lost without a word."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # its name in `logging`
        """A word on stderr about stderr would be lost as well."""
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, OSError | ValueError):
            _tell_of_loss(record.msg, error)


class Lines(logging.Formatter):
    """``2026-11-23T16:20:01Z WARNING task.retry task=bill id=... error="..."``, and a traceback indented below."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as a line, or several."""
        fields = _fields(record)
        trace = fields.pop("traceback", "")
        words = [_time(record)[:19] + "Z", record.levelname, _word(record.getMessage())]
        words += [f"{name}={_quoted(value)}" for name, value in fields.items()]
        line = " ".join(words)
        return f"{line}\n{_indented(str(trace))}" if trace else line


class Objects(logging.Formatter):
    """One JSON object a line: ``time``, ``level``, ``logger``, ``event`` and the record's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as one line."""
        head = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        return json.dumps({**head, **_fields(record), **head}, default=str, ensure_ascii=False)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    """What was given with ``extra=``, in its order, and a traceback if there is one."""
    given: Mapping[str, object] = vars(record)
    fields = {name: value for name, value in given.items() if name not in _PLAIN and value != ""}
    if record.exc_info is not None and record.exc_info[1] is not None:
        fields["traceback"] = "".join(traceback.format_exception(record.exc_info[1]))
    return fields


def _time(record: logging.LogRecord) -> str:
    return f"{as_datetime(int(record.created * 1_000_000)):%Y-%m-%dT%H:%M:%S.%f}Z"


def _word(text: str) -> str:
    """The event: one line whatever a user's message holds."""
    return text if text.isprintable() else json.dumps(text, ensure_ascii=True)


def _quoted(value: object) -> str:
    text = str(value)
    plain = text.isprintable() and text and not any(c in text for c in ' "=')
    return text if plain else json.dumps(text, ensure_ascii=not text.isprintable())


def _indented(trace: str) -> str:
    shown = ("".join(c if c.isprintable() else " " for c in line) for line in trace.rstrip().splitlines())
    return "\n".join(f"    {line}" for line in shown)
