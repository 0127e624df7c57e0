"""Schedules as they are written: what is wrong is refused at import, and what is right may be changed while it works."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from forebay import App, Context
from forebay.errors import (
    InvalidArguments,
    InvalidName,
    InvalidOption,
    NameTaken,
    ScheduleNotFound,
    Unsupported,
)
from forebay.model.query import Actor, Edit
from forebay.model.schedule import CatchUp, How, Overlap, ScheduleState
from forebay.model.state import State
from forebay.model.survey import Audit
from forebay.model.when import SECOND
from forebay.testing.hostile import HostileBus
from tests.runtime.kit import story

if TYPE_CHECKING:
    from pathlib import Path

START = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def app() -> App:
    return App("memory://", name="shop")


async def plain() -> None: ...


async def needs(tenant: int) -> None: ...


@pytest.mark.parametrize(
    ("cron", "options", "sentence"),
    [
        ("61 * * * *", {}, "minute '61' is not possible: write 0 to 59"),
        ("* * * *", {}, "has 4 fields"),
        (7, {}, "cron is text such as .*, not 7"),
        (
            "@daily",
            {"zone": "Europe/Belin"},
            "zone 'Europe/Belin' is not known here: did you mean 'Europe/Berlin'",
        ),
        ("@daily", {"zone": 7}, "zone is the name of a zone, such as 'Europe/Berlin', not 7"),
        ("@daily", {"zon": "UTC"}, r"@app\.schedule has no option 'zon': did you mean 'zone'"),
        ("@daily", {"start": "tomorrow"}, "start is not a moment: 'tomorrow'"),
        ("@daily", {"start": datetime(2030, 1, 1)}, "start has no time zone"),  # noqa: DTZ001  # that is the test
        (
            "@daily",
            {"start": "2030-01-02T00:00Z", "until": "2030-01-01T00:00Z"},
            r"until= lies before start=",
        ),
        ("@daily", {"jitter": "soon"}, "jitter is not a duration"),
        ("@daily", {"catch_up": "on"}, "catch_up='on' is not possible: did you mean 'one'"),
        ("@daily", {"catch_up": []}, "it is one of skip, one, all"),
        ("@daily", {"overlap": "never"}, "overlap='never' is not possible"),
    ],
)
def test_options_of_a_schedule_are_checked(
    app: App, cron: Any, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InvalidOption, match=sentence):
        app.schedule(cron, **options)(app.task(plain))
    assert app.plant().schedules.plans == {}, "nothing is declared by half"


def test_what_cannot_be_scheduled_is_refused(app: App) -> None:
    task, asks = app.task(plain), app.task(needs)
    with pytest.raises(InvalidOption, match=r"@app\.schedule\(\.\.\.\) stands above @app\.task\(\)"):
        app.schedule("@daily")(plain)  # type: ignore[type-var]  # that is the test
    with pytest.raises(
        InvalidOption, match=r"its task needs arguments \('tenant' is missing\): give task\.bind"
    ):
        app.schedule("@daily")(asks)
    with pytest.raises(InvalidArguments):
        app.schedule("@daily")(asks.bind("x"))  # type: ignore[call-overload]  # that is the test
    with pytest.raises(InvalidOption, match="leave out id='mine'"):
        app.schedule("@daily")(task.options(id="mine"))
    with pytest.raises(InvalidOption, match="leave out unique="):
        app.schedule("@daily", overlap="skip")(task.options(unique="mine"))
    with pytest.raises(InvalidName, match="schedule 'a b' is not a valid name"):
        app.schedule("@daily", name="a b")(task)
    with pytest.raises(InvalidOption, match="every='100ms' is too often: a second is the least"):
        app.every("100ms", task)
    with pytest.raises(InvalidOption, match="zone= goes with cron="):
        app.every("1h", task, zone="Europe/Berlin")
    with pytest.raises(InvalidOption, match=r"app\.every\(\) has no option 'strt'"):
        app.every("1h", task, strt="x")  # type: ignore[call-arg]  # that is the test
    app.every("1h", task)
    with pytest.raises(NameTaken, match="Two schedules are called 'plain'"):
        app.schedule("@daily")(task)


def test_arguments_that_are_too_large_are_refused(app: App) -> None:
    @app.task
    async def load(text: str) -> None: ...

    with pytest.raises(InvalidOption, match=r"it takes .* bytes, and 30,000 are the most"):
        app.every("1h", load.bind("x" * 40_000))


@story
async def test_the_largest_schedule_may_be_overridden_by_another() -> None:
    app = App("memory://", name="x" * 100)

    @app.task
    async def load(text: str) -> None: ...

    app.every("1h", load.bind("x" * 22_000), name="n" * 120)
    async with app.testing() as t:
        put = await app.schedules.put("n" * 120, every="2h", task=load.bind("y" * 22_000))
        assert put.standing.overridden
        await t.advance("2h")
        assert len(await t.run_all()) == 1


def test_a_bare_bus_keeps_no_schedules() -> None:
    bus = App(HostileBus())
    with pytest.raises(Unsupported, match=r"Schedule 'plain': a schedule cannot be: .*App\('sqlite"):
        bus.schedule("@daily")(bus.task(plain))


def test_what_is_declared_is_what_was_written(app: App) -> None:
    @app.schedule(
        "0 6 * * mon", name="weekly", zone="Europe/Berlin", jitter="20s", catch_up="all", overlap="queue"
    )
    @app.schedule("@hourly")
    @app.task(queue="mail", priority=7)
    async def report(tenant: int = 3) -> None: ...

    app.every("90s", report.bind(tenant=7), name="often", start="2030-01-01T00:00+01:00", until=START)
    app.schedule("@daily", name="bound")(report.options(delay="5m", queue="slow").bind(9))

    plans = {name: plan for name, (_, plan) in app.plant().schedules.plans.items()}
    weekly = plans["weekly"]
    assert set(plans) == {"weekly", "report", "often", "bound"}
    assert (weekly.cron, weekly.zone, weekly.jitter) == ("0 6 * * mon", "Europe/Berlin", 20 * SECOND)
    assert (weekly.catch_up, weekly.overlap) == (CatchUp.ALL, Overlap.QUEUE)
    assert (weekly.task.name, weekly.task.queue, weekly.task.priority, weekly.task.id) == (
        "report",
        "mail",
        7,
        "",
    )
    assert plans["often"].task.body == b'{"tenant":7}'
    assert (plans["often"].every, plans["often"].start) == (90 * SECOND, 1_893_452_400 * SECOND)
    assert plans["bound"].task.queue == "slow"
    assert callable(report)


def test_an_app_says_which_code_its_schedules_are_from(app: App) -> None:
    app.every("1h", app.task(plain))
    app.every("1h", app.named("elsewhere").bind(), name="other")

    declaration = app.plant().schedules

    assert declaration.app == "shop"
    package = __name__.partition(".")[0]
    assert {name: home for name, (home, _) in declaration.plans.items()} == {
        "plain": package,
        "other": package,
    }
    assert App("memory://").plant().schedules.homes == {package}


@story
async def test_schedules_are_put_and_changed_from_a_running_program() -> None:
    app = App("memory://", name="shop")
    task = app.task(needs)
    ana = Actor(name="ana", via="test")
    async with app.testing() as t:
        made = await app.schedules.put("tenant-7", cron="0 6 * * mon", task=task.bind(tenant=7), by=ana)
        assert (made.state, made.plan.words()) == (ScheduleState.ACTIVE, "at 06:00 on Monday, UTC")
        assert await app.schedules.next("tenant-7", 2) == (
            datetime(2030, 1, 7, 6, tzinfo=UTC),
            datetime(2030, 1, 14, 6, tzinfo=UTC),
        )
        again = await app.schedules.put("tenant-7", cron="0 6 * * mon", task=task.bind(tenant=7), by=ana)
        assert again == made
        changed = await app.schedules.put("tenant-7", every="1h", jitter="1m")
        assert (changed.plan.every, changed.plan.cron, changed.plan.task) == (
            3_600 * SECOND,
            None,
            made.plan.task,
        )
        kept = await app.schedules.put("tenant-7", catch_up="all")
        assert (kept.plan.every, kept.plan.jitter) == (3_600 * SECOND, 60 * SECOND)
        whole = await app.schedules.put("tenant-7", every="1h", task=task.bind(8))
        assert (whole.plan.jitter, whole.plan.catch_up) == (0, CatchUp.ONE), "with a task all is said anew"

        with pytest.raises(ScheduleNotFound, match="There is no schedule 'nobody' yet: say what it sends"):
            await app.schedules.put("nobody", every="1h")
        with pytest.raises(InvalidOption, match="say when, with cron="):
            await app.schedules.put("nobody", task=task.bind(1))
        with pytest.raises(InvalidOption, match="not by both"):
            await app.schedules.put("nobody", cron="@daily", every="1h", task=task.bind(1))
        for call in (app.schedules.get, app.schedules.pause, app.schedules.run, app.schedules.history):
            with pytest.raises(ScheduleNotFound, match="There is no schedule 'nobody'"):
                await call("nobody")

        await app.schedules.remove("tenant-7", by=ana)
        assert await app.schedules.list() == ()
        told = [one for one in await app.survey(Audit()) if one.by == ana]
        assert [one.command for one in told] == [
            Edit("schedule", "tenant-7", "remove"),
            Edit("schedule", "tenant-7", "put"),
        ]
        assert t.now == START


@story
async def test_runs_are_told_with_what_became_of_them() -> None:
    app = App("memory://")

    @app.schedule("*/5 * * * *", overlap="skip")
    @app.task(max_attempts=1)
    async def refresh(ctx: Context) -> None:
        if ctx.headers["forebay-tick"] == "2030-01-01T00:05:00Z":
            raise ValueError("no")

    async with app.testing() as t:
        await t.advance("5m")
        await t.run_all()
        await t.advance("10m")
        await t.run_all()
        assert await app.schedules.skip("refresh") == datetime(2030, 1, 1, 0, 20, tzinfo=UTC)
        await t.advance("5m")
        by_hand = await app.schedules.run("refresh")
        await t.run_all()

        runs = await app.schedules.history("refresh")

    assert [run.how for run in runs] == [How.BY_HAND, How.SKIPPED, How.OVERLAPPED, How.FIRED, How.FIRED]
    assert [run.record.state if run.record else None for run in runs] == [
        State.SUCCEEDED,
        None,
        None,
        State.SUCCEEDED,
        State.DEAD,
    ]
    assert str(runs[0].id) == by_hand.id
    assert runs[1].id is None


@story
async def test_a_schedule_of_the_code_is_seen_and_changed_before_any_worker_has_declared_it(
    tmp_path: Path,
) -> None:
    app = App(f"sqlite:///{tmp_path}/s.db", name="shop")
    app.every("1h", app.task(plain))
    app.every("2h", app.named("other").bind(), name="other")
    async with app:
        assert [(one.name, one.state) for one in await app.schedules.list()] == [
            ("other", ScheduleState.NEW),
            ("plain", ScheduleState.NEW),
        ]
        assert (await app.schedules.get("plain")).new
        await app.schedules.pause("plain")
        assert [one.state for one in await app.schedules.list()] == [ScheduleState.NEW, ScheduleState.PAUSED]
        overridden = await app.schedules.put("other", every="3h")
        assert overridden.standing.overridden
        await app.schedules.reset("other")
        assert not (await app.schedules.get("other")).standing.overridden
        with pytest.raises(InvalidOption, match="is in the code of App 'shop'"):
            await app.schedules.remove("other")
        await app.schedules.resume("plain")
        assert (await app.schedules.get("plain")).state is ScheduleState.ACTIVE


@pytest.mark.parametrize("number", [0, -1, 1_001, 2.5, "5", True])
@story
async def test_a_number_of_ticks_that_cannot_be_told_is_refused(app: App, number: Any) -> None:
    async with app:
        await app.schedules.put("a", every="1h", task=app.task(plain))
        with pytest.raises(InvalidOption, match="number must be a whole number from 1 to 1000"):
            await app.schedules.next("a", number)


@pytest.mark.parametrize("until", [0, "0s", datetime(2020, 1, 1, tzinfo=UTC)])
@story
async def test_a_pause_that_would_be_over_already_is_refused(app: App, until: Any) -> None:
    async with app:
        await app.schedules.put("a", every="1h", task=app.task(plain))
        with pytest.raises(InvalidOption, match=r"Schedule 'a': until=.* is no later than now"):
            await app.schedules.pause("a", until=until)
        assert (await app.schedules.get("a")).state is ScheduleState.ACTIVE


def test_callers_without_a_loop_use_sync(tmp_path: Path) -> None:
    app = App(f"sqlite:///{tmp_path}/s.db")
    task = app.task(plain)
    with app:
        app.sync(app.schedules.put("a", every="1h", task=task, until="2020-01-01T00:00Z"))
        (record,) = app.sync(app.schedules.list())
        assert record.state is ScheduleState.OVER
        handle = app.sync(app.schedules.run("a"))
        assert app.sync(handle.status()).state is State.READY
