"""The SQLite store keeps every claim that the memory store keeps, and those about coming back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from forebay.engine import EngineOptions
from forebay.stores.sqlite import SqliteEngine
from forebay.testing import conformance


@pytest.mark.parametrize(
    "claim", conformance.claims_for(SqliteEngine(Path("claims.db"), EngineOptions()).traits), ids=str
)
def test_sqlite(claim: conformance.Claim, tmp_path: Path) -> None:
    def engine(place: str, options: EngineOptions) -> SqliteEngine:
        return SqliteEngine(tmp_path / f"{place}.db", options)

    asyncio.run(conformance.run(claim, engine))
