"""A whole message as JSON: how the outbox keeps what it will publish, and how ``--json`` shows it. Versioned; frozen by golden files.

A JSON body stands as JSON under ``data``, any other as base64 under ``data_base64`` (the names CloudEvents' JSON format uses). Fields this
version does not know are ignored, headers are kept whatever their names.
"""

from __future__ import annotations

import base64
from typing import Final

import msgspec

from forebay.model.flow import Step
from forebay.model.message import DEFAULT_PRIORITY, JSON, Message, MessageId
from forebay.model.unique import Hold
from forebay.model.when import Micros, When

VERSION: Final = 1


class _Envelope(msgspec.Struct, kw_only=True, omit_defaults=True):
    v: int
    id: str
    name: str
    queue: str | None = None
    topic: str | None = None
    content_type: str = JSON
    headers: dict[str, str] = {}
    key: str | None = None
    priority: int = DEFAULT_PRIORITY
    due: When | None = None
    expires: When | None = None
    deadline: When | None = None
    unique: str | None = None
    max_attempts: int | None = None
    timeout: Micros | None = None
    step: Step | None = None
    hold: Hold | None = None
    data: msgspec.Raw = msgspec.Raw(b"")
    data_base64: str = ""


class _Version(msgspec.Struct):
    v: int


_VERSION: Final = msgspec.json.Decoder(_Version)
_SAME: Final = [field for field in Message.__struct_fields__ if field not in ("id", "body")]
_DECODER: Final = msgspec.json.Decoder(_Envelope)


def pack(message: Message) -> bytes:
    """The envelope of a message."""
    fields = {name: getattr(message, name) for name in _SAME}
    if message.content_type == JSON and message.body:
        fields["data"] = msgspec.Raw(message.body)
    elif message.body:
        fields["data_base64"] = base64.b64encode(message.body).decode()
    return msgspec.json.encode(_Envelope(v=VERSION, id=message.id, **fields))


def unpack(envelope: bytes) -> Message:
    """The message of an envelope. Raises `msgspec.MsgspecError` if it is not one, ValueError for a version that is not ours."""
    version = _VERSION.decode(envelope).v  # first: nothing else is known of another version
    if version != VERSION:
        raise ValueError(
            f"envelope version {version} is not {VERSION}: a newer Forebay wrote it; upgrade this process"
        )
    read = _DECODER.decode(envelope)
    body = base64.b64decode(read.data_base64, validate=True) if read.data_base64 else bytes(read.data)
    return Message(id=MessageId(read.id), body=body, **{name: getattr(read, name) for name in _SAME})
