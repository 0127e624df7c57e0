"""Where a setting comes from: argument, then environment ``FOREBAY_*``, then ``[tool.forebay]`` in pyproject.toml, then its default."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from forebay.errors import ConfigError, InvalidOption
from forebay.support.masking import masked, without_secrets

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Setting:
    """One thing that can be set. ``secret``: its value may hold a password and is shown without it."""

    name: str
    default: str
    help: str
    secret: bool = False

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return f"FOREBAY_{self.name.upper()}"


@dataclass(frozen=True, slots=True)
class Value:
    """What a setting is, and where that was said."""

    setting: Setting
    text: str = field(repr=False)
    origin: str

    @property
    def shown(self) -> str:
        """The text without passwords."""
        return without_secrets(self.text) if self.setting.secret else masked(self.text)


SETTINGS: Final = (
    Setting("url", "sqlite:///forebay.db", "the engine: a store, or a bare bus", secret=True),
    Setting("concurrency", "100", "deliveries a worker handles at the same time"),
    Setting(
        "queues",
        "",
        "queues a worker takes from, with weights: critical=6,default=3 (empty: all the App declares)",
    ),
    Setting(
        "processes",
        "0",
        "worker processes under a supervisor that keeps them alive (0: one process, no supervisor)",
    ),
    Setting(
        "pool_processes",
        "0",
        "processes for handlers that ask for one, pool='process' (0: as many as there are processors)",
    ),
    Setting("max_tasks", "0", "deliveries after which a supervised process is replaced (0: never)"),
    Setting("max_memory", "0", "memory at which a supervised process is replaced: 512M, 2G (0: never)"),
    Setting("health", "", "where a worker serves /live and /ready: HOST:PORT (empty: nowhere)"),
    Setting("health_file", "", "a file that a worker touches while it works (empty: none)"),
    Setting("stop_within", "25s", "how long a stopping worker lets its handlers finish"),
    Setting("lease", "30s", "how long a delivery stays with a worker that has gone silent"),
    Setting("heartbeat", "10s", "how often leases are renewed; at most a third of the lease"),
    Setting("sweep", "5s", "how often each worker looks for lost leases, expired and old messages"),
    Setting("max_body", "1M", "the largest message body"),
    Setting("log_level", "info", "debug, info, warning, error or critical"),
    Setting("log_format", "text", "text, or json for one object a line"),
    Setting(
        "logging",
        "on",
        "off: a worker adds no log handler of its own, whether or not the application has some",
    ),
)


def read_all(environment: Mapping[str, str] | None = None, folder: Path | None = None) -> dict[str, Value]:
    """Every setting with its value and origin. Raises `ConfigError` for a pyproject.toml that cannot be read or has an unknown key."""
    given = os.environ if environment is None else environment
    project, where = _project(Path.cwd() if folder is None else folder)
    unknown = project.keys() - {setting.name for setting in SETTINGS}
    if unknown:
        known = ", ".join(setting.name for setting in SETTINGS)
        raise InvalidOption(f"[tool.forebay] in {where} has no setting {min(unknown)!r}: known are {known}.")
    return {setting.name: _value(setting, given, project, where) for setting in SETTINGS}


def read(name: str, argument: object = None) -> str:
    """One setting, an argument that is not None having the first word."""
    return str(argument) if argument is not None else read_all()[name].text


def _value(
    setting: Setting, environment: Mapping[str, str], project: Mapping[str, object], where: str
) -> Value:
    if environment.get(setting.variable):
        return Value(setting, environment[setting.variable], f"environment {setting.variable}")
    if setting.name in project:
        return Value(setting, str(project[setting.name]), f"[tool.forebay] in {where}")
    return Value(setting, setting.default, "default")


def _project(folder: Path) -> tuple[dict[str, object], str]:
    """The ``[tool.forebay]`` table of the nearest pyproject.toml at or above ``folder``."""
    for place in (folder, *folder.parents):
        path = place / "pyproject.toml"
        if path.is_file():
            try:
                table = tomllib.loads(path.read_text("utf-8")).get("tool", {}).get("forebay", {})
            except (OSError, ValueError) as error:
                raise ConfigError(f"{path} cannot be read: {error}.") from error
            if not isinstance(table, dict):
                raise ConfigError(
                    f"{path}: tool.forebay must be a table ([tool.forebay]), not a {type(table).__name__}."
                )
            return table, str(path)
    return {}, ""
