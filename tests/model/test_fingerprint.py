"""What varies from try to try is not in a fingerprint, and what went wrong is."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from forebay.model.fingerprint import LONGEST, fingerprint, template
from forebay.model.verdict import Failure


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("", ""),
        ("the gateway is away", "the gateway is away"),
        ("order 7 not found", "order * not found"),
        ("can't reach it, it isn't there", "can't reach it, it isn't there"),
        ("No such file: '/a/b c'", "No such file: *"),
        ("b'abc' is no \"q\" or `z`", "* is no * or *"),
        ("user42 and key-abc-12", "* and *"),
        ("x=3.14, y=-2e10", "x=*, y=*"),
        ("at 0x7f12ab", "at *"),
        ("01a21165-7ae7-76ba-9535-e245da234d75!", "*!"),
        ("2026-11-28T07:43:00Z is late", "* is late"),
        ("10.0.0.1:8080 refused", "* refused"),
        ("ada@example.org bounced", "* bounced"),
        ("GET https://example.org/v1/x?y=1: 503 (timeout)", "GET * * (timeout)"),
        (r"open C:\Users\ada\x.txt", "open *"),
        ("file=/etc/passwd", "file=*"),
        ("[1, 2, 3] is bad", "[*] is bad"),
        ("{'a': 1}", "{*: *}"),
    ],
)
def test_what_varies_is_taken_out(message: str, expected: str) -> None:
    assert template(message).replace("* *", "*") == expected.replace("* *", "*")


@given(st.text(max_size=2 * LONGEST))
def test_any_text_has_a_template_without_digits(message: str) -> None:
    assert not any(letter in template(message) for letter in "0123456789")


@pytest.mark.parametrize("piece", ["a", "a-", "1", "-", ":", "a:", "/", ".", "'", "' ", "b'x", '"a ', "@"])
def test_no_text_takes_long(piece: str) -> None:
    """Were it quadratic, this would take minutes."""
    for _ in range(100):
        template(piece * LONGEST)


def test_failures_are_the_same_by_type_template_and_the_three_innermost_frames() -> None:
    frames = ("shop.pay:charge", "shop.pay:retry", "shop.tasks:bill", "shop.tasks:outermost")
    one = fingerprint("KeyError", "'a7'", frames)

    assert one == fingerprint("KeyError", "'b8'", frames)
    assert one == fingerprint("KeyError", "'a7'", frames[:3])
    others = [
        ("ValueError", "'a7'", frames),
        ("KeyError", "a", frames),
        ("KeyError", "'a7'", frames[1:]),
        ("KeyError", "'a7'", ()),
    ]
    assert one not in {fingerprint(*other) for other in others}
    assert len(one) == 16


def test_a_failure_has_a_fingerprint_though_nothing_was_raised() -> None:
    assert Failure("Timeout", "job ran out of 5 s").fingerprint == fingerprint(
        "Timeout", "job ran out of 6 s"
    )
    assert Failure("Timeout", "", "", "given").fingerprint == "given"
