"""An App whose handlers stand in several modules finds them all, and says which one it cannot have."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from pathlib import Path

import pytest

from forebay import App
from forebay.errors import IncludeFailed, InvalidOption

FILES = {
    "__init__.py": "",
    "app.py": "from forebay import App\napp = App('memory://', include=['harbour.tasks'])\n",
    "tasks.py": "from harbour.app import app\n@app.task\nasync def lift(n: int) -> int:\n    return n + 1\n",
    "quay/__init__.py": "",
    "quay/tasks.py": "from harbour.app import app\n@app.task(queue='quay')\nasync def moor() -> None: ...\n",
    "quay/deep/tasks.py": "from harbour.app import app\n@app.task(queue='deep')\nasync def dive() -> None: ...\n",
    "quay/__main__.py": "raise SystemExit('a program, not a module of handlers')",
    "broken.py": "import harbour.tasks\nraise LookupError('no crane')\n",
    "asks.py": "from harbour.app import app\napp.routes()\n@app.task(queue='asks')\nasync def ask() -> None: ...\n",
}


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> App:
    for name, text in FILES.items():
        path = tmp_path / "harbour" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "harbour"]:
        monkeypatch.delitem(sys.modules, name)
    from harbour.app import app as found  # type: ignore[import-not-found]  # written above

    assert isinstance(found, App)
    return found


def queues(app: App) -> set[str]:
    return {route.source.queue for route in app.routes()}


def test_modules_that_are_included_are_imported_when_they_are_needed_and_not_before(app: App) -> None:
    assert "harbour.tasks" not in sys.modules

    assert queues(app) == {"default"}
    assert "harbour.tasks" in sys.modules


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("harbour.quay.tasks", {"default", "quay"}),
        ("harbour.*.tasks", {"default", "quay"}),
        ("harbour.quay.**", {"default", "quay", "deep"}),
        ("harbour.quay.*", {"default", "quay"}),
        ("harbour.quay.*.tasks", {"default", "deep"}),
        ("harbour.asks", {"default", "asks"}),
    ],
)
def test_a_pattern_stands_for_the_modules_it_fits(app: App, pattern: str, wanted: set[str]) -> None:
    app.include(pattern)

    assert queues(app) == wanted


@pytest.mark.parametrize(
    ("module", "says", "cause"),
    [
        ("harbour.broken", "App 'app' includes 'harbour.broken', which cannot be imported: LookupError: no crane", LookupError),
        ("harbour.gone", "'harbour.gone', which cannot be imported: ModuleNotFoundError", ModuleNotFoundError),
        ("harbour.*.gone", "includes 'harbour.*.gone', and there is no such module", None),
        ("harbour.tasks.*", "includes 'harbour.tasks.*', and there is no such module", None),
    ],
)  # fmt: skip
def test_a_module_that_cannot_be_had_is_named_each_time(
    app: App, module: str, says: str, cause: type[BaseException] | None
) -> None:
    app.include(module)

    for _ in range(2):
        with pytest.raises(IncludeFailed) as caught:
            app.routes()
        assert says in str(caught.value)
        assert caught.value.module == module
        assert cause is None or isinstance(caught.value.__cause__, cause)


@pytest.mark.parametrize(
    "module", ["", "a b", "shop/tasks.py", ".tasks", "*", "**.tasks", "shop.**.tasks", "shop:app", 7]
)
def test_what_is_no_name_of_a_module_is_refused(module: str) -> None:
    with pytest.raises(InvalidOption, match="is no module: write"):
        App("memory://", include=[module])


def test_one_name_is_not_taken_for_a_list_of_letters() -> None:
    with pytest.raises(InvalidOption, match=r"write include=\['shop'\]"):
        App("memory://", include="shop")


def test_a_stage_and_an_open_app_have_all_handlers(app: App) -> None:
    async def main() -> None:
        async with app.testing() as t:
            await app.send("lift", 1)
            await t.run_all()
            assert [step.name for step in t.steps] == ["lift"]
        app.include("harbour.quay.tasks")
        async with app:
            assert "quay" in {one.queue for one in (await app.count()).queues}

    asyncio.run(main())


def test_two_threads_both_have_them(app: App) -> None:
    app.include("harbour.quay.**")
    seen: list[set[str]] = []
    both = threading.Barrier(2)

    def look() -> None:
        both.wait()
        seen.append(queues(app))

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [{"default", "quay", "deep"}] * 2


def test_a_worker_without_handlers_says_so(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        worker = App("memory://").worker()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(worker.run())
            await worker.ready.wait()
            worker.stop()

    with caplog.at_level(logging.WARNING, "forebay"):
        asyncio.run(main())
    assert "worker.no_handlers" in caplog.messages
