"""The memory store keeps every claim: it is the specification."""

from __future__ import annotations

import asyncio

import pytest

from forebay.engine import EngineOptions
from forebay.stores.memory import MemoryEngine
from forebay.testing import conformance


def _engine(place: str, options: EngineOptions) -> MemoryEngine:
    return MemoryEngine(options)


@pytest.mark.parametrize("claim", conformance.claims_for(MemoryEngine().traits), ids=str)
def test_memory(claim: conformance.Claim) -> None:
    asyncio.run(conformance.run(claim, _engine))
