"""The results of a step's parents: read from the store in pages, and put in the place that the step's call has left for them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from forebay.errors import EngineError, MessageTooLarge, name_of, text_of, told
from forebay.model import outcome as o
from forebay.model.flow import Gather
from forebay.model.survey import LONGEST_SURVEY, Parent, Parents
from forebay.model.verdict import Failure, Reason
from forebay.model.when import SECOND, After
from forebay.support.logs import Log

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from forebay.engine import Delivery, Store
    from forebay.model.message import EntryId, Message

log = Log("forebay.flows")

LARGEST_GATHERED: Final = 16 << 20
"""Bytes of results that a step is given, all together."""
FIRST_PAGE: Final = 16
"""Parents that are asked for at first: each may have returned a mebibyte. As long as they are small, more are asked for at a time."""
PAUSE: Final = SECOND
"""How long a step is put off whose parents cannot be read."""
_INDEX: Final = re.compile(r"at `\$\.?\w*\[(\d+)\]")


async def pages(store: Store, step: EntryId) -> AsyncIterator[Sequence[Parent]]:
    """The parents of a step, in the order in which it names them, page by page: as large as what is in them allows."""
    about = Parents(of=step, limit=FIRST_PAGE)
    while page := await store.survey(about):
        yield page
        if len(page) < about.limit:
            return
        small = 4 * size_of(page) < LARGEST_GATHERED
        about = Parents(
            of=step, beyond=page[-1].id, limit=min(2 * about.limit, LONGEST_SURVEY) if small else about.limit
        )


async def parents_of(store: Store, step: EntryId, *, errors: bool = True) -> list[Parent]:
    """The parents of a step, in the order in which it names them, with their ``errors`` or without. Raises `MessageTooLarge` for more than
    can be gathered.
    """
    found: list[Parent] = []
    size = 0
    async for page in pages(store, step):
        found += page if errors else [replace(one, error=None) if one.error else one for one in page]
        size += size_of(page)
        if errors:
            size += sum(len(one.error.message) for one in page if one.error is not None)
        if size > LARGEST_GATHERED:
            raise MessageTooLarge(
                f"The results of the steps before {step} have more than {LARGEST_GATHERED >> 20} MiB together, at that of "
                f"{page[-1].name!r}: let steps in between gather some each, or return references to what is kept elsewhere."
            )
    return found


def size_of(page: Sequence[Parent]) -> int:
    """Bytes of results."""
    return sum(len(parent.result or b"") for parent in page)


async def gathered(
    store: Store,
    delivery: Delivery,
    gather: Gather,
    splice: Callable[[bytes, bytes], bytes],
    read: Callable[[Message], object],
) -> Delivery | o.Outcome:
    """The delivery of a step with the results of its parents among its arguments, or what becomes of it without a call.

    ``splice`` puts results into a body; ``read`` reads it, as the call will.
    """
    try:
        parents = await parents_of(store, delivery.id, errors=False)
    except MessageTooLarge as error:
        return o.Buried(Reason.TOO_LARGE, Failure("MessageTooLarge", str(error)), counts=False)
    except EngineError as error:
        log.warning("flow.waits", extra={"id": delivery.id, **told(error)})
        return o.Put(After(PAUSE))
    message = delivery.message
    try:
        message = replace(message, body=splice(message.body, _results(gather, parents)))
        read(message)
    except BaseException as error:  # noqa: BLE001  # the __post_init__ or validator of a user's type may raise anything
        return _misfit(error, gather, parents)
    return replace(delivery, message=message)


def _results(gather: Gather, parents: Sequence[Parent]) -> bytes:
    each = [parent.result or b"null" for parent in parents]
    return b"[%b]" % b",".join(each) if gather is Gather.ALL else next(iter(each), b"null")


def _misfit(error: BaseException, gather: Gather, parents: Sequence[Parent]) -> o.Buried:
    """A call that cannot be given the results of its parents: which of them, if the error says where it is."""
    text = text_of(error)
    at = _INDEX.search(text) if gather is Gather.ALL else None
    number = int(at[1]) if at is not None else 0
    guilty = parents[number].name if number < len(parents) and (at is not None or len(parents) == 1) else None
    whose = "of the steps before it" if guilty is None else f"of step {guilty!r}"
    return o.Buried(
        Reason.ARGUMENTS, Failure(name_of(error), f"it cannot take the result {whose}: {text}"), counts=False
    )
