"""What an engine cannot do is refused where it is asked for, with the handler or queue, the option, the engine and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from forebay import App, QueueOptions
from forebay.engine import Durability, Traits
from forebay.errors import Unsupported
from forebay.stores.memory import MemoryEngine
from forebay.testing import conformance
from forebay.testing.hostile import HostileBus, HostileQueue
from tests.runtime.kit import Spied, SpiedStore, story, working

if TYPE_CHECKING:
    from collections.abc import Callable

    from forebay.engine import Engine
    from forebay.support.clock import Clock


class Weaker(Spied):
    """An engine whose class, or whose server, can less than the one inside."""

    def __init__(self, inner: Engine, **traits: Any) -> None:
        super().__init__(inner)
        self.weaker = traits

    @property
    def traits(self) -> Traits:
        return replace(self.inner.traits, **self.weaker)


def _task(app: App, **options: Any) -> None:
    decorate: Any = app.task(**options)

    @decorate  # type: ignore[untyped-decorator]  # any options
    async def job() -> None: ...


def _subscriber(app: App) -> None:
    @app.subscribe("orders.*")
    async def note() -> None: ...


@pytest.mark.parametrize(
    ("declare", "lacking", "said"),
    [
        (lambda app: _task(app, priority=7), "priorities", "Handler 'job': priority=7 cannot be"),
        (lambda app: _task(app, backoff="5s"), "delay", "Handler 'job': backoff='5s' cannot be"),
        (lambda app: _task(app, backoff_cap=9), "delay", "Handler 'job': backoff_cap=9 cannot be"),
        (_subscriber, "fan_out", "Handler 'note': a subscription to 'orders..' cannot be"),
    ],
)
def test_a_handler_asks_for_nothing_that_its_engine_has_not(
    declare: Callable[[App], None], lacking: str, said: str
) -> None:
    declare(App(MemoryEngine()))
    with pytest.raises(Unsupported, match=f"^{said}: the memory engine has no .*") as caught:
        declare(App(Weaker(MemoryEngine(), **{lacking: False})))
    assert len(str(caught.value).split(". ")[1]) > 10, "and says what to do"


@pytest.mark.parametrize(
    ("options", "lacking", "said"),
    [
        ({"limit": 5}, "limits", "Queue 'mail': limit=5 cannot be: the memory engine has no limits"),
        (
            {"limit": 5, "when_full": "drop-expired"},
            "expiry",
            "Queue 'mail': when_full='drop-expired' cannot",
        ),
    ],
)
def test_a_queue_has_no_option_that_its_engine_has_not(
    options: dict[str, Any], lacking: str, said: str
) -> None:
    with pytest.raises(Unsupported, match=f"^{said}"):
        App(Weaker(MemoryEngine(), **{lacking: False}), queues={"mail": QueueOptions(**options)})


def test_a_largest_body_is_one_that_the_engine_takes() -> None:
    App(MemoryEngine(), max_body="64M")
    with pytest.raises(
        Unsupported, match=r"^App: max_body=67108865 cannot be: the memory engine has no room"
    ):
        App(MemoryEngine(), max_body=(64 << 20) + 1)


@pytest.mark.parametrize("lacking", ["remembers", "dedupes", "fences"])
def test_a_bus_is_joined_to_a_store_that_the_bridge_can_rely_on(lacking: str) -> None:
    with pytest.raises(Unsupported, match=r"^App: bus= cannot be: the memory engine has no"):
        App(Weaker(MemoryEngine(), **{lacking: False}), bus=HostileBus())


@story
async def test_what_the_server_cannot_is_refused_when_it_is_opened() -> None:
    app = App(MemoryEngine())
    _task(app, priority=7)
    app._client.ground = type(app._client.ground)(
        engine=Weaker(MemoryEngine(), priorities=False),
        bus=None,
        clock=app._client.ground.clock,
        composer=app._client.ground.composer,
    )

    with pytest.raises(Unsupported, match=r"Handler 'job': priority=7 cannot be"):
        await app.__aenter__()


class Probed(Spied):
    """A bus whose server turns out to have no topics."""

    def connect(self, worker: str, clock: Clock) -> SpiedStore:
        store = super().connect(worker, clock)
        self.inner = Weaker(self.inner, fan_out=False)
        return store


@story
async def test_what_the_servers_of_a_bus_cannot_is_refused_when_a_worker_opens_it() -> None:
    app = App(MemoryEngine(), bus=Probed(HostileBus()))
    _subscriber(app)

    with pytest.raises(
        Unsupported, match=r"Queue 'app.orders._any': a subscription .* the hostile engine has no topics"
    ):
        await app.worker().run()


def test_a_native_value_is_for_the_engine_that_knows_it() -> None:
    queues = {"mail": QueueOptions(native=HostileQueue(3))}

    App(HostileBus(), queues=queues)
    App("memory://", bus=HostileBus(), queues=queues)
    with pytest.raises(
        Unsupported,
        match=r"^Queue 'mail': native=HostileQueue\(\.\.\.\) is not for memory: leave it out",
    ):
        App("memory://", queues=queues)
    with pytest.raises(Unsupported, match="is not for hostile: give a HostileQueue"):
        App(HostileBus(), queues={"mail": QueueOptions(native=object())})


@story
async def test_a_native_value_goes_to_its_own_engine_and_to_no_other() -> None:
    bus = HostileBus()
    app = App("memory://", bus=bus, queues={"notes": QueueOptions(native=HostileQueue(3))})

    @app.subscribe("orders.*", queue="notes")
    async def note() -> None: ...

    async with working(app):
        assert bus.bindings["notes"].native == HostileQueue(3)
    async with app.testing():
        assert app.engine.traits.engine == "memory"


PROMISES = [name for name, kind in Traits.__annotations__.items() if "bool" in str(kind)]


@pytest.mark.parametrize("name", sorted(set(PROMISES) - {"joins_transaction"}))
def test_a_claimed_trait_has_a_claim_that_it_holds(name: str) -> None:
    least = Traits(engine="least", durability=Durability.NOTHING)
    most = replace(MemoryEngine().traits, shared=True)

    assert _claims(most) - _claims(replace(most, **{name: False})), "with it, more is to hold"
    assert name in {
        "exact",
        "virtual_clock",
        "shared",
        "dedupes",
        "fences",
        "remembers",
        "settles_atomically",
    } or (_claims(least) - _claims(replace(least, **{name: True}))), "without it, asking is to be refused"


def _claims(traits: Traits) -> set[str]:
    return {claim.name for claim in conformance.claims_for(traits)}
