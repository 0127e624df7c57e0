"""URLs as they may be shown. The one place that knows where in a URL a secret can stand; whoever shows one asks here."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

HIDDEN: Final = "***"


def without_secrets(url: str) -> str:
    """A URL as it may be shown: without its password, and without parameters that are named like one.

    It need not be a valid one: where it is unclear what a part is, the part is hidden.

    >>> without_secrets("postgresql://ada:lovelace@db/jobs?sslpassword=x&target=1")
    'postgresql://ada:***@db/jobs?sslpassword=***&target=1'
    >>> without_secrets("nats://lovelace@bus"), without_secrets("redis:lovelace")
    ('nats://***@bus', 'redis:***')
    """
    found = _SCHEME.match(url)
    scheme, separator, rest = found.groups() if found is not None else ("", "", url)
    if found is not None and separator == ":" and "@" not in rest:
        return f"{scheme}:{HIDDEN}"
    return scheme + separator + _parameters(_address(scheme.lower(), rest))


def masked(text: str) -> str:
    """A text with each URL in it as `without_secrets` shows it.

    >>> masked("No such command 'redis://:lovelace@db'.")
    "No such command 'redis://:***@db'."
    """
    return _IN_TEXT.sub(lambda found: without_secrets(found[0]), text)


_SCHEME: Final = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]*)(:/{0,2})(.*)", re.DOTALL)
_IN_TEXT: Final = re.compile(r"""[A-Za-z][A-Za-z0-9+.-]*:(?://|[^\s'"]*@)[^\s'"]*""")
_NAMES_USER: Final = frozenset({"postgresql", "postgres", "amqp", "amqps"})
"""Schemes where what stands alone before the ``@`` is a user. For others it may be a token."""
_AUTHORITY: Final = re.compile(r"[^/?#]*")
_HOSTS: Final = re.compile(r"(?:(?:\[[0-9A-Fa-f:.%]*\]|[^:@,]*)(?::\d*)?(?:,|$))*")
"""Hosts and ports with commas between them. What is none of these may be a password whose ``@`` is missing or encoded."""
_PARAMETER: Final = re.compile(r"([?&;#])([^=&;#?]*)(=?)([^&;]*)", re.DOTALL)
_SECRET: Final = re.compile(r"pass|pwd|secret|token|key|auth|cred|seed|jwt|sig|private|bearer", re.IGNORECASE)


def _address(scheme: str, rest: str) -> str:
    """What follows the scheme, without a password. A password may hold any sign, so the last ``@`` of all counts."""
    user, at, place = rest.rpartition("@")
    if at:
        name, _, password = user.partition(":")
        if password and "@" not in name:
            return f"{name}:{HIDDEN}@{place}"
        if user.startswith("/") or (scheme in _NAMES_USER and _decoded(user).isidentifier()):
            return rest
        return f"{HIDDEN}@{place}"
    authority = _AUTHORITY.match(rest)
    written = "" if authority is None else authority[0]
    return rest if _HOSTS.fullmatch(_decoded(written)) else HIDDEN + rest[len(written) :]


def _parameters(rest: str) -> str:
    """With the values of parameters hidden that are named like a secret, and of what follows one without a name: it may be its rest."""
    hiding = False

    def shown(found: re.Match[str]) -> str:
        nonlocal hiding
        sign, name, equals, _value = found.groups()
        hiding = bool(_SECRET.search(_decoded(name))) if equals else hiding
        if not hiding:
            return found[0]
        return f"{sign}{name}={HIDDEN}" if equals else f"{sign}{HIDDEN}"

    return _PARAMETER.sub(shown, rest)


def _decoded(text: str) -> str:
    """Decoded until nothing is left to decode."""
    while (plain := unquote(text)) != text:
        text = plain
    return text
