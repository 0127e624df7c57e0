"""How the demo shows its progress: a bar that moves at a terminal, a line now and then anywhere else."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

from forebay.cli.output import is_colourful, say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress, TaskID

EVERY: Final = 4
"""Of so many looks one is printed where nothing can move."""


class Screen(Protocol):
    """Shows how far it is."""

    def show(self, done: int, text: str) -> None:
        """So many are done; ``text`` says what the others do."""
        ...

    def line(self, text: str) -> None:
        """Something has happened that should stay to be read."""
        ...


@contextmanager
def screen(total: int) -> Iterator[Screen]:
    """The screen for where stdout goes."""
    if not is_colourful():
        yield Lines(total)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # only at a terminal

    columns = (BarColumn(30), MofNCompleteColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, transient=True) as progress:
        yield Bar(progress, progress.add_task("", total=total))


class Lines:
    """Every fourth look, and the last."""

    def __init__(self, total: int) -> None:
        self._total, self._looks = total, 0

    def show(self, done: int, text: str) -> None:
        """Print a line, now and then."""
        if self._looks % EVERY == 0 or done >= self._total:
            say(f"  {done:>6,} of {self._total:,} done  {text}")
        self._looks += 1

    def line(self, text: str) -> None:
        """Print it."""
        say(text)


class Bar:
    """One line that moves; what happens is printed above it."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def show(self, done: int, text: str) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=done, description=text)

    def line(self, text: str) -> None:
        """Print it above the bar."""
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)
