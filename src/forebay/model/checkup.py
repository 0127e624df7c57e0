"""What looking after an installation finds: one value for each check, with a grade and what to do."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Grade(StrEnum):
    """How a check ended. Skipped: it could not be made, or does not apply here."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"


class Finding(msgspec.Struct, frozen=True):
    """One check: what was seen, and for what is not well the one thing to do about it."""

    name: str
    grade: Grade
    text: str
    fix: str = ""
