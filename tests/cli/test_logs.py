"""How a worker's log looks."""

from __future__ import annotations

import logging
import sys

import msgspec
import pytest

from forebay.support.logs import Lines, Objects


def record(**fields: object) -> logging.LogRecord:
    made = logging.makeLogRecord(
        {"name": "forebay.runner", "levelname": "WARNING", "msg": "task.retry", **fields}
    )
    made.created = 1_795_450_801.25
    return made


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({}, "task.retry"),
        ({"task": "bill", "attempt": 2}, "task.retry task=bill attempt=2"),
        ({"error": "ValueError: no"}, 'task.retry error="ValueError: no"'),
        ({"error": 'say "no"'}, r'task.retry error="say \"no\""'),
        ({"error": "a\nb\x1b[31m"}, r'task.retry error="a\nb\u001b[31m"'),
        ({"error": "schön, aber"}, 'task.retry error="schön, aber"'),
        ({"traceback": ""}, "task.retry"),
        ({"traceback": "Traceback\n  x\x1b\n"}, "task.retry\n    Traceback\n      x "),
    ],
)
def test_a_line_is_words(fields: dict[str, object], line: str) -> None:
    assert Lines().format(record(**fields)) == f"2026-11-23T16:20:01Z WARNING {line}"


def test_a_message_of_several_lines_stays_on_one() -> None:
    assert Lines().format(record(msg="two\nlines")).endswith(r' "two\nlines"')


def test_an_object_is_one_line() -> None:
    line = Objects().format(record(task="bill", error="a\nb", odd=object, level="mine"))

    assert "\n" not in line
    read = msgspec.json.decode(line)
    assert list(read)[:4] == ["time", "level", "logger", "event"]
    assert (read["time"], read["level"], read["event"]) == (
        "2026-11-23T16:20:01.250000Z",
        "warning",
        "task.retry",
    )
    assert (read["task"], read["error"]) == ("bill", "a\nb")


@pytest.mark.parametrize("form", [Lines(), Objects()], ids=["text", "json"])
def test_an_exception_brings_its_traceback(form: logging.Formatter) -> None:
    try:
        raise OSError("disk on fire")
    except OSError:
        line = form.format(record(exc_info=sys.exc_info()))

    assert "Traceback" in line
    assert "OSError: disk on fire" in line
