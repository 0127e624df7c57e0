"""Where settings come from, and what becomes of a URL: one sentence each for what cannot be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from forebay import App, QueueOptions, Timing
from forebay.errors import ConfigError, ForebayError, Unsupported
from forebay.model.when import SECOND
from forebay.stores.memory import MemoryEngine
from forebay.support.settings import SETTINGS, read, read_all
from forebay.testing.clock import VirtualClock
from forebay.testing.hostile import HostileBus

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder that the process stands in, deep inside."""
    (tmp_path / "src" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "src" / "deep")
    return tmp_path / "pyproject.toml"


def test_the_argument_then_the_environment_then_pyproject_then_the_default(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (read("url"), read_all()["url"].origin) == ("sqlite:///forebay.db", "default")
    project.write_text('[tool.forebay]\nurl = "memory://"\nconcurrency = 7\n', "utf-8")
    assert (read("url"), read_all()["url"].origin) == ("memory://", f"[tool.forebay] in {project}")
    assert read("concurrency") == "7"
    monkeypatch.setenv("FOREBAY_URL", "sqlite:///env.db")
    assert (read("url"), read_all()["url"].origin) == ("sqlite:///env.db", "environment FOREBAY_URL")
    assert read("url", "memory://") == "memory://"
    monkeypatch.setenv("FOREBAY_URL", "")
    assert read("url") == "memory://", "an empty variable says nothing"


def test_an_app_reads_its_url_and_its_timing_from_the_settings(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write_text('[tool.forebay]\nurl = "memory://"\nlease = "60s"\nmax_body = 100\n', "utf-8")
    monkeypatch.setenv("FOREBAY_HEARTBEAT", "20s")
    app = App()

    assert app.engine.url == "memory://"
    assert app.timing == Timing(lease=60 * SECOND, heartbeat=20 * SECOND)
    with app, pytest.raises(ForebayError, match="the limit is 100"):
        app.publish_sync("a.b", b"x" * 101)


def test_every_setting_has_a_default_that_is_valid() -> None:
    for setting in SETTINGS:
        assert setting.variable == f"FOREBAY_{setting.name.upper()}"
        assert setting.help


def test_the_nearest_pyproject_counts(project: Path) -> None:
    project.write_text('[tool.forebay]\nurl = "memory://"\n', "utf-8")
    (project.parent / "src" / "pyproject.toml").write_text("[project]\n", "utf-8")

    assert read("url") == "sqlite:///forebay.db"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[tool.forebay]\nurll = 1\n", r"has no setting 'urll': known are url, concurrency"),
        ('[tool]\nforebay = "x"\n', r"tool\.forebay must be a table \(\[tool\.forebay\]\), not a str"),
        ("[tool.forebay", r"pyproject\.toml cannot be read: "),
        ("\xff", r"pyproject\.toml cannot be read: "),
    ],
)
def test_a_pyproject_that_cannot_be_used_is_said(project: Path, text: str, sentence: str) -> None:
    project.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=sentence):
        App()


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("LEASE", "soon", "lease is not a duration: 'soon'"),
        (
            "LEASE",
            "20s",
            "The settings lease 20s, heartbeat 10s, sweep 5s do not fit: a lease must last at least three heartbeats",
        ),
        ("HEARTBEAT", "0", "heartbeat is not a duration|do not fit"),
        (
            "MAX_BODY",
            "many",
            "max_body must be a number of bytes of at least 1, such as 65536, 512M or 2G, not 'many'",
        ),
        ("MAX_BODY", "-1", "max_body must be a number of bytes"),
        ("MAX_BODY", "0", "max_body must be a number of bytes"),
        ("URL", "memory", "'memory' is not an engine URL: it has no scheme. Use sqlite:///relative/path.db"),
    ],
)
def test_a_setting_that_cannot_be_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(f"FOREBAY_{variable}", value)
    with pytest.raises(ConfigError, match=sentence) as caught:
        App() if variable == "URL" else App("memory://")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("", "'' is not an engine URL: it has no scheme"),
        ("forebay.db", "'forebay.db' is not an engine URL: it has no scheme"),
        ("mysql://x", "'mysql://x' has the unknown scheme 'mysql'"),
        ("://", "has the unknown scheme ''"),
        ("memory://here", "a memory engine belongs to its App and has no address; write memory://"),
        ("sqlite://forebay.db", "has two slashes too few or a host: write sqlite:///forebay.db"),
        ("sqlite:///", "names no file"),
        ("sqlite://", "names no file"),
        ("sqlite:///folder/", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite:///a.db?mode=ro", r"has an unknown option: the only one is \?network=allow"),
        ("sqlite:///a.db?network=deny", "has an unknown option"),
    ],
)
def test_a_bad_url_is_one_sentence(url: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        App(url)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://localhost/db", "PostgreSQL"), ("postgres://localhost/db", "PostgreSQL"), ("redis://localhost", "Redis"),
        ("amqp://localhost", "RabbitMQ"), ("nats://localhost", "NATS JetStream"), ("kafka://localhost", "Kafka"), ("KAFKA://x", "Kafka"),
    ],
)  # fmt: skip
def test_an_engine_that_is_planned_is_refused_by_its_name(url: str, name: str) -> None:
    with pytest.raises(Unsupported, match=f"This version of Forebay has no {name} engine yet. Use sqlite:"):
        App(url)
    with pytest.raises(Unsupported, match=f"no {name} engine yet"):
        App("memory://", bus=url)


def test_a_password_in_a_bad_url_is_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        App("mysql://ada:lovelace@db/jobs")
    assert "lovelace" not in str(caught.value)


def test_a_bus_needs_a_store_before_it() -> None:
    with pytest.raises(
        Unsupported,
        match=r"bus= cannot be: the hostile engine has no memory: it is a bus itself\. Give a store",
    ):
        App(HostileBus(), bus=HostileBus())


def test_a_clock_is_for_engines_that_can_be_turned_by_hand() -> None:
    App(MemoryEngine(), clock=VirtualClock())
    with pytest.raises(Unsupported, match="clock= cannot be: the memory engine has a time of its own"):
        App(_OwnTime(), clock=VirtualClock())


class _OwnTime(MemoryEngine):
    @property
    def traits(self) -> Any:
        import msgspec

        return msgspec.structs.replace(super().traits, virtual_clock=False)


def test_options_are_for_queues_that_can_be() -> None:
    App("memory://", queues={"_outbox": QueueOptions(per_process=5)})
    with pytest.raises(ConfigError, match="is not a valid name"):
        App("memory://", queues={"a b": QueueOptions()})
