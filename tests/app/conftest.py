"""Settings of whoever runs the tests are no part of them."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [name for name in os.environ if name.startswith("FOREBAY_")]:
        monkeypatch.delenv(variable)
