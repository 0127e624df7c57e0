"""Failures inside the suite show the values compared."""

import pytest

pytest.register_assert_rewrite("forebay.testing.conformance")
