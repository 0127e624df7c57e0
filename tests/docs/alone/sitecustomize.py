"""Imported by every interpreter that a page starts: nothing on a page talks to another machine."""

from __future__ import annotations

import sys

_HERE = ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::", "", None)


def _stay(event: str, args: tuple[object, ...]) -> None:
    if event == "socket.getaddrinfo" and args[0] not in _HERE:
        raise PermissionError(f"a page looks for another machine: {args[0]}")
    if event == "socket.connect" and isinstance(args[1], tuple) and args[1][0] not in _HERE:
        raise PermissionError(f"a page calls another machine: {args[1]}")


sys.addaudithook(_stay)
