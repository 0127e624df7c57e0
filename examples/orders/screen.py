"""What a person sees: a live picture on a terminal, plain lines elsewhere. Draws what it is given and decides nothing."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from examples.orders.gauges import SHOWN, Gauges, Reading

if TYPE_CHECKING:
    from rich.console import RenderableType

BLOCKS: Final = " ▁▂▃▄▅▆▇█"
SPAN: Final = 45.0
"""The picture begins this many seconds wide, and is squeezed when the demo takes longer."""
PLAIN_EVERY: Final = 2.0
LOWEST_TOP: Final = 50
"""What fills the picture at least, so that a handful of orders does not look like a flood."""
NARROWEST: Final = 80


@dataclass(frozen=True, slots=True)
class Note:
    """Something worth telling, at so many seconds, with the mark it leaves under the picture."""

    at: float
    text: str
    style: str = ""
    mark: str = ""


@dataclass(slots=True)
class Scene:
    """All there is to show."""

    gauges: Gauges = field(default_factory=Gauges)
    notes: list[Note] = field(default_factory=list)
    phase: str = "starting"
    compact: bool = False
    payments: dict[str, int] = field(default_factory=dict)
    mail: dict[str, int] = field(default_factory=dict)
    begun: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        """Seconds since the scene was made."""
        return time.monotonic() - self.begun

    def note(self, text: str, style: str = "", mark: str = "") -> None:
        """Something has just happened."""
        self.notes.append(Note(self.elapsed, text, style, mark))


class Screen(Protocol):
    """Where a scene is shown."""

    def show(self, scene: Scene) -> None:
        """Show the scene as it is now."""
        ...

    def close(self) -> None:
        """Leave what was shown last, and give the terminal back."""
        ...


class Lines:
    """Plain lines: each note once, and the queues every other second if there is anything new."""

    __slots__ = ("_console", "_last", "_said", "_told")

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told = 0
        self._last = 0.0
        self._said = ""

    def show(self, scene: Scene) -> None:
        """Print what is new."""
        for note in scene.notes[self._told :]:
            self._say(note.at, note.text)
        self._told = len(scene.notes)
        if not scene.gauges.subscribed or scene.elapsed - self._last < PLAIN_EVERY:
            return
        self._last = scene.elapsed
        text = _plain(scene.gauges.readings)
        if text != self._said:
            self._said = text
            self._say(scene.elapsed, text)

    def close(self) -> None:
        """Nothing is held."""

    def _say(self, at: float, text: str) -> None:
        self._console.print(f"{at:5.1f} s  {text}", highlight=False, markup=False, soft_wrap=True)


class Picture:
    """The live picture. It is drawn where the cursor stands, and its last state stays."""

    __slots__ = ("_console", "_live")

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, vertical_overflow="crop")
        self._live.start()

    def show(self, scene: Scene) -> None:
        """Draw the scene anew."""
        self._live.update(drawn(scene, self._console.width, self._console.height), refresh=True)

    def close(self) -> None:
        """Leave the last picture where it is."""
        self._live.stop()


def screen(console: Console, *, plain: bool) -> Screen:
    """The picture, if there is a terminal that can show it."""
    able = (
        console.file.isatty()
        and not console.is_dumb_terminal
        and console.encoding.startswith("utf")
        and console.width >= NARROWEST
    )
    return Picture(console) if able and not plain else Lines(console)


def drawn(scene: Scene, width: int, height: int) -> RenderableType:
    """The whole picture, for a terminal of this size."""
    width = min(width, 110)
    # One line is the cursor's; the queues, the world and what stands around them take twelve, the hill's legend and floor four.
    rows = 0 if scene.compact or height < 23 else min(7, (height - 17) // 2)
    room = min(8, height - (17 if rows else 13) - rows)
    parts: list[RenderableType] = [_head(scene, width), Text()]
    if rows:
        parts += [*_hill(scene, width, rows), Text()]
    parts += [_queues(scene.gauges), Text(), *_world(scene), Text()]
    parts += [_told(note, width) for note in scene.notes[-4 if scene.compact else -max(1, room) :]]
    return Group(*parts)


def hill(course: list[tuple[float, int]], *, span: float, width: int, rows: int) -> list[str]:
    """A course of values over ``span`` seconds as an area of ``width`` columns and ``rows`` lines, highest line first.

    >>> hill([(0.0, 0), (1.0, 40), (2.0, 80)], span=3.0, width=3, rows=1)
    [' ▄█']
    """
    columns = [0.0] * width
    for at, value in course:
        column = min(width - 1, int(at / span * width))
        columns[column] = max(columns[column], value)
    columns = _filled(columns, course, span)
    top = max(*columns, LOWEST_TOP)
    eighths = [round(value / top * rows * 8) if value else 0 for value in columns]
    return ["".join(BLOCKS[max(0, min(8, n - row * 8))] for n in eighths) for row in reversed(range(rows))]


def _filled(columns: list[float], course: list[tuple[float, int]], span: float) -> list[float]:
    """Columns between two samples have the value of the earlier one."""
    if not course:
        return columns
    seen = {min(len(columns) - 1, int(at / span * len(columns))) for at, _ in course}
    filled, value = [], 0.0
    for number, column in enumerate(columns):
        value = column if number in seen else value
        filled.append(value if number <= max(seen) else 0.0)
    return filled


def _head(scene: Scene, width: int) -> Table:
    head = Table.grid(expand=False)
    head.add_column(width=width - 33)
    head.add_column(width=32, justify="right")
    title = Text.assemble(("Forebay", "bold cyan"), "  an order service on SQLite")
    head.add_row(title, Text.assemble((scene.phase, "bold"), f"  {scene.elapsed:5.1f} s"))
    return head


def _hill(scene: Scene, width: int, rows: int) -> list[Text]:
    gauges = scene.gauges
    width -= 2
    span = max(SPAN, scene.elapsed)
    lines = hill(gauges.course, span=span, width=width, rows=rows)
    floor = ["─"] * width
    for note in scene.notes:
        if note.mark:
            floor[min(width - 1, int(note.at / span * width))] = note.mark
    legend = Text.assemble(
        ("orders waiting for billing", "bold"),
        f", most {gauges.peak:,}   ✗ killed  + replaced  ↩ work is back",
    )
    return [legend, *(Text(line, style="blue") for line in lines), Text("".join(floor), style="dim")]


def _queues(gauges: Gauges) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("service", width=10)
    table.add_column("reads", width=13)
    for title, size in (
        ("in/s", 6),
        ("out/s", 6),
        ("waiting", 8),
        ("oldest", 7),
        ("in hand", 7),
        ("retrying", 8),
        ("dead", 5),
    ):
        table.add_column(title, justify="right", width=size)
    for group in SHOWN:
        reading = gauges.readings.get(group)
        if reading is None:
            table.add_row(group, Text("not there yet", style="dim"))
        else:
            table.add_row(group, reading.topic, *_cells(reading))
    return table


def _cells(reading: Reading) -> list[Text]:
    return [
        _number(reading.rate_in),
        _number(reading.rate_out, "green"),
        _number(reading.waiting, "bold blue"),
        Text("-", style="dim") if reading.oldest is None else Text(f"{reading.oldest:.1f} s"),
        _number(reading.in_hand),
        _number(reading.to_retry, "yellow"),
        _number(reading.dead, "bold red"),
    ]


def _number(value: float, style: str = "") -> Text:
    return Text("-", style="dim") if round(value) == 0 else Text(f"{value:,.0f}", style=style)


def _world(scene: Scene) -> list[Text]:
    paid, mail = scene.payments, scene.mail
    return [
        Text.assemble(
            ("payments  ", "dim"),
            f"{paid.get('charged', 0):,} charged, {paid.get('failed', 0):,} answered 500, {paid.get('stalled', 0):,} stalled, ",
            f"{paid.get('repeated', 0):,} repeats recognised",
        ),
        Text.assemble(
            ("mail      ", "dim"),
            f"{mail.get('accepted', 0):,} accepted, {mail.get('later', 0):,} told to come back later",
        ),
    ]


def _told(note: Note, width: int) -> Text:
    line = Text.assemble((f"{note.at:5.1f} s  ", "dim"), (note.text, note.style))
    line.truncate(width, overflow="ellipsis")
    return line


def _plain(readings: dict[str, Reading]) -> str:
    begin = f"{readings['billing'].rate_in:3.0f}/s come in"
    return " | ".join([begin, *(_short(readings[group]) for group in SHOWN if group in readings)])


def _short(reading: Reading) -> str:
    parts = [f"{reading.group} {reading.rate_out:.0f}/s"]
    if reading.waiting:
        parts.append(
            f"{reading.waiting:,} wait" + ("" if reading.oldest is None else f" ({reading.oldest:.1f} s)")
        )
    if reading.to_retry:
        parts.append(f"{reading.to_retry} to retry")
    if reading.dead:
        parts.append(f"{reading.dead} dead")
    return ", ".join(parts)
