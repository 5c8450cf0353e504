"""The wire: whatever is sent arrives as it was, and whatever else arrives is refused."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbtasks.core import codec
from nbtasks.core import messages as m
from nbtasks.errors import ProtocolError, VersionMismatch

DECODERS = {
    m.ToBroker: codec.for_broker,
    m.ToClient: codec.for_client,
    m.ToWorker: codec.for_worker,
    m.ToPool: codec.for_pool,
}
KINDS = [(kind, DECODERS[union]) for union in DECODERS for kind in get_args(union)]
TEXTS = st.text(max_size=20)
NUMBERS = st.integers(min_value=0, max_value=2**40)
_SIMPLE: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXTS,
    int: NUMBERS,
    bool: st.booleans(),
    bytes: st.binary(max_size=50),
    float: st.floats(allow_nan=False, allow_infinity=False),
}


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a field's type."""
    if kind in _SIMPLE:
        return _SIMPLE[kind]
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        fields = msgspec.structs.fields(kind)
        return st.builds(kind, *(values_of(field.type) for field in fields))
    origin, arguments = getattr(kind, "__origin__", None), get_args(kind)
    if origin is dict:
        return st.dictionaries(values_of(arguments[0]), values_of(arguments[1]), max_size=3)
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(values_of(arguments[0]), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values_of, arguments))
    return st.one_of(*(st.none() if each is type(None) else values_of(each) for each in arguments))


def test_every_message_goes_somewhere() -> None:
    sent = {kind for kind, _ in KINDS}

    assert sent == set(m.Message.__subclasses__())


@given(st.data())
def test_a_message_arrives_as_it_was(data: st.DataObject) -> None:
    kind, decoder = data.draw(st.sampled_from(KINDS))
    message = data.draw(values_of(kind))

    assert decoder.decode(codec.encode("c-1", [message, message])) == ("c-1", [message, message])


@given(st.binary(max_size=300))
def test_garbage_is_refused(frame: bytes) -> None:
    for decoder in DECODERS.values():
        try:
            sender, messages = decoder.decode(frame)
        except (ProtocolError, VersionMismatch):
            continue
        assert sender  # an empty frame of ours is no garbage
        assert isinstance(messages, list)


@given(st.data())
def test_a_damaged_frame_is_refused_or_is_another_message(data: st.DataObject) -> None:
    frame = bytearray(codec.encode("c-1", [m.Cancel(1, ("r", "s")), m.Beat("boot")]))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))

    try:
        _, messages = codec.for_broker.decode(bytes(frame))
    except (ProtocolError, VersionMismatch):
        return
    assert all(isinstance(message, get_args(m.ToBroker)) for message in messages)


def test_text_that_is_no_utf_8_is_refused() -> None:
    frame = codec.encode("c-1", [m.Beat("boot")]).replace(b"c-1", b"c-\xff")

    with pytest.raises(ProtocolError):
        codec.for_broker.decode(frame)


@given(st.integers(min_value=0, max_value=40))
def test_a_frame_that_was_cut_is_refused(kept: int) -> None:
    frame = codec.encode("c-1", [m.Cancel(1, ("a run of some length", "and another"))])

    with pytest.raises(ProtocolError):
        codec.for_broker.decode(frame[:kept])


def test_another_version_is_told_from_garbage() -> None:
    other = msgspec.msgpack.encode((m.PROTOCOL + 1, "c-1", [["Unheard", 1]]))

    with pytest.raises(VersionMismatch, match=f"protocol {m.PROTOCOL + 1}"):
        codec.for_broker.decode(other)


def test_a_message_for_somebody_else_is_refused() -> None:
    with pytest.raises(ProtocolError):
        codec.for_client.decode(codec.encode("w-1", [m.Acked("r", 1)]))


@pytest.mark.parametrize("sender", ["", "x" * 65])
def test_a_sender_has_a_name_of_some_length(sender: str) -> None:
    with pytest.raises(ProtocolError):
        codec.for_broker.decode(codec.encode(sender, [m.Beat()]))


def test_too_many_messages_in_a_frame_are_refused() -> None:
    frame = codec.encode("c-1", [m.Beat()] * (codec.BATCH_MESSAGES_MAX + 1))

    with pytest.raises(ProtocolError):
        codec.for_broker.decode(frame)


def test_batches_hold_all_in_order_and_none_is_too_large() -> None:
    large = m.Printed("r", 1, 1, bytes(codec.BATCH_BYTES_MAX // 2))
    messages: list[m.Message] = [large, m.Beat(), large, large, *[m.Beat()] * codec.BATCH_MESSAGES_MAX]

    cut = codec.batches(messages)

    assert [message for batch in cut for message in batch] == messages
    assert all(sum(map(codec.payload_bytes, batch)) <= codec.BATCH_BYTES_MAX for batch in cut)
    assert all(len(batch) <= codec.BATCH_MESSAGES_MAX for batch in cut)


def test_a_message_larger_than_a_batch_goes_alone() -> None:
    huge = m.Printed("r", 1, 1, bytes(codec.BATCH_BYTES_MAX + 1))

    assert codec.batches([m.Beat(), huge, m.Beat()]) == [[m.Beat()], [huge], [m.Beat()]]


def test_every_message_with_a_payload_has_a_weight() -> None:
    def is_heavy(kind: type) -> bool:
        types = [str(field.type) for field in msgspec.structs.fields(kind)]
        return any("bytes" in name or "NewRun" in name for name in types)

    messages = [each for each in vars(m).values() if isinstance(each, type) and issubclass(each, m.Message)]
    heavy = [kind for kind in messages if is_heavy(kind)]

    assert m.Finished in heavy
    assert m.Submit in heavy
    assert set(heavy) <= set(codec._WEIGHTS)


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1])
def test_a_whole_number_that_the_journal_cannot_hold_is_refused(number: int) -> None:
    frame = msgspec.msgpack.encode((m.PROTOCOL, "c-1", [["SetLimit", 1, "gpu", 0, 0.0]]))
    assert codec.for_broker.decode(frame)

    with pytest.raises((ProtocolError, OverflowError)):
        codec.for_broker.decode(codec.encode("c-1", [m.SetLimit(1, "gpu", number)]))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_does_not_know_is_refused(number: float) -> None:
    with pytest.raises(ProtocolError):
        codec.for_broker.decode(codec.encode("c-1", [m.SetLimit(1, "gpu", 2, number)]))
