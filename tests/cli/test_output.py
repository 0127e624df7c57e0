"""What is printed for people."""

from __future__ import annotations

import pytest

from forebay.cli.output import Column, clean, counted, span, table

SECOND = 1_000_000


@pytest.mark.parametrize(
    ("micros", "shown"),
    [
        (0, "0ms"), (1_500, "1.5ms"), (999_999, "1000ms"), (2_340_000, "2.34s"), (12_345, "12.3ms"),
        (59 * SECOND, "59s"), (60 * SECOND, "1m"),
        (90 * SECOND, "1m30s"), (3_600 * SECOND, "1h"), (3_601 * SECOND, "1h"), (93_600 * SECOND, "1d2h"),
    ],
)  # fmt: skip
def test_durations_are_short(micros: int, shown: str) -> None:
    assert span(micros) == shown


def test_numbers_have_nouns() -> None:
    assert [counted(n, "task") for n in (0, 1, 2_500)] == ["0 tasks", "1 task", "2,500 tasks"]


def test_nothing_that_a_terminal_obeys_is_printed() -> None:
    assert clean("a\x1b[2Jb\r\n\x07é") == r"a\x1b[2Jb\r\n\x07é"


def test_columns_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    table(
        [Column("name"), Column("n", right=True), Column("note", elastic=True)],
        [["a", "1", "x" * 300], ["bcdefg", "1,000", ""]],
    )

    assert capsys.readouterr().out.splitlines() == [
        "name        n  note",
        f"a           1  {'x' * 300}",
        "bcdefg  1,000",
    ]
