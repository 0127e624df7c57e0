"""From APP on the command line to an App, and every way in which that fails."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from forebay.cli.exits import Exit
from forebay.cli.loading import BadApp, load
from forebay.errors import InvalidOption
from tests.cli.kit import Cli

MODULES = {
    "wharf.py": """
        from forebay import App
        app = App("memory://")
        spare = App("memory://")
        number = 3
        def make(): return app
        class Crane:
            app = app
        @app.task
        def lift(): ...
    """,
    "empty.py": "",
    "raises.py": """
        def deep(n):
            return {}["cargo"] if n == 0 else deep(n - 1)
        deep(30)
    """,
    "needs.py": "import no_such_dependency.deeper",
    "syntax.py": "def f(:",
    "leaves.py": "raise SystemExit(3)",
    "wrong.py": """
        from forebay import App
        app = App("memory://")
        @app.task(queu="mail")
        def f(): ...
    """,
    "pier.py": """
        from forebay import App
        app = App("memory://", include=["dock.hoist"])
        bare = App("memory://")
    """,
    "dock/hoist.py": """
        from pier import app, bare
        @app.task(queue="hoist")
        def hoist(): ...
        @bare.task(queue="hoist")
        def lower(): ...
    """,
    "rough.py": "from forebay import App\napp = App('memory://', include=['raises'])",
    "dock/__init__.py": "",
    "dock/lift.py": "from wharf import app",
}


@pytest.fixture(autouse=True)
def harbour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in MODULES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        lines = text.strip("\n").splitlines()
        margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
        path.write_text("\n".join(line[margin:] for line in lines))
    known = {name.partition(".")[0].partition("/")[0] for name in MODULES}
    for name in [name for name in sys.modules if name.partition(".")[0] in known]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])


@pytest.mark.parametrize("spec", ["wharf:app", "wharf:Crane.app", "dock.lift:app"])
def test_module_and_attribute_lead_to_the_app(spec: str) -> None:
    assert [route.source.queue for route in load(spec).routes()] == ["default"]


@pytest.mark.parametrize(
    ("spec", "include"), [("pier:app", ()), ("pier:bare", ("dock.hoist",)), ("pier:bare", ("dock.h*",))]
)
def test_handlers_of_other_modules_are_found(spec: str, include: tuple[str, ...]) -> None:
    if include == ("dock.h*",):  # a star stands for a whole word
        with pytest.raises(InvalidOption, match="is no module"):
            load(spec, include)
    else:
        assert [route.source.queue for route in load(spec, include).routes()] == ["hoist"]


@pytest.mark.parametrize(
    ("include", "says"),
    [
        ("quay", "There is no module 'quay': looked in"),
        ("dock.quay", "There is no module 'dock.quay'"),
        ("needs", "Importing needs raised ModuleNotFoundError:"),
        ("leaves", "Importing leaves raised SystemExit:"),
        ("wrong", "Importing wrong failed at wrong.py line 3: InvalidOption:"),
        ("dock.*.quay", "App 'app' includes 'dock.*.quay', and there is no such module"),
    ],
)
def test_a_module_that_cannot_be_included_is_explained(include: str, says: str) -> None:
    with pytest.raises(BadApp) as refusal:
        load("wharf:app", [include])

    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value) or "Traceback" in str(refusal.value)


def test_what_an_app_includes_shows_the_traceback_of_its_own_module() -> None:
    with pytest.raises(BadApp) as refusal:
        load("rough:app")

    assert str(refusal.value).startswith("Importing raises raised KeyError:\nTraceback")
    assert "forebay" not in str(refusal.value)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("wharf", "'wharf' is not module:attribute: for `app` in shop.py write shop:app"),
        ("", "'' is not module:attribute"),
        (":", "':' is not module:attribute"),
        ("wharf:", "'wharf:' is not module:attribute"),
        ("wharf.py:app", "write wharf:app instead of wharf.py:app"),
        ("dock/lift.py:app", "write dock.lift:app instead of dock/lift.py:app"),
        ("./wharf.py", "write wharf:app instead of ./wharf.py"),
        ("quay:app", "There is no module 'quay'"),
        ("quay.lift:app", "There is no package 'quay' for 'quay.lift'"),
        ("dock.quay:app", "There is no module 'dock.quay'"),
        ("wharf:ap", "module wharf has no 'ap'. Its Apps are: wharf:app, wharf:spare."),
        ("empty:app", "module empty has no 'app'. It holds no App at all"),
        ("wharf:number", "wharf:number is of type int, not an App"),
        ("wharf:make", "wharf:make is a function, not an App"),
        ("wharf:Crane", "wharf:Crane is the class Crane, not an App"),
        ("wharf:spare", "wharf:spare declares no handlers"),
        ("needs:app", "Importing needs raised ModuleNotFoundError:"),
        ("leaves:app", "Importing leaves raised SystemExit:"),
        ("syntax:app", "SyntaxError: invalid syntax"),
        (
            "wrong:app",
            "Importing wrong failed at wrong.py line 3: InvalidOption: @app.task has no option 'queu'",
        ),
    ],
)
def test_what_does_not_lead_to_an_app_is_explained(spec: str, says: str) -> None:
    with pytest.raises(BadApp) as refusal:
        load(spec)

    assert says in str(refusal.value)


def test_a_module_that_raises_shows_the_end_of_its_own_traceback(cli: Cli) -> None:
    with pytest.raises(BadApp) as refusal:
        load("raises:app")

    told = str(refusal.value)
    assert told.startswith("Importing raises raised KeyError:\nTraceback")
    assert told.endswith("KeyError: 'cargo'")
    assert "importlib" not in told
    assert "forebay" not in told
    assert told.count("\n") < 40


def test_a_worker_with_a_bad_app_ends_at_once(cli: Cli) -> None:
    answer = cli("worker", "quay:app")

    assert (answer.code, answer.out) == (Exit.USAGE, "")
    assert answer.err.startswith("forebay: There is no module 'quay'")
    assert "Traceback" not in answer.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--concurrency", "0"], "concurrency must be a whole number from 1"),
        (["--concurrency", "many"], "concurrency must be a whole number from 1"),
        (["--queues", "mial=3"], "Queue 'mial' has no handler in wharf:app, which declares default"),
        (["--queues", "default=0"], "the weight of queue 'default' must be"),
        (["--queues", "default,default"], "queues names 'default' twice"),
        (["--queues", "a b"], "not a valid name"),
        (["--stop-within", "-5"], "stop_within must be between"),
        (["--stop-within", "soon"], "stop_within is not a duration"),
        (["--log-level", "loud"], "log_level must be one of"),
        (["--log-format", "xml"], "log_format must be text or json"),
    ],
)
def test_bad_orders_are_refused(words: list[str], says: str, cli: Cli) -> None:
    answer = cli("worker", "wharf:app", *words)

    assert answer.code == Exit.USAGE
    assert says in answer.err
