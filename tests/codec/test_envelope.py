"""The stored envelope is frozen: what an older Forebay wrote is read for ever, byte for byte what this one writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from forebay.codec.envelope import VERSION, pack, unpack
from forebay.model.message import Message, MessageId
from forebay.model.state import WAITING
from forebay.model.unique import Conflict, Hold
from forebay.model.when import After, At

GOLDEN = Path(__file__).parent / "golden"

WRITTEN = {
    "task": Message(
        id=MessageId("01970000-0000-7000-8000-000000000001"),
        name="send_receipt",
        queue="mail",
        body=b'{"order_id":7,"email":"a@example.org"}',
        headers={"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
        key="7",
        priority=9,
        due=At(1_893_456_000_000_000),
        expires=After(3_600_000_000),
        deadline=At(1_893_459_600_000_000),
        unique="receipt-7",
        max_attempts=8,
        timeout=30_000_000,
    ),
    "event": Message(
        id=MessageId("01970000-0000-7000-8000-000000000002"),
        name="orders.placed",
        topic="orders.placed",
        body=b'{"id":7,"lines":[{"sku":"a","count":2}],"note":"\xc3\xa9"}',
        key="7",
    ),
    "raw": Message(
        id=MessageId("01970000-0000-7000-8000-000000000003"),
        name="blobs.made",
        topic="blobs.made",
        body=b"\x00\x01\xfe\xff",
        content_type="application/octet-stream",
    ),
    "headers": Message(
        id=MessageId("01970000-0000-7000-8000-000000000004"),
        name="orders.placed",
        topic="orders.placed",
        body=b"null",
        headers={"x-unknown": "kept", "ce-subject": "too", "v": "2", "id": "not ours"},
    ),
    "empty": Message(id=MessageId("01970000-0000-7000-8000-000000000005"), name="ping", queue="default"),
}


def golden(name: str) -> bytes:
    return (GOLDEN / f"{name}.json").read_bytes().rstrip(b"\n")


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_written_is_the_golden_file_to_the_byte(name: str) -> None:
    assert pack(WRITTEN[name]) == golden(name)


@pytest.mark.parametrize("name", WRITTEN)
def test_the_golden_file_is_read_as_the_message_it_was(name: str) -> None:
    assert unpack(golden(name)) == WRITTEN[name]


def test_how_a_key_is_held_is_in_it_too() -> None:
    hold = Hold(states=WAITING, window=7, conflict=Conflict.REPLACE, longest=9)
    message = msgspec.structs.replace(WRITTEN["task"], hold=hold)

    assert unpack(pack(message)) == message


def test_every_golden_file_has_its_message() -> None:
    assert {path.stem for path in GOLDEN.glob("*.json")} == {*WRITTEN, "unknown_fields", "version_2"}


def test_fields_this_version_does_not_know_are_ignored_and_headers_are_kept() -> None:
    message = unpack(golden("unknown_fields"))

    assert (message.name, message.body, message.headers) == (
        "orders.placed",
        b'{"id": 7}',
        {"x-later": "kept"},
    )


def test_another_version_is_refused_with_a_sentence_whatever_else_has_changed() -> None:
    with pytest.raises(
        ValueError, match=r"^envelope version 2 is not 1: a newer Forebay wrote it; upgrade this process$"
    ):
        unpack(golden("version_2"))


def test_the_version_is_first_and_said() -> None:
    assert VERSION == 1
    assert all(golden(name).startswith(b'{"v":1,"id":') for name in WRITTEN)


@pytest.mark.parametrize(
    "envelope",
    [
        b"", b"{", b"null", b"[]", b'"v"', b"{}", b'{"v":1}', b'{"v":"1"}', b'{"v":1,"id":"x"}', b'{"v":1,"id":7,"name":"x"}',
        b'{"v":1,"id":"x","name":"x","data_base64":"?"}', b'{"v":1,"id":"x","name":"x","headers":{"a":1}}',
        b'{"v":1,"id":"x","name":"x","due":{"type":"never"}}', b'\xff{"v":1}', b'{"v":1,"id":"x","name":"x","data":}',
    ],
)  # fmt: skip
def test_what_is_no_envelope_is_refused(envelope: bytes) -> None:
    with pytest.raises((msgspec.MsgspecError, ValueError)):
        unpack(envelope)


def test_a_json_body_stands_in_it_as_json_for_whoever_looks() -> None:
    shown: dict[str, Any] = json.loads(golden("event"))

    assert shown["data"] == {"id": 7, "lines": [{"sku": "a", "count": 2}], "note": "é"}
    assert "data_base64" not in shown
    assert "data" not in json.loads(golden("raw"))


WHEN = st.one_of(st.none(), st.builds(At, st.integers(0, 2**52)), st.builds(After, st.integers(0, 2**52)))
TEXT = st.one_of(st.none(), st.text(min_size=1))
SOME_JSON = st.recursive(
    st.one_of(st.none(), st.integers(-9, 9), st.text()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
BODIES = st.one_of(
    SOME_JSON.map(lambda value: (json.dumps(value).encode(), "application/json")),
    SOME_JSON.map(
        lambda value: (json.dumps(value, indent=1, ensure_ascii=False).encode(), "application/json")
    ),
    st.binary().map(lambda body: (body, "application/octet-stream")),
)
NUMBER = st.one_of(st.none(), st.integers(1, 99))
FIELDS = st.fixed_dictionaries(
    {"id": st.text(min_size=1), "name": st.text(min_size=1)},
    optional={
        "headers": st.dictionaries(st.text(), st.text()),
        "queue": TEXT,
        "topic": TEXT,
        "key": TEXT,
        "unique": TEXT,
        "priority": st.integers(0, 9),
        "due": WHEN,
        "expires": WHEN,
        "deadline": WHEN,
        "max_attempts": NUMBER,
        "timeout": NUMBER,
    },
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(BODIES, FIELDS)
def test_any_message_comes_back_as_it_was(body: tuple[bytes, str], fields: dict[str, Any]) -> None:
    message = Message(body=body[0], content_type=body[1], **fields)

    assert unpack(pack(message)) == message
