"""The claims every engine is held to, from its traits alone. Public: run them against an engine of your own.

    import asyncio, pytest
    from forebay.testing import conformance

    @pytest.mark.parametrize("claim", conformance.claims_for(TRAITS), ids=str)
    def test_my_engine(claim, tmp_path):
        asyncio.run(conformance.run(claim, lambda place, options: MyEngine(tmp_path / place, options)))

For failures that show the values compared, call ``pytest.register_assert_rewrite("forebay.testing.conformance")`` in a ``conftest.py``.
Engines whose traits say ``virtual_clock`` run on a `VirtualClock`, others in real time with short leases.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from forebay.testing.conformance import (
    claiming,
    control,
    events,
    flow_events,
    flows,
    gathering,
    leases,
    life,
    limits,
    lines,
    notes,
    progress,
    retries,
    sending,
    sight,
    steps,
    unique,
)
from forebay.testing.conformance.harness import Claim, Factory, Harness, run

if TYPE_CHECKING:
    from forebay.engine import Traits

__all__ = ["CLAIMS", "Claim", "Factory", "Harness", "claims_for", "run"]

CLAIMS: Final[tuple[Claim, ...]] = (
    *sending.CLAIMS,
    *claiming.CLAIMS,
    *leases.CLAIMS,
    *retries.CLAIMS,
    *events.CLAIMS,
    *control.CLAIMS,
    *progress.CLAIMS,
    *life.CLAIMS,
    *limits.CLAIMS,
    *lines.CLAIMS,
    *sight.CLAIMS,
    *steps.CLAIMS,
    *flows.CLAIMS,
    *flow_events.CLAIMS,
    *unique.CLAIMS,
    *gathering.CLAIMS,
    *notes.CLAIMS,
)


def claims_for(traits: Traits) -> tuple[Claim, ...]:
    """The claims an engine with these traits is held to: that what it promises holds, and that asking for anything else is refused."""
    return tuple(claim for claim in CLAIMS if claim.needs(traits))
