"""Where another process finds an object of this one: a variable of a module, or of the program's own file."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from forebay.processes.protocol import Address

if TYPE_CHECKING:
    from collections.abc import Iterable

PROGRAM: Final = ("__main__", "__forebay_main__")
"""The names under which a program's file is a module, here and in a pool worker."""


def address_of(wanted: object, beside: Iterable[str] = ()) -> Address | None:
    """The module-level variable that holds ``wanted``; None if there is none, or none that another process could import.

    A module of its own is preferred to the program's file, which would run again. ``beside``: modules that it
    needs; those that cannot be imported again are left out.
    """
    modules = sorted(sys.modules.items(), key=lambda item: item[0] == "__main__")
    for module_name, module in modules:
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if value is wanted:
                file = getattr(module, "__file__", None) if module_name == "__main__" else None
                if module_name == "__main__" and file is None:
                    continue  # typed at a prompt
                more = tuple(
                    each for each in beside if each not in (module_name, *PROGRAM) and each in sys.modules
                )
                return Address(name, module_name, file, tuple(sys.path), more)
    return None
