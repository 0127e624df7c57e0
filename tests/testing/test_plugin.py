"""The plug-in, in pytest runs of their own: the fixture in tests of every kind, and a word about what a test has left open."""

from __future__ import annotations

import sys

import pytest

pytest_plugins = ["pytester"]

SHOP = """
from contextlib import asynccontextmanager
from forebay import App

life = []

@asynccontextmanager
async def lifespan():
    life.append("up")
    yield
    life.append("down")

app = App("sqlite:///never/there.db", lifespan=lifespan)
spare = App("memory://")

@app.task(queue="mail", max_attempts=3)
async def send_receipt(order: int, email: str) -> str:
    if "@" not in email:
        raise ValueError("no address")
    return f"sent {order}"

async def place_order(order: int, email: str) -> None:
    await send_receipt.send(order, email)
    await app.publish("orders.placed", {"id": order})

def place_order_sync(order: int, email: str) -> None:
    send_receipt.send_sync(order, email)
"""
INI = """
[pytest]
forebay_app = shop:app
pythonpath = .
filterwarnings = error
"""


def _run(pytester: pytest.Pytester, test: str, *options: str, ini: str = INI) -> pytest.RunResult:
    pytester.makepyfile(shop=SHOP, test_shop=test)
    pytester.makeini(ini)
    return pytester.runpytest_subprocess("-p", "no:randomly", *options)


def test_a_users_tests_with_and_without_a_loop(pytester: pytest.Pytester) -> None:
    ran = _run(
        pytester,
        """
        import asyncio, pytest, shop
        from forebay.testing.stage import Stage, SyncStage

        def test_plain(forebay: SyncStage):
            shop.place_order_sync(7, "ada@example.org")
            forebay.assert_sent(shop.send_receipt, 7)
            assert forebay.run_one().result == "sent 7"

        def test_a_coroutine_of_ours(forebay):
            shop.app.sync(shop.place_order(7, "nowhere"))
            assert [step.state for step in forebay.run_until_idle()] == ["retrying", "retrying", "dead"]
            forebay.assert_published("orders.placed", {"id": 7})

        @pytest.mark.forebay_app(eager=True)
        def test_eager(forebay):
            with pytest.raises(ValueError, match="no address"):
                shop.place_order_sync(7, "nowhere")

        @pytest.mark.parametrize("anyio_backend", ["asyncio"])
        @pytest.mark.anyio
        async def test_asynchronous(forebay: Stage, anyio_backend):
            await shop.place_order(7, "ada@example.org")
            assert (await forebay.run_one()).result == "sent 7"

        class TestInAClass:
            @pytest.mark.parametrize("anyio_backend", ["asyncio"])
            @pytest.mark.anyio
            async def test_asynchronous(self, forebay: Stage, anyio_backend):
                assert forebay.sent() == []
                await shop.place_order(8, "ada@example.org")
                await forebay.run_all()

        @pytest.mark.forebay_app(shop.spare)
        def test_another_app(forebay, forebay_app):
            assert forebay_app is shop.spare
            assert shop.app.engine.traits.engine == "sqlite"

        def test_everything_is_over():
            assert shop.life == ["up", "down"] * 5
        """,
    )
    ran.assert_outcomes(passed=7)
    assert ran.ret == 0


def test_the_same_in_parallel(pytester: pytest.Pytester) -> None:
    ran = _run(
        pytester,
        """
        import pytest, shop

        @pytest.mark.parametrize("order", range(20))
        def test_each_has_a_stage_of_its_own(forebay, order):
            assert forebay.sent() == []
            shop.place_order_sync(order, "ada@example.org")
            assert forebay.run_one().result == f"sent {order}"
        """,
        "-n2",
    )
    ran.assert_outcomes(passed=20)


def test_an_app_that_is_made_for_each_test(pytester: pytest.Pytester) -> None:
    ran = _run(
        pytester,
        """
        import pytest
        from forebay import App

        @pytest.fixture
        def forebay_app():
            app = App("memory://")
            app.task(name="double")(double)
            return app

        def double(n: int) -> int:
            return 2 * n

        def test_it(forebay, forebay_app):
            forebay_app.send_sync("double", 4)
            assert forebay.run_one().result == 8
        """,
        ini="[pytest]\n",
    )
    ran.assert_outcomes(passed=1)


def test_an_app_that_cannot_be_found_is_said_in_a_sentence(pytester: pytest.Pytester) -> None:
    ran = _run(
        pytester,
        """
        import pytest

        @pytest.mark.parametrize(
            "named",
            [pytest.param(named, marks=pytest.mark.forebay_app(named)) for named in ("shop:nothing", "nowhere:app", "1:2", "shop:life")],
        )
        def test_it(forebay, named): pass

        def test_without(forebay): pass
        """,
        ini="[pytest]\npythonpath = .",
    )
    ran.assert_outcomes(errors=5)
    for said in (
        "*'shop:nothing' cannot be imported: *no attribute 'nothing'*",
        "*'nowhere:app' cannot be imported: No module named 'nowhere'*pythonpath.",
        "*'1:2' cannot be imported*",
        "*'shop:life' is not an App, it is *override the fixture forebay_app*",
        "*Which App? Set forebay_app = 'module:variable' in pytest's configuration*",
    ):
        ran.stdout.fnmatch_lines([said])
    ran.stdout.no_fnmatch_line("*Traceback*")


def test_a_test_that_leaves_an_app_open_fails_and_the_next_is_none_the_worse(
    pytester: pytest.Pytester,
) -> None:
    ran = _run(
        pytester,
        """
        import asyncio, pytest, shop

        async def open_it():
            await shop.spare.__aenter__()  # here

        def test_leaves_the_app_open():
            asyncio.run(open_it())

        def test_calls_without_a_block():
            shop.spare.send_sync("double", 1)  # and here

        def test_leaves_the_stage_open():
            shop.app.testing().__enter__()  # and on this line

        @pytest.mark.xfail(strict=True)
        def test_fails_itself():
            shop.spare.send_sync("double", 1)
            assert not "what the test says goes first"

        @pytest.mark.parametrize("forebay_app", [shop.app, shop.spare])
        def test_next(forebay, forebay_app):
            assert forebay.sent() == []

        def test_closes_what_it_opens():
            async def main():
                async with shop.spare:
                    pass
            asyncio.run(main())
            with shop.spare:
                shop.spare.send_sync("double", 1)
        """,
        ini=INI.replace("= error", "= error\n    ignore:The App that was opened"),
    )
    ran.assert_outcomes(failed=3, passed=3, xfailed=1)
    lines = [line.strip() for line in pytester.path.joinpath("test_shop.py").read_text().splitlines()]
    for comment in ("# here", "# and here"):
        (number,) = [at for at, line in enumerate(lines, 1) if line.endswith(comment)]
        ran.stdout.fnmatch_lines([f"The App that was opened at *test_shop.py:{number} was never closed: *"])
    (number,) = [at for at, line in enumerate(lines, 1) if line.endswith("# and on this line")]
    ran.stdout.fnmatch_lines(
        [f"The block of app.testing() that was entered at *test_shop.py:{number} was never left*"]
    )


def test_fixtures_may_keep_an_app_open_until_they_are_over(pytester: pytest.Pytester) -> None:
    ran = _run(
        pytester,
        """
        import asyncio, pytest, shop

        @pytest.fixture(scope="module")
        def loop():
            loop = asyncio.new_event_loop()
            loop.run_until_complete(shop.spare.__aenter__())
            yield loop
            loop.run_until_complete(shop.spare.__aexit__())
            loop.close()

        @pytest.mark.parametrize("n", range(3))
        def test_open(loop, n):
            loop.run_until_complete(shop.spare.send("double", n))
        """,
    )
    ran.assert_outcomes(passed=3)


def test_a_fixture_that_leaves_an_app_open_is_found_at_the_end(pytester: pytest.Pytester) -> None:
    ran = _run(
        pytester,
        """
        import pytest, shop

        @pytest.fixture
        def sent():
            return shop.spare.send_sync("double", 1)

        def test_first(sent): pass
        def test_last(sent): pass
        """,
    )
    ran.assert_outcomes(passed=2, errors=1)
    ran.stdout.fnmatch_lines(
        ["Left open by a fixture:", "The App that was opened at *test_shop.py:5 was never*"]
    )


def test_nothing_is_imported_before_it_is_used(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_light():
            ours = {name for name in sys.modules if name.split(".")[0] == "forebay"}
            version = {"forebay.support", "forebay.support.version"}
            assert ours == {"forebay", "forebay.testing", "forebay.testing.pytest_plugin", *version}
            assert not {"apsw", "msgspec", "click", "rich"} & set(sys.modules)
        """
    )
    ran = pytester.runpytest_subprocess("-p", "no:randomly")
    ran.assert_outcomes(passed=1)


def test_the_entry_point_is_there() -> None:
    assert "forebay.testing.pytest_plugin" in sys.modules
