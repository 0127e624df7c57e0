"""Work inside one process: channels, select, groups and what goes with them, for asyncio.

This room imports nothing of the rest of Forebay and is useful alone. docs/from-go.md sets each Go idiom beside its counterpart.
"""

from forebay.local.background import Background, BackgroundTask
from forebay.local.cases import Ended, Received, Sent
from forebay.local.channel import Channel, ReceiveOnly, SendOnly, Statistics, ThreadEnd
from forebay.local.errors import (
    Cancelled,
    ClosedError,
    DeadlineExceeded,
    DeadlockError,
    LeakError,
    LocalError,
    MisuseError,
    QueueFull,
    WouldBlock,
    WrongLoop,
)
from forebay.local.group import Group
from forebay.local.leaks import no_deadlock, no_leaks, report, waits
from forebay.local.select import Default, Selected, TimedOut, select
from forebay.local.supervise import Crash, GaveUp, Restart, Supervisor, recover
from forebay.local.sync import Once, Semaphore, Shared, Singleflight, WaitGroup
from forebay.local.ticker import ticker
from forebay.local.token import Token

__all__ = [
    "Background",
    "BackgroundTask",
    "Cancelled",
    "Channel",
    "ClosedError",
    "Crash",
    "DeadlineExceeded",
    "DeadlockError",
    "Default",
    "Ended",
    "GaveUp",
    "Group",
    "LeakError",
    "LocalError",
    "MisuseError",
    "Once",
    "QueueFull",
    "ReceiveOnly",
    "Received",
    "Restart",
    "Selected",
    "Semaphore",
    "SendOnly",
    "Sent",
    "Shared",
    "Singleflight",
    "Statistics",
    "Supervisor",
    "ThreadEnd",
    "TimedOut",
    "Token",
    "WaitGroup",
    "WouldBlock",
    "WrongLoop",
    "no_deadlock",
    "no_leaks",
    "recover",
    "report",
    "select",
    "ticker",
    "waits",
]
