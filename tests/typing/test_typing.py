"""What the types promise, held by two checkers: right calls pass, and every wrong one is an error, or its ignore would be one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CHECKERS = {
    "mypy": [
        "mypy",
        "--strict",
        "--warn-unused-ignores",
        str(HERE / "api_ok.py"),
        str(HERE / "api_wrong.py"),
        str(HERE / "local_ok.py"),
        str(HERE / "local_wrong.py"),
    ],
    "basedpyright": [
        "basedpyright",
        "--project",
        str(HERE / "pyrightconfig.json"),
        "--pythonpath",
        sys.executable,
    ],
}


@pytest.mark.parametrize("checker", CHECKERS)
def test_right_calls_pass_and_wrong_ones_do_not(checker: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", *CHECKERS[checker]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert run.returncode == 0, f"{run.stdout}\n{run.stderr}"


def test_every_wrong_call_is_expected_by_both_checkers() -> None:
    """Counted here, so that the checkers cannot pass for want of anything to check."""
    wrong = [HERE / "api_wrong.py", HERE / "local_wrong.py"]
    lines = [line for file in wrong for line in file.read_text("utf-8").splitlines()]
    both = [line for line in lines if "# type: ignore[" in line and "# pyright: ignore[" in line]
    either = [line for line in lines if "ignore[" in line]

    assert both == either
    assert len(both) >= 80
