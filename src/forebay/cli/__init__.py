"""The command line: says what it finds on stdout, everything else on stderr. Commands live in modules by noun, imported when called."""

from __future__ import annotations

import sys


def main() -> None:
    """Run ``forebay`` with this process's arguments and exit."""
    from forebay.cli.program import leave, run  # the entry point of a script must not cost an import

    leave(run(sys.argv[1:]))
