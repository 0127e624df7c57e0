"""Forebay: asynchronous work in services. Publish a message or a task and go on; others work it off at their pace, and nothing is lost.

The names below are imported when they are first asked for, so that the command line answers at once and an engine that is not used
costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from forebay.support.version import __version__ as __version__

if TYPE_CHECKING:
    from forebay.app import App
    from forebay.context import Context
    from forebay.declaring.options import QueueOptions
    from forebay.engine import Retention, Timing
    from forebay.features.flows.node import Node
    from forebay.flow_handle import FlowHandle
    from forebay.flows import Flow, Subflow, chain, chord, group
    from forebay.handle import Handle
    from forebay.middleware import Call, Middleware
    from forebay.model.dead_letter import DeadLetter
    from forebay.model.outcome import Cancel, Dead, Retry, Snooze
    from forebay.model.state import State
    from forebay.model.unique import Debounce, Unique
    from forebay.runtime.worker import Worker, WorkerOptions
    from forebay.tasks import BoundTask, Partial, Task

__all__ = [
    "App", "BoundTask", "Call", "Cancel", "Context", "Dead", "DeadLetter", "Debounce", "Flow", "FlowHandle", "Handle", "Middleware", "Node",
    "Partial", "QueueOptions", "Retention", "Retry", "Snooze", "State", "Subflow", "Task", "Timing", "Unique", "Worker", "WorkerOptions",
    "chain", "chord", "group",
]  # fmt: skip

_HOMES = {
    "App": "forebay.app", "QueueOptions": "forebay.declaring.options", "Context": "forebay.context", "Retention": "forebay.engine",
    "Timing": "forebay.engine", "Handle": "forebay.handle", "Call": "forebay.middleware", "Middleware": "forebay.middleware",
    "DeadLetter": "forebay.model.dead_letter", "Debounce": "forebay.model.unique", "Unique": "forebay.model.unique",
    "Cancel": "forebay.model.outcome", "Dead": "forebay.model.outcome", "Retry": "forebay.model.outcome",
    "Snooze": "forebay.model.outcome", "State": "forebay.model.state", "Worker": "forebay.runtime.worker",
    "WorkerOptions": "forebay.runtime.worker", "BoundTask": "forebay.tasks", "Partial": "forebay.tasks", "Task": "forebay.tasks",
    "Flow": "forebay.flows", "Subflow": "forebay.flows", "chain": "forebay.flows", "chord": "forebay.flows", "group": "forebay.flows",
    "FlowHandle": "forebay.flow_handle", "Node": "forebay.features.flows.node",
}  # fmt: skip


def __getattr__(name: str) -> object:
    """Import a public name from its room (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'forebay' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
