"""Where an error was raised is told by the user's own frames."""

from __future__ import annotations

import json
from typing import Any

import pytest

from forebay.context import Context
from forebay.model import outcome as o
from forebay.model.fingerprint import fingerprint
from forebay.runtime.frames import user_frames
from forebay.runtime.threads import Threads
from tests.runtime.kit import a_delivery, a_handler, one_try, story

HERE = "tests.runtime.test_frames"


def reads(text: str) -> Any:
    return json.loads(text)


def raised(error: type[BaseException] | BaseException) -> None:
    raise error


def caught(function: Any, *args: Any) -> BaseException:
    with pytest.raises(BaseException) as told:  # noqa: PT011  # whatever it is
        function(*args)
    return told.value


def test_the_innermost_frame_of_the_users_code_comes_first_and_libraries_do_not_count() -> None:
    assert user_frames(caught(reads, "{"))[0] == f"{HERE}:reads"


def test_a_group_was_raised_where_its_first_member_was() -> None:
    inner = BaseExceptionGroup("one", [caught(raised, KeyError)])
    group = BaseExceptionGroup("two", [inner, SystemExit()])

    assert user_frames(group) == [f"{HERE}:raised", f"{HERE}:caught"]


def test_an_error_that_was_never_raised_has_no_frames() -> None:
    assert user_frames(ValueError()) == []


@story
async def test_a_try_that_fails_says_by_its_fingerprint_where_it_failed() -> None:
    async def job(ctx: Context) -> None:
        raised(KeyError(ctx.attempt))

    handler = a_handler(job)
    call = handler.call(Threads(1))
    outcomes = [await one_try(call, handler, a_delivery(attempts=n)) for n in (0, 1)]

    frames = (f"{HERE}:raised", f"{HERE}:{job.__qualname__}")
    for outcome in outcomes:
        assert isinstance(outcome, o.Failed)
        assert outcome.failure.fingerprint == fingerprint("KeyError", "1", frames)
