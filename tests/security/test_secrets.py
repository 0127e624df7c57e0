"""A secret in a URL, in a payload or in a header is shown to those who ask for bodies, and to nobody else."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from forebay import App
from tests.cli.kit import process

URL_SECRET, BODY_SECRET, HEADER_SECRET = "canary-in-url", "canary-in-body", "canary-in-header"
APP = """
from forebay import App

app = App()


@app.task(queue="mail", max_attempts=2, backoff="1ms")
async def greet(token: str) -> None:
    raise ValueError("no luck")


@app.task(queue="mail", max_attempts=1)
async def count(number: int) -> None: ...
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "leaky.py").write_text(APP)
    return tmp_path


def ran(folder: Path, *words: str, url: str | None = None, **extra: str) -> str:
    """Everything a command says on both of its streams, at its most talkative."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "FOREBAY_LOG_LEVEL": "debug", **extra}
    environment["FOREBAY_URL"] = url or f"sqlite:///{folder / 'f.db'}"
    with process(*words, cwd=folder, env=environment) as child:
        out, err = child.communicate(timeout=30)
    return out + err


def leaks(said: str) -> list[str]:
    return [secret for secret in (URL_SECRET, BODY_SECRET, HEADER_SECRET) if secret in said]


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_log_of_a_worker_holds_a_payload_or_a_header(folder: Path, log_format: str) -> None:
    with App(f"sqlite:///{folder / 'f.db'}") as app:
        for name, value in (("greet", BODY_SECRET), ("count", BODY_SECRET), ("unknown", BODY_SECRET)):
            task = app.named(name, "mail").options(headers={"authorization": HEADER_SECRET})
            task.send_sync(value)
    environment = {**os.environ, "PYTHONPATH": str(folder), "FOREBAY_LOG_FORMAT": log_format}
    environment |= {"FOREBAY_URL": f"sqlite:///{folder / 'f.db'}", "FOREBAY_LOG_LEVEL": "debug"}
    with process("worker", "leaky:app", cwd=folder, env=environment) as child:
        assert child.stderr is not None
        said, wanted = "", {"task.dead", "task.unknown", "task.retry"}
        for line in child.stderr:
            said += line
            if "task.dead" in line:
                wanted -= {"task.dead"} if "greet" in line else set()
            wanted -= {word for word in ("task.unknown", "task.retry") if word in line}
            if not wanted:
                child.send_signal(signal.SIGTERM)
    assert not wanted, said
    assert leaks(said) == []


URLS = [
    f"postgresql://ada:{URL_SECRET}@db.example/jobs",
    f"postgresql://ada@db.example/jobs?password={URL_SECRET}",
    f"redis://:{URL_SECRET}@db.example/0",
    f"sqlite:///{{folder}}/f.db?password={URL_SECRET}",
    f"nonsense://ada:{URL_SECRET}@db.example/jobs",
    f"postgresql://ada:{URL_SECRET}#@db.example/jobs",
]
WORKER = ("worker", "leaky:app", "--url")
PAIRS = [
    *((url, ("doctor", "--json")) for url in URLS),
    (URLS[0], WORKER),
    (URLS[3], ("queue", "list")),
    (URLS[4], WORKER),
]


@pytest.mark.parametrize(("url", "words"), PAIRS)
def test_no_command_says_the_password_of_its_engine(folder: Path, url: str, words: tuple[str, ...]) -> None:
    url = url.replace("{folder}", str(folder))
    said = ran(folder, *words, *([url] if words[-1] == "--url" else []), url=url)

    assert said
    assert leaks(said) == []
