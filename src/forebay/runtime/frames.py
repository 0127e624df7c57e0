"""Where an error was raised, in words that outlive an edit: frames as ``module:function``."""

from __future__ import annotations

import sysconfig
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import CodeType, TracebackType

_PACKAGES: Final = tuple(
    {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)


def user_frames(error: BaseException) -> list[str]:
    """The frames of the user's own code, the innermost first; those of libraries if there are no others. None of ours.

    A group was raised where its first member was.
    """
    found: list[tuple[str, CodeType]] = []
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__", "?"))
        if module.split(".", maxsplit=1)[0] != "forebay":
            found.append((module, trace.tb_frame.f_code))
        trace = trace.tb_next
    own = [(module, code) for module, code in found if _is_own(code)]
    return [f"{module}:{code.co_qualname}" for module, code in reversed(own or found)]


def _is_own(code: CodeType) -> bool:
    file = code.co_filename
    return not file.startswith((*_PACKAGES, "<frozen")) and "site-packages" not in file
