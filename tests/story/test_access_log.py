"""The front's access log is written beside the requests, and whole when the front has closed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from examples.orders import front

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_the_lines_are_there_in_order_when_the_front_has_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORDERS_FOLDER", str(tmp_path))
    lines = [f"POST /orders 202 o-{n}" for n in range(50)]

    async def serve() -> None:
        async with front.background:
            for line in lines:
                await front.log_access.send(line)

    asyncio.run(serve())

    assert (tmp_path / "access.log").read_text("utf-8").splitlines() == lines
