"""Lends an App other ground to stand on, for a test, and puts it back. The client knows nothing of it but that its ground may change."""

from __future__ import annotations

import warnings
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from forebay.client.client import caller
from forebay.errors import InUse

if TYPE_CHECKING:
    from collections.abc import Collection

    from forebay.client.client import Client, Ground
    from forebay.client.loop_client import LoopClient


@dataclass(frozen=True, slots=True)
class _Lent:
    """What a client stood on before, and where it was put on a stage."""

    own: Ground
    at: str


_LENT: Final = weakref.WeakKeyDictionary["Client", _Lent]()
"""All clients that are on a stage."""


def staged_at(client: Client) -> str:
    """Where it was put on other ground; empty if it stands on its own."""
    lent = _LENT.get(client)
    return "" if lent is None else lent.at


def lend(client: Client, ground: Ground) -> None:
    """Let a client stand on other ground until `restore`. Raises `InUse` while its App is open, or stands on other ground already."""
    where = client.open_since
    if client in _LENT and where is None:
        restore(client)  # its loop has ended without leaving it
    if client in _LENT:
        raise InUse(f"The App is on a stage already, since {staged_at(client)}: leave that block first.")
    if where is not None:
        raise InUse(
            f"The App is open, since {where}: put app.testing() around what opens it, or close it first."
        )
    _LENT[client] = _Lent(client.ground, caller())
    client.ground = ground


def restore(client: Client) -> None:
    """Back to its own ground, whatever was left open meanwhile. Not from the sync bridge's thread."""
    try:
        client.release()
    finally:
        left = client.abandon()
        if (lent := _LENT.pop(client, None)) is not None:
            client.ground = lent.own
    for link in left:
        warnings.warn(link.left_open, ResourceWarning, stacklevel=2)


def forget(client: Client, known: Collection[LoopClient], staged: str) -> None:
    """Let go of what was opened since ``known`` and ``staged`` were all, and what nobody will close any more: another stage, the sync
    bridge, links whose loop has ended.
    """
    if staged_at(client) not in ("", staged):
        with warnings.catch_warnings(action="ignore"):  # whoever calls this has said it
            restore(client)
    client.release(known)
