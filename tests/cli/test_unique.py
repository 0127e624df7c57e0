"""What `task show` says of unique keys and of what gathers."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from forebay import App, Debounce, Unique

if TYPE_CHECKING:
    from tests.cli.kit import Cli

WHEN = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


@pytest.mark.parametrize(
    ("options", "said", "until"),
    [
        ({"unique": "k"}, "k, held until it has ended; others are duplicates", "it has ended"),
        ({"unique": Unique("k", on_conflict="replace")}, "k, held until it starts; others take its place", "it starts"),
        ({"unique": Unique("k", until="1h")}, rf"k, held until {WHEN}.*; others are duplicates", r"\d{4}-.*Z"),
        ({"debounce": Debounce("5m")}, "debounce:[0-9a-f]{32}, held until it starts; others take its place", "it starts"),
    ],
)  # fmt: skip
def test_a_unique_key_is_shown_with_its_end(
    store: str, cli: Cli, options: Any, said: str, until: str
) -> None:
    with App(store) as app:
        handle = app.named("report").options(**options).send_sync(7)

    shown, document = cli("task", "show", handle.id).out, cli("task", "show", handle.id, "--json").out

    assert re.search(rf"unique +{said}", shown)
    assert re.fullmatch(until, json.loads(document)["unique_until"])


def test_what_gathers_is_said_to(store: str, cli: Cli) -> None:
    app = App(store)

    @app.task(gather="1h")
    async def notify(changes: list[int]) -> None: ...

    with app:
        handle = notify.send_sync(1)

    shown = cli("task", "show", handle.id).out

    assert re.search(rf"gathers with others, until {WHEN}Z at the latest", shown)
    assert "unique" not in shown
