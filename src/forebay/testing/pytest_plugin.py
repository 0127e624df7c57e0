"""The plug-in for pytest: a fixture with an App on a stage, and a word about Apps that a test has left open.

pytest imports it at its start, so it imports nothing of Forebay before a test asks for it.
"""

from __future__ import annotations

import functools
import inspect
import pkgutil
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Iterable

    from forebay import App
    from forebay.client.client import Client
    from forebay.client.loop_client import LoopClient
    from forebay.testing.stage import Stage, SyncStage, Testing

MARKER: Final = "forebay_app"
_OPEN: Final = pytest.StashKey[set["LoopClient"]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the App is."""
    parser.addini(MARKER, "The App that the fixture 'forebay' puts on a stage: module:variable.", default="")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        f"{MARKER}(app, *, eager=False, propagate=True, patience=30): the App of this test for the fixture 'forebay' "
        "('module:variable', or the App itself; may be left out), and how app.testing() is called.",
    )


@pytest.fixture
def forebay_app(request: pytest.FixtureRequest) -> App:
    """The App of the tests: of the marker ``forebay_app``, else of the setting. Override it to make one."""
    marker = request.node.get_closest_marker(MARKER)
    named = marker.args[0] if marker is not None and marker.args else request.config.getini(MARKER)
    if not named:
        pytest.fail(
            "Which App? Set forebay_app = 'module:variable' in pytest's configuration, mark the test with "
            "@pytest.mark.forebay_app('module:variable'), or override the fixture forebay_app.",
            pytrace=False,
        )
    return _found(named)


@pytest.fixture
def forebay(
    request: pytest.FixtureRequest, forebay_app: App
) -> Generator[SyncStage | Stage | Testing, None, None]:
    """The App on a stage: what ``with forebay_app.testing() as forebay`` gives; in an ``async def`` test, what ``async with`` does."""
    marker = request.node.get_closest_marker(MARKER)
    testing = forebay_app.testing(**({} if marker is None else marker.kwargs))
    if inspect.iscoroutinefunction(getattr(request.node, "obj", None)):
        # The stage belongs to the test's loop, which does not run yet: whoever runs the test, enters it.
        request.node.obj = _around(request.node.obj, testing)
        yield testing
    else:
        with testing as stage:
            yield stage


def pytest_collection_finish(session: pytest.Session) -> None:
    """What is open before the first test is not the tests' to close."""
    session.config.stash[_OPEN] = set(_links())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    """Fail a test that leaves open what it has opened. What its fixtures have opened they close later."""
    before = {client: (set(client.links()), _staged_at(client)) for client in _doors()}
    left: list[str] = []
    try:
        answer = yield  # what the test raised is raised here, and has precedence
    finally:
        for client in _doors():
            links, staged = before.get(client, (set(), ""))
            opened = [link for link in client.links() if link not in links]
            left += [link.left_open for link in opened if link.opened_at != _staged_at(client)]
            left += [_unleft(_staged_at(client))] if _staged_at(client) not in ("", staged) else []
            _forget(client, links, staged)
    if left:
        pytest.fail("\n".join(dict.fromkeys(left)), pytrace=False)
    return answer


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, object, object]:
    """After the last test all fixtures are over, and nothing of theirs may be open."""
    answer = yield
    if nextitem is None:
        before = item.config.stash.get(_OPEN, set())
        left = [link.left_open for link in _links() if link not in before]
        if left:
            pytest.fail("\n".join(["Left open by a fixture:", *dict.fromkeys(left)]), pytrace=False)
    return answer


def _around(test: Callable[..., Any], testing: Testing) -> Callable[..., Any]:
    """The test, inside its stage."""

    @functools.wraps(test)
    async def staged(*args: Any, **kwargs: Any) -> Any:
        async with testing as stage:
            return await test(*args, **(kwargs | {"forebay": stage} if "forebay" in kwargs else kwargs))

    return staged


def _found(named: object) -> App:
    """The App itself, or the one of that name."""
    from forebay import App

    try:
        found = pkgutil.resolve_name(named) if isinstance(named, str) else named
    except (ImportError, AttributeError, ValueError) as error:
        pytest.fail(
            f"forebay_app: {named!r} cannot be imported: {error}. It is 'module:variable', and the module's folder must be on "
            "pytest's pythonpath.",
            pytrace=False,
        )
    if not isinstance(found, App):
        pytest.fail(
            f"forebay_app: {named!r} is not an App, it is {found!r}. For an App that is made by a function, override the fixture "
            "forebay_app and return it.",
            pytrace=False,
        )
    return found


def _doors() -> Iterable[Client]:
    """All clients, if this process has had any use for them."""
    module = sys.modules.get("forebay.client.client")
    return () if module is None else module.clients()


def _staged_at(client: Client) -> str:
    """Where it was put on a stage, if this process has had any use for stages."""
    module = sys.modules.get("forebay.testing.lending")
    return "" if module is None else str(module.staged_at(client))


def _forget(client: Client, known: Collection[LoopClient], staged: str) -> None:
    from forebay.testing.lending import forget

    forget(client, known, staged)


def _links() -> list[LoopClient]:
    return [link for client in _doors() for link in client.links()]


def _unleft(where: str) -> str:
    return f"The block of app.testing() that was entered at {where} was never left: write it as 'with' or 'async with'."
