"""A secret in a URL, in a payload or in a header is shown to those who ask for bodies, and to nobody else."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import traceback
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from forebay import App
from forebay.cli.program import run
from forebay.errors import ConfigError
from forebay.support.masking import masked, without_secrets
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
def test_no_log_and_no_health_of_a_worker_holds_a_payload_or_a_header(folder: Path, log_format: str) -> None:
    with App(f"sqlite:///{folder / 'f.db'}") as app:
        for name, value in (("greet", BODY_SECRET), ("count", BODY_SECRET), ("unknown", BODY_SECRET)):
            task = app.named(name, "mail").options(headers={"authorization": HEADER_SECRET})
            task.send_sync(value)
    environment = {**os.environ, "PYTHONPATH": str(folder), "FOREBAY_LOG_FORMAT": log_format}
    environment |= {"FOREBAY_URL": f"sqlite:///{folder / 'f.db'}", "FOREBAY_LOG_LEVEL": "debug"}
    words = ("worker", "leaky:app", "--health", "0", "--health-file", str(folder / "beat"))
    with process(*words, cwd=folder, env=environment) as child:
        assert child.stderr is not None
        said, wanted = "", {"task.dead", "task.unknown", "task.retry"}
        for line in child.stderr:
            said += line
            if (served := re.search(r"health\.served.*port\W+(\d+)", line)) is not None:
                for target in ("live", "ready", "elsewhere"):
                    said += _asked(int(served[1]), target)
            if "task.dead" in line:
                wanted -= {"task.dead"} if "greet" in line else set()
            wanted -= {word for word in ("task.unknown", "task.retry") if word in line}
            if not wanted:
                child.send_signal(signal.SIGTERM)
    assert not wanted, said
    assert '"condition"' in said
    assert leaks(said) == []


def _asked(port: int, target: str) -> str:
    """What the health of a worker answers, whatever it is."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{target}", timeout=5) as answer:
            return f"{answer.headers}{answer.read()!r}"
    except urllib.error.HTTPError as error:
        return f"{error.headers}{error.read()!r}"


SCHEMES = (
    *(
        "memory",
        "sqlite",
        "postgresql",
        "postgres",
        "redis",
        "rediss",
        "redis+unix",
        "unix",
        "valkey",
        "amqp",
        "amqps",
    ),
    *("nats", "tls", "kafka", "nonsense", "SQLITE", "jdbc:postgresql"),
)
MARK = URL_SECRET
SHAPES = (
    "{}://ada:{mark}@db.example/jobs",
    "{}://ada:{mark}@db.example:7000,db.other:7000/jobs",
    "{}://:{mark}@db.example/0",
    "{}://:{mark}@/run/engine.sock",
    "{}://ada:{mark}#@db.example/jobs",
    "{}://ada:a/b?c&d@{mark}@db.example/jobs",
    "{}://ada:{mark}%40x@db.example/jobs",
    "{}://ada%3A{mark}%40db.example/jobs",
    "{}://ada%3A{mark}@db.example/jobs",
    "{}://ada%253A{mark}%2540db.example/jobs",
    "{}://ada:{mark}",
    "{}://ada:{mark}@[db.example/jobs",
    "{}://ada:{mark}@db.example\u2100/jobs",
    "{}://a:x@one,{}://b:{mark}@two",
    "{}:ada:{mark}",
    "{}:/ada:{mark}@db.example",
    "ada:{mark}@db.example/{}",
    " {}://ada:{mark}@db.example/jobs",
    "{}://db.example/jobs?password={mark}",
    "{}:///jobs.db?password={mark}",
    "{}://db.example/jobs?x=1&sslpassword={mark}&y=2",
    "{}://db.example/jobs?x=1;sasl.password=a&{mark}",
    "{}://db.example/jobs?pass%77ord={mark}",
    "{}://db.example/jobs?access_token={mark}#token={mark}",
    "{}:///ada:{mark}@db.example/jobs",
)
TOKENS = ("{}://{mark}@db.example", "{}://{mark}:@db.example", "{}://db.example/?nkey_seed={mark}")


def written(shape: str) -> list[str]:
    """That shape for every scheme."""
    schemes = ("nats", "tls", "redis") if shape in TOKENS else SCHEMES
    return [shape.replace("{mark}", MARK).replace("{}", scheme) for scheme in schemes]


@pytest.mark.parametrize("shape", SHAPES + TOKENS)
def test_no_url_is_shown_with_its_secret(shape: str) -> None:
    for url in written(shape):
        assert MARK not in without_secrets(url)
        assert "://" not in url or MARK not in masked(f"Looked at {url} today.")
        for make in (lambda url=url: App(url), lambda url=url: App("memory://", bus=url)):
            assert leaks(_told(make)) == [], url


def _told(make: Callable[[], App]) -> str:
    try:
        app = make()
    except ConfigError as error:
        return "".join(traceback.format_exception(error))
    return f"{app!r} {app.engine.url} {app.engine!r} {app.bus!r}"


def test_what_is_no_secret_is_shown() -> None:
    for url in (
        "memory://", "sqlite:///a.db", "sqlite:////srv/a@b/x.db?network=allow", "redis://h1:1,h2:2/0", "postgresql://ada@db/jobs?sslmode=require",
        "postgresql://[::1]:5432/jobs", "unix:///run/redis.sock", "forebay.db",
    ):  # fmt: skip
        assert without_secrets(url) == url
    assert without_secrets("postgresql://ada:x@db/jobs?target=1") == "postgresql://ada:***@db/jobs?target=1"


COMMANDS = (
    ("config", "show"), ("doctor",), ("doctor", "leaky:app"), ("task", "list"), ("queue", "list"), ("send", "greet", "x"),
    ("top", "--once"), ("publish", "a.b", "{}"), ("dead", "list"), ("task", "show", "0" * 8),
    ("schedule", "list"), ("schedule", "put", "x", "--every", "1h", "--task", "greet"),
)  # fmt: skip


SOME = [written(shape)[n % len(SCHEMES)] for n, shape in enumerate(SHAPES)][::2]


@pytest.mark.parametrize("url", [*SOME, *written(SHAPES[0])[:3]])
def test_no_command_says_the_secret_of_its_url(
    url: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FOREBAY_DEBUG", "1")
    # As an APP or an address, what has neither sign is no URL but a word.
    mistaken = url if "@" in url or "//" in url else "x"
    monkeypatch.setenv("FOREBAY_HEALTH", mistaken)
    _run(("doctor",))
    _run(("config", "show"))
    monkeypatch.delenv("FOREBAY_HEALTH")
    monkeypatch.setenv("FOREBAY_URL", url)
    for words in COMMANDS:
        _run((*words, "--json"))
        monkeypatch.setenv("FOREBAY_DEBUG", "")
        _run(words)
    for command in ("worker", "dev", "task"):
        _run((command, mistaken))
    _run((mistaken,))
    _run(("task", "list", "--url", url))
    _run(("worker", "leaky:app"))
    said = capsys.readouterr()
    assert said.out
    assert [line for line in (said.out + said.err).splitlines() if MARK in line] == []


def _run(words: tuple[str, ...]) -> None:
    """With whatever traceback comes through: it is output too."""
    try:
        with contextlib.suppress(SystemExit):
            run(words)
    except Exception:  # noqa: BLE001  # FOREBAY_DEBUG lets it through, to be read
        traceback.print_exc()


def test_a_project_file_that_is_wrong_is_not_quoted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "pyproject.toml").write_text(f'[tool]\nforebay = "redis://:{MARK}@db"\n')
    with pytest.raises(ConfigError, match="must be a table") as caught:
        App()
    assert leaks(str(caught.value)) == []


def test_a_worker_that_is_refused_at_its_start_says_no_secret(folder: Path) -> None:
    said = ran(folder, "worker", "leaky:app", url=f"sqlite:///{folder / 'f.db'}?password={URL_SECRET}")

    assert "unknown option" in said
    assert leaks(said) == []
