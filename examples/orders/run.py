"""The demo from beginning to end: start everything, let the customers in, kill a worker, wait until all is done, check the books."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sqlite3
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
from rich.console import Console

from examples.orders import books, shop
from examples.orders.drive import Plan
from examples.orders.processes import ChildDied, Crew, listener, port
from examples.orders.screen import Scene, screen
from forebay import App
from forebay.errors import ForebayError

if TYPE_CHECKING:
    from examples.orders.processes import Child

CONCURRENCY: Final = {
    "billing-1": 10,
    "billing-2": 10,
    "stock": 20,
    "analytics": 20,
    "receipts": shop.MAILS_IN_HAND,
    "packing": 20,
}
"""The workers. The two of billing together keep as many orders in hand as the payment provider has desks; the rest waits in the queue."""

DOOR, WORKERS, WORLD = 0, 1, 2
"""Who is stopped first, and who last."""

STARTS_WITHIN: Final = 40.0
STUCK_AFTER: Final = 30.0
OPERATOR_NOTICES_AFTER: Final = 2.0
BACKLOG_AT_KILL: Final = 50
LOOK_EVERY: Final = 0.25
ENDS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INTERRUPTED: Final = 130


class DemoFailed(Exception):
    """The demo cannot go on; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line asked for."""

    orders: int
    seconds: float
    seed: int
    keep: bool
    plain: bool


class Demo:
    """One run of it, in one folder."""

    def __init__(self, options: Options, folder: Path, console: Console) -> None:
        self.options, self.folder, self.console = options, folder, console
        self.url = books.store(folder)
        self.scene = Scene()
        self._screen = screen(console, plain=options.plain)
        self._sockets = {name: listener() for name in ("front", "payments", "mail")}
        self.front = f"http://127.0.0.1:{port(self._sockets['front'])}"
        self._crew = Crew(folder / "logs", self._environ())
        self._group = asyncio.TaskGroup()
        self._looked = asyncio.Event()
        self._operator: asyncio.Task[None] | None = None
        self._victim: str | None = None
        self._playing = False

    async def run(self) -> bool:
        """Returns whether the books are right. However it ends, every process has been stopped then."""
        failures: list[Exception] = []
        right = False
        try:
            async with self._crew:
                try:
                    async with self._group:
                        right = await self._trade()
                except asyncio.CancelledError:
                    self.scene.note(
                        "stopping: the front, the workers, the payment provider and the mail server"
                    )
                    self._screen.show(self.scene)
                    raise
                except ExceptionGroup as group:
                    failures += group.exceptions
        finally:
            self._screen.close()
        # When a process dies, those who talk to it fail as well: the death is the news.
        for failure in sorted(failures, key=lambda failure: not isinstance(failure, ChildDied)):
            raise failure
        return right

    async def _trade(self) -> bool:
        right = False
        async with App(self.url, name="screen") as app:
            watch = self._group.create_task(self._watch(app))
            await self._open()
            await self._let_customers_in()
            await self._drain()
            if self.options.keep:
                right = await self._check_books()
                await self._stay_open()
            await self._close()
            watch.cancel()
            await self._look(app)
        return right if self.options.keep else await self._check_books()

    # -- the course of it

    async def _open(self) -> None:
        self.scene.note("starting the front, six workers, the payments and the mail")
        for name in ("payments", "mail"):
            await self._start(name, f"examples.orders.world.{name}", floor=WORLD)
        await self._start("front", "examples.orders.front", floor=DOOR)
        for name in CONCURRENCY:
            await self._start_worker(name)
        # An event that nobody has subscribed to yet would be nobody's.
        await self._until(
            lambda: self.scene.gauges.subscribed, STARTS_WITHIN, "The workers have not subscribed"
        )
        async with httpx.AsyncClient(base_url=self.front, timeout=STARTS_WITHIN, trust_env=False) as http:
            (await http.get("/health")).raise_for_status()

    async def _let_customers_in(self) -> None:
        plan = Plan.of(self.options.orders, self.options.seconds)
        self.scene.phase = "steady"
        self.scene.note(f"the shop is open: {plan.steady / plan.seconds:.0f} orders a second")
        given = {
            "front": self.front,
            "accepted": self.folder / "accepted.jsonl",
            "orders": self.options.orders,
            "seconds": self.options.seconds,
            "seed": self.options.seed,
        }
        words = [f"--{name}={value}" for name, value in given.items()]
        customers = await self._crew.start(
            "customers", "examples.orders.drive", *words, floor=DOOR, speaks=True
        )
        assert customers.process.stdout is not None  # noqa: S101  for the type checker
        async for line in customers.process.stdout:
            self._hear(line.decode().split(), plan)
        customers.may_end = await customers.process.wait() == 0
        await self._crew.guard(customers)

    def _hear(self, words: list[str], plan: Plan) -> None:
        match words:
            case ["burst"]:
                self.scene.phase = "burst"
                self.scene.note(f"burst: {plan.burst:,} orders at once, on top of the stream", "bold blue")
            case ["peak"]:
                self._operator = self._group.create_task(self._kill_and_replace())
            case ["over"]:
                self.scene.phase = "catching up"
            case ["calm", quiet, crowded, again]:
                took = (
                    f"median {quiet} ms, in the burst {crowded} ms; {int(again):,} times 503, come back later"
                )
                self.scene.note(f"all {self.options.orders:,} orders are in: {took}")
            case _:
                raise DemoFailed(f"The customers said something strange: {' '.join(words)}")

    async def _kill_and_replace(self) -> None:
        """What an operating system does now and then, and what an operator does about it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(OPERATOR_NOTICES_AFTER):
                await self._until(
                    lambda: self.scene.gauges.backlog >= BACKLOG_AT_KILL, STUCK_AFTER, "There is no backlog"
                )
        child = self._crew.children["billing-1"]
        self._crew.kill(child)
        self._victim = child.name
        self.scene.note(
            f"SIGKILL to {child.name} (pid {child.pid}), in the middle of its work", "bold red", "✗"
        )
        await asyncio.sleep(OPERATOR_NOTICES_AFTER)
        await self._start_worker("billing-3")
        self.scene.note("the operator starts billing-3 in its place", "green", "+")

    async def _drain(self) -> None:
        self.scene.phase = "draining"
        if self._operator is not None:
            await self._operator
        await self._until(lambda: self.scene.gauges.idle, STUCK_AFTER, "Orders are left and nothing moves")
        self.scene.phase = "done"
        self.scene.note("every queue is empty", "bold green")

    async def _close(self) -> None:
        """The door first, then those who work, then those they work with."""
        for slow in await self._crew.stop():
            raise DemoFailed(
                f"{slow.name} did not stop when it was asked to. Its last words:\n{slow.last_lines()}"
            )

    async def _check_books(self) -> bool:
        self._screen.close()
        lines = await books.audit(self.folder)
        self.console.print()
        self.console.print(books.drawn(lines))
        right = all(line.holds for line in lines)
        self.console.print(
            "[bold green]The books are right.[/]" if right else "[bold red]The books are wrong.[/]"
        )
        return right

    async def _stay_open(self) -> None:
        self.console.print(self._how_to_play(), highlight=False, soft_wrap=True)
        self.scene.phase, self.scene.compact, self._playing = "open; Ctrl-C ends it", True, True
        self._screen = screen(self.console, plain=self.options.plain)
        enough = asyncio.Event()
        for number in ENDS:
            asyncio.get_running_loop().add_signal_handler(number, enough.set)
        await enough.wait()
        self.scene.phase = "closing"

    # -- the watch

    async def _watch(self, app: App) -> None:
        """Look and draw, four times a second."""
        while True:
            await self._look(app)
            await asyncio.sleep(LOOK_EVERY)

    async def _look(self, app: App) -> None:
        lost = self.scene.gauges.lost_leases
        self.scene.gauges.add(await app.count(), self.scene.elapsed)
        if back := self.scene.gauges.lost_leases - lost:
            had = f"what {self._victim or 'a worker'} had in hand is back in the queue"
            self.scene.note(f"{had} ({back} order{'s' if back > 1 else ''})", "bold green", "↩")
        # Until their owners have made them there are no tables.
        with contextlib.suppress(sqlite3.OperationalError):
            self.scene.payments, self.scene.mail = books.payments(self.folder), books.mail(self.folder)
        self._screen.show(self.scene)
        self._looked.set()

    async def _until(self, reached: Callable[[], bool], patience: float, complaint: str) -> None:
        """Wait; raise `DemoFailed` when nothing has come to an end anywhere for ``patience`` seconds."""
        finished, since = -1, 0.0
        while not reached():
            gauges = self.scene.gauges
            if gauges.finished != finished:
                finished, since = gauges.finished, self.scene.elapsed
            if gauges.dead:
                raise DemoFailed(
                    f"{gauges.dead} dead letters. See why: FOREBAY_URL={self.url} forebay dead list"
                )
            if self.scene.elapsed - since > patience:
                raise DemoFailed(f"{complaint} for {patience:.0f} s. The logs are in {self.folder / 'logs'}.")
            self._looked.clear()
            await self._looked.wait()

    # -- the processes

    async def _start(self, name: str, *module: str, floor: int) -> None:
        sock = self._sockets.pop(name, None)
        child = await self._crew.start(name, *module, floor=floor, listen=sock)
        if sock is not None:
            sock.close()
        self._group.create_task(self._tend(child))

    async def _start_worker(self, name: str) -> None:
        app = f"examples.orders.services.{name.partition('-')[0]}:app"
        concurrency = CONCURRENCY.get(name, CONCURRENCY["billing-1"])
        await self._start(name, "forebay", "worker", app, "--concurrency", str(concurrency), floor=WORKERS)

    async def _tend(self, child: Child) -> None:
        """Nobody may die unasked, except a worker at the hands of a person who plays with the open shop."""
        try:
            await self._crew.guard(child)
        except ChildDied:
            if not (self._playing and child.floor == WORKERS):
                raise
            self._victim = child.name
            self.scene.note(
                f"{child.name} (pid {child.pid}) is dead; the operator will start another one", "bold red"
            )
            await asyncio.sleep(OPERATOR_NOTICES_AFTER)
            await self._start_worker(child.name)
            self.scene.note(f"{child.name} is back", "green")

    def _environ(self) -> dict[str, str]:
        return {
            **os.environ,
            "FOREBAY_URL": self.url,
            "ORDERS_FOLDER": str(self.folder),
            "ORDERS_PAYMENTS_URL": f"http://127.0.0.1:{port(self._sockets['payments'])}",
            "ORDERS_MAIL_PORT": str(port(self._sockets["mail"])),
            "ORDERS_SEED": str(self.options.seed),
            "PYTHONUNBUFFERED": "1",
        }

    def _how_to_play(self) -> str:
        return f"""
[bold]The shop is open.[/] In another terminal, in this directory:

  export FOREBAY_URL={self.url}
  export SHOP={self.front} FILES={self.folder}

  # order something; the answer is what the books go by
  curl -sw '\\n' $SHOP/orders -d '{{"email": "me@mail.example", "sku": "lamp"}}' | tee -a $FILES/accepted.jsonl

  # look around
  .venv/bin/forebay queue list
  .venv/bin/forebay task list
  .venv/bin/forebay flow list
  .venv/bin/forebay schedule show stock-count
  .venv/bin/forebay dead list

  # another burst; kill a worker in the middle of it; the books afterwards
  .venv/bin/python -m examples.orders.drive --front $SHOP --accepted $FILES/accepted.jsonl &
  kill -9 {self._crew.children["billing-2"].pid}
  .venv/bin/python -m examples.orders.books $FILES
"""


def run(options: Options) -> int:
    """Run the demo; returns the exit code."""
    console = Console()
    folder = Path(tempfile.mkdtemp(prefix="forebay-orders-"))
    (folder / "logs").mkdir()
    keep = options.keep
    try:
        right = asyncio.run(_run(options, folder, console))
    except (ChildDied, DemoFailed, ForebayError, OSError, httpx.HTTPError) as failure:
        console.print("\n[bold red]The demo has failed.[/]", end=" ")
        console.print(str(failure), highlight=False, markup=False, soft_wrap=True)
        code, keep = 1, True
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("\nStopped. Every process of the demo has ended.")
        code = INTERRUPTED
    else:
        code, keep = (0 if right else 1), keep or not right
        if not options.keep:
            console.print(WHERE_NEXT, highlight=False, soft_wrap=True)
    if keep:
        console.print(
            f"The files are in {folder}; remove them with: rm -r {folder}", highlight=False, soft_wrap=True
        )
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return code


async def _run(options: Options, folder: Path, console: Console) -> bool:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  for the type checker
    for number in ENDS:
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await Demo(options, folder, console).run()


WHERE_NEXT: Final = """
[bold]Where to look next[/]
  examples/orders/services/billing.py   a whole service in a page
  examples/orders/README.md             what has just run, and how it is proved
  README.md                             the first ten minutes with Forebay
  make demo KEEP=1                      the same, and it stays open to play with
"""
