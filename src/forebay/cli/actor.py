"""Who gives commands here."""

from __future__ import annotations

import getpass

from forebay.model.query import LONGEST_WORD, UNKNOWN, Actor


def actor() -> Actor:
    """Who gives the commands of this process."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        # A container may run as a number that nobody has named.
        name = UNKNOWN.name
    return Actor(name=name[:LONGEST_WORD], via="command line")
