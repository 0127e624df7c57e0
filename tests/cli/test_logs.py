"""How a worker's log looks."""

from __future__ import annotations

import logging
import re
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from forebay.errors import InvalidOption
from forebay.support.logs import Lines, Looks, Objects
from tests.cli.kit import Cli, process


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


APP = """
import logging, os

from forebay import App, Context

CONFIGURED
app = App()


@app.task(max_attempts=1)
async def job(ctx: Context) -> None:
    ctx.log.info("at work")
    raise ValueError("as asked")


@app.task(pool="process", max_attempts=1)
def apart(ctx: Context) -> None:
    ctx.log.info("at work apart")
"""
ROOT = "logging.basicConfig(filename='app.log', level=logging.INFO, format='MINE %(message)s')"
OURS = """
handler = logging.FileHandler("app.log")
handler.setFormatter(logging.Formatter("MINE %(message)s"))
logging.getLogger("forebay").addHandler(handler)
"""


ALL = frozenset({"worker.started", "at work", "at work apart", "task.dead"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What an application configures, how its worker is started, and which events the application's handler and stderr have then."""

    configured: str = ""
    words: tuple[str, ...] = ()
    switch: str = "on"
    theirs: frozenset[str] = frozenset()
    ours: frozenset[str] = frozenset()


@pytest.mark.parametrize("more", [(), ("--processes", "1")], ids=["one", "supervised"])
@pytest.mark.parametrize(
    "case",
    [
        Case(ours=ALL),
        Case(words=("--log-level", "critical")),
        Case(switch="off"),
        Case(configured=ROOT, theirs=ALL),
        Case(configured=ROOT, words=("--log-format", "json", "--log-level", "error"), theirs=frozenset({"task.dead"})),
        Case(configured=OURS, theirs=frozenset({"task.dead"})),
        Case(configured=OURS, words=("--log-level", "info"), theirs=ALL),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("store")
def test_handlers_of_the_application_stay_and_are_alone(
    case: Case, more: tuple[str, ...], cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop.py").write_text(APP.replace("CONFIGURED", case.configured))
    monkeypatch.setenv("FOREBAY_LOGGING", case.switch)
    keys = [cli("send", name, "--create").out.strip() for name in ("apart", "job")]

    with process("worker", "shop:app", *case.words, *more) as child:
        for key in keys:
            cli("task", "wait", key, "--timeout", "20s")
        child.send_signal(signal.SIGTERM)
        _out, err = child.communicate()

    log = tmp_path / "app.log"
    mine = set(re.findall("^MINE (.*)$", log.read_text() if log.exists() else "", re.MULTILINE))
    assert mine & ALL == case.theirs
    assert {event for event in ALL if re.search(rf'Z \w+ "?{event}"? ', err)} == case.ours
    assert child.returncode == 0


@pytest.mark.parametrize(
    ("level", "form", "switch", "sentence"),
    [
        ("loud", "text", "on", "log_level must be one of debug, info, warning, error, critical, not 'loud'"),
        ("info", "xml", "on", "log_format must be text or json, not 'xml'"),
        ("info", "text", "maybe", "logging must be on or off, not 'maybe'"),
    ],
)
def test_a_word_there_is_not_is_refused(level: str, form: str, switch: str, sentence: str) -> None:
    with pytest.raises(InvalidOption, match=sentence):
        Looks(level, form, switch)


def test_looks_go_to_another_process_as_words() -> None:
    looks = Looks("error", "json", "off", said=True)

    assert Looks.parse(looks.words) == looks
