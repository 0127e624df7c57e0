"""Every error Forebay raises, in one tree. Nothing here does anything but describe.

Each class has a ``code``, a short word that stays when sentences are improved: programs and searches go by it. The command line shows it
behind the sentence, logs carry it as a field, and docs/errors.md says of each what to do.

ForebayError
├── ConfigError                a name, option, URL or setting is wrong: fix the code or the configuration
│   ├── InvalidName
│   ├── InvalidOption
│   ├── NameTaken
│   ├── IncludeFailed
│   ├── MissingExtra
│   └── Unsupported
├── SendError                  nothing was stored (QueueFull, DuplicateTask: of what it names)
│   ├── InvalidArguments
│   ├── NotSerialisable
│   ├── MessageTooLarge
│   ├── QueueFull
│   ├── DuplicateTask
│   └── Unrouted
├── EngineError                the wall between us and a server or a file
│   ├── EngineRefused
│   ├── EngineUnavailable
│   │   └── StorageFull
│   └── OutcomeUnknown
├── StepError                  a durable step cannot go on: the message is a dead letter, and may be retried
│   ├── StepChanged
│   └── StepRefused
├── ScheduleError              what was asked of a schedule was not done
│   ├── ScheduleNotFound
│   └── ScheduleBusy
├── NotOpen
├── InUse
├── TaskError                  how a task ended, raised to whoever waits for its result
│   ├── TaskDead
│   ├── TaskCancelled
│   ├── TaskExpired
│   ├── TaskNotFound
│   └── ResultTimeout
└── FlowError                  how a flow ended, raised to whoever waits for its result
    ├── FlowFailed
    ├── FlowCancelled
    └── FlowNotFound
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LONGEST_QUOTED: Final = 60
_HUMP: Final = re.compile(r"(?<!^)(?=[A-Z])")


def quoted(value: object) -> str:
    """A value as an error says it: at most 60 characters, whatever it is, and never an error itself.

    >>> quoted("x" * 99)
    "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx..."
    """
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  # an integer of too many digits, or a type of the user's that raises
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _LONGEST_QUOTED else f"{text[: _LONGEST_QUOTED - 3]}..."


class ForebayError(Exception):
    """The root: ``except ForebayError`` catches everything this library raises on purpose."""

    code: ClassVar[str] = "forebay-error"
    """A short word for this kind of error. A class that says none has its name's: ``QueueFull`` is ``queue-full``."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "code" not in vars(cls):
            cls.code = _HUMP.sub("-", cls.__name__).lower()


def told(error: BaseException) -> dict[str, str]:
    """An error as a log tells it: ``error``, and ``code`` if it is one of ours.

    >>> told(ForebayError("no luck"))
    {'error': 'no luck', 'code': 'forebay-error'}
    """
    text = text_of(error)
    return {"error": text, "code": error.code} if isinstance(error, ForebayError) else {"error": text}


def name_of(value: object) -> str:
    """The name of a value's class as the interpreter has it: a user's metaclass may refuse to tell it."""
    name: str = type.__dict__["__name__"].__get__(type(value))
    return name


def text_of(error: BaseException) -> str:
    """What an error says, or why that cannot be shown: a user's class may do anything while it is shown.

    >>> text_of(ValueError("no luck"))
    'no luck'
    """
    return shown(lambda: str(error))


def shown(text: Callable[[], str]) -> str:
    """A text that user code has a hand in, or why there is none."""
    try:
        return str.__str__(text())
    except BaseException as broken:  # noqa: BLE001  # whatever it raises, it decides nothing
        return f"(its message cannot be shown: {name_of(broken)})"


class ConfigError(ForebayError):
    """A declaration, URL or setting is wrong. Raised at import or at start, never in mid-flight."""


class InvalidName(ConfigError, ValueError):
    """A queue, topic, task or group name does not fit the grammar."""


class InvalidOption(ConfigError, ValueError):
    """An option is unknown or its value is out of range."""


class NameTaken(ConfigError):
    """Two handlers claim one name, or two subscriptions one queue."""


class IncludeFailed(ConfigError):
    """A module that an App includes cannot be imported; what it raised is the cause. ``module`` is its name."""

    def __init__(self, message: str, *, module: str) -> None:
        super().__init__(message)
        self.module = module


class MissingExtra(ConfigError):
    """The engine or integration asked for is not installed."""


class Unsupported(ConfigError):
    """The engine cannot do what was asked of it; the message names what to use instead."""


class SendError(ForebayError):
    """A send was refused before anything was stored."""


class InvalidArguments(SendError, TypeError):
    """The arguments do not fit the task's signature."""


class NotSerialisable(SendError, TypeError):
    """An argument cannot be written as JSON."""


class MessageTooLarge(SendError, ValueError):
    """The encoded message is over the engine's or the App's limit."""


class QueueFull(SendError):
    """The queue's limit for outside senders is reached.

    ``retry_after`` is a hint in seconds: when room is likely again. ``queue`` and ``limit`` say which. ``handles``, after a
    ``send_many``, has one for each call, in order: None where that was refused, so that nobody has to guess what to send again.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after: float,
        queue: str = "",
        limit: int | None = None,
        handles: Sequence[Any] = (),
    ) -> None:
        super().__init__(message)
        self.retry_after, self.queue, self.limit = retry_after, queue, limit
        self.handles = tuple(handles)

    @property
    def stored(self) -> int:
        """How many of a ``send_many`` were stored (or had been before)."""
        return sum(handle is not None for handle in self.handles)


class DuplicateTask(SendError):
    """Another task has the unique key, and this one asked to be rejected then (``on_conflict="reject"``).

    ``task_id`` is the one that has it. ``handles``, after a ``send_many``, has one for each call, in order: None where that was rejected.
    """

    def __init__(self, message: str, *, task_id: str, handles: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.task_id, self.handles = task_id, tuple(handles)


class Unrouted(SendError):
    """The engine has no queue for the task, and cannot make one. Nothing was stored."""


class EngineError(ForebayError):
    """An engine call did not succeed."""


class EngineRefused(EngineError):
    """The engine or its file is not one we may work on (foreign file, newer schema, network file system)."""


class EngineUnavailable(EngineError):
    """The call certainly changed nothing; it may be repeated as it is."""


class StorageFull(EngineUnavailable):
    """The disk (or the size limit of the file) is full. Nothing was lost; make room and the work goes on."""


class OutcomeUnknown(EngineError):
    """The connection broke after the write was sent: it may or may not have happened.

    Repeating the call with the same ids and token gives the same answer and no second effect.
    """


class StepError(ForebayError):
    """A handler's durable steps cannot go on, whatever the handler does next. What was saved of them is kept."""


class StepChanged(StepError):
    """The handler's code asks for other steps than those that tries before it have saved."""


class StepRefused(StepError):
    """A step's result cannot be saved: it is too large, one too many, or would not be read back as it is."""


class ScheduleError(ForebayError):
    """What was asked of a schedule was not done."""


class ScheduleNotFound(ScheduleError, LookupError):
    """There is no schedule of that name."""


class ScheduleBusy(ScheduleError):
    """A schedule that does not overlap is not run: its last message is not over."""


class NotOpen(ForebayError, RuntimeError):
    """The App (or the engine) is used outside ``async with app:``."""


class InUse(ForebayError, RuntimeError):
    """The App is open, or on a stage already, and cannot be put on one: `App.testing` goes around everything else."""


class TaskError(ForebayError):
    """The task did not end with a result. ``task_id`` says which, ``story`` how, try by try."""

    def __init__(self, message: str, *, task_id: str, story: str = "") -> None:
        super().__init__(f"{message}\n{story}" if story else message)
        self.task_id = task_id
        self.story = story


class TaskDead(TaskError):
    """The task is a dead letter: kept, but not tried again until somebody says so."""


class TaskCancelled(TaskError):
    """The task was cancelled."""


class TaskExpired(TaskError):
    """The task was not started before its expiry."""


class TaskNotFound(TaskError, LookupError):
    """The store knows no task of that id (never sent, or its history was pruned)."""


class ResultTimeout(TaskError, TimeoutError):
    """The task has not ended within the time the caller was ready to wait."""


class FlowError(ForebayError):
    """The flow did not end with a result. ``flow_id`` says which; ``steps``: those that failed for their own sake (a hundred at most), the
    first that ended first; ``error``: the first of their errors, if one has one.
    """

    def __init__(self, message: str, *, flow_id: str, steps: Sequence[Any] = (), error: Any = None) -> None:
        super().__init__(message)
        self.flow_id, self.steps, self.error = flow_id, tuple(steps), error


class FlowFailed(FlowError):
    """A step of the flow has failed for its own sake; the flow can go on from there: ``handle.retry()``."""


class FlowCancelled(FlowError):
    """The flow, or a step of it, was cancelled."""


class FlowNotFound(FlowError, LookupError):
    """The store knows no flow of that id (never sent, or its history was pruned)."""
