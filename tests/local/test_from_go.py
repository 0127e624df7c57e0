"""The page for Go programmers holds what it says: each of its blocks runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "from-go.md").read_text("utf-8")
BLOCKS = re.findall(r"^## ([^\n]+)\n(?:(?!^## ).)*?^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(("title", "code"), BLOCKS, ids=[title for title, _ in BLOCKS])
def test_a_block_of_the_page_runs(title: str, code: str) -> None:
    exec(compile(code, f"from-go.md: {title}", "exec"), {"__name__": "__main__"})  # noqa: S102  # our own page


def test_every_block_was_found() -> None:
    assert len(BLOCKS) == PAGE.count("```python") == 9
