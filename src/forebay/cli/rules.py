"""The rules of queues on the command line: read from words, and told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from forebay.errors import InvalidOption, quoted
from forebay.model.note import Notes
from forebay.model.rule import RULE, check_settings, read_override, settings_of
from forebay.model.when import as_datetime

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from forebay.app import App
    from forebay.model.query import QueueCounts
    from forebay.model.rule import Rules

_NONE: Final = ("none", "off", "")
_FLAGS: Final = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def said_in(words: Iterable[str]) -> dict[str, Any]:
    """Settings from words such as ``rate=50/s``. Raises `InvalidOption` for what cannot be."""
    said: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise InvalidOption(f"{quoted(word)} is no setting with its value: write, say, rate=50/s.")
        said[name.replace("-", "_")] = _value(name.replace("-", "_"), text.strip())
    check_settings(said)
    return said


def _value(name: str, text: str) -> Any:
    if name in ("ordered", "fair"):
        return _FLAGS.get(text.lower(), text)
    if text.lower() in _NONE:
        return None
    if name == "weights":
        pairs = [one.rpartition(":") for one in text.split(",")]
        return {key: _number(weight) for key, _, weight in pairs}
    return text if name.startswith("rate") else _number(text)


def _number(text: str) -> Any:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else text


def described(app: App, one: QueueCounts) -> dict[str, Any]:
    """What holds in a queue, by setting, and from whom it is: a JSON document."""
    note = next(iter(app.sync(app.survey(Notes(kind=RULE, names=(one.queue,))))), None)
    override = None if note is None else read_override(note.body)
    said = {} if override is None else override.said
    found: dict[str, Any] = {}
    for name, value in (
        settings_of(one.rules.rule) | {name: None for name in said if said[name] is None}
    ).items():
        origin = {"from": "code"}
        parent = {"burst": "rate", "burst_per_key": "rate_per_key"}.get(name, name)
        if override is not None and (name in said or parent in said):
            by, at = override.whose.get(name if name in said else parent, ("", 0))
            origin = {"from": "set", "by": by, "at": f"{as_datetime(at):%Y-%m-%dT%H:%M:%SZ}"}
        found[name] = {"value": value, **origin}
    if one.rules.most:
        found["max_running"] = {"value": dict(one.rules.most), "from": "code"}
    return found


def sentences(rule: Mapping[str, Any]) -> list[str]:
    """The same for people, a line for each setting."""
    lines = []
    for name, one in rule.items():
        value = one["value"]
        text = "none" if value is None else _text(value)
        origin = "in the code" if one["from"] == "code" else f"set by {one['by']} at {one['at']}"
        lines.append(f"{name}: {text} ({origin})")
    return lines


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}:{number}" for key, number in value.items())
    return "yes" if value is True else str(value)


def short(rules: Rules) -> str:
    """What holds in a queue, in one cell."""
    rule = rules.rule
    parts = [
        str(rule.rate) if rule.rate is not None else "",
        f"{rule.concurrency} at once" if rule.concurrency is not None else "",
        f"{rule.rate_per_key} per key" if rule.rate_per_key is not None else "",
        f"{rule.per_key} per key" if rule.per_key is not None else "",
        "ordered" if rule.ordered else "",
        "fair" if rule.fair else "",
        *(f"{name} {number} at once" for name, number in rules.most.items()),
    ]
    return ", ".join(filter(None, parts))
