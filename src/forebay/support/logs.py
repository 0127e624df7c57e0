"""How a worker's log looks: a line of words for people, or an object of fields for programs. Bodies are never among them."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from typing import TYPE_CHECKING, Final

from forebay.errors import InvalidOption
from forebay.model.when import as_datetime

if TYPE_CHECKING:
    from collections.abc import Mapping

LEVELS: Final = ("debug", "info", "warning", "error")
FORMATS: Final = ("text", "json")
_PLAIN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def check_words(level: str, form: str) -> None:
    """Raise `InvalidOption` for a level or a format there is not."""
    if level.lower() not in LEVELS:
        raise InvalidOption(f"log_level must be one of {', '.join(LEVELS)}, not {level!r}.")
    if form.lower() not in FORMATS:
        raise InvalidOption(f"log_format must be text or json, not {form!r}.")


def set_up(level: str, form: str) -> None:
    """Log to stderr, everything from ``level`` up. Replaces whatever handlers the root logger had. Raises `InvalidOption`."""
    check_words(level, form)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Objects() if form.lower() == "json" else Lines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


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
