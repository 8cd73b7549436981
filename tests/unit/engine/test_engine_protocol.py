"""Messages between daemon and worker survive the way, and nothing else is believed."""

from __future__ import annotations

import pytest

from hali._native import frames
from hali.engine import protocol
from hali.engine.options import EngineStats
from hali.model.errors import EngineCrashed, HaliError, ProtocolError, UsageError
from hali.model.generation import (
    Chunk,
    Detokenize,
    Done,
    GenerateRequest,
    Message,
    ReplyFormat,
    SamplingParams,
    Text,
    Tool,
    Usage,
)

S = bytes(range(16))


def one(data: bytes | bytearray) -> protocol.Frame:
    (frame,) = protocol.FrameReader().feed(bytes(data))
    return frame


def test_a_request_comes_through_whole() -> None:
    sampling = SamplingParams(temperature=0, stop=("a", "b"), logit_bias={5: -1.5})
    request = GenerateRequest(messages=(Message("user", "héllo 🦙"), Message("tool", "x", "n")), sampling=sampling)
    frame = one(protocol.pack_request(S, request))
    assert (frame.kind, frame.session) == (frames.FORWARD, S)
    assert protocol.unpack_request(frame) == request


def test_events_come_through_and_the_last_one_says_so() -> None:
    for event in (Chunk("text", 2), Done("length", Usage(1, 2, None, 0.5))):
        frame = one(protocol.pack_event(S, 7, event))
        assert protocol.unpack_event(frame) == event
        assert frame.step == 7
        assert bool(frame.flags & frames.FLAG_FINAL) == isinstance(event, Done)


@pytest.mark.parametrize(
    "error",
    [
        UsageError("too long", code="context_length", details={"n_ctx": 4096}, hint="shorten it"),
        EngineCrashed("gone", details={"signal": "SIGKILL"}),
    ],
)
def test_an_error_keeps_its_class_its_code_and_its_details(error: HaliError) -> None:
    back = protocol.unpack_error(one(protocol.pack_error(S, error)))
    assert type(back) is type(error)
    assert back.to_wire() == error.to_wire()


def test_what_the_worker_says_about_itself_comes_through() -> None:
    for ack in (protocol.Progress(0.5), protocol.Report(EngineStats(kv_used=3))):
        assert protocol.unpack_ack(one(protocol.pack_ack(ack))) == ack


def test_frames_are_found_however_the_stream_is_cut() -> None:
    stream = b"".join(bytes(protocol.pack_event(S, i, Chunk("x" * i, 1))) for i in range(20))
    for size in (1, 7, 64, 1000):
        reader = protocol.FrameReader()
        found = [frame for at in range(0, len(stream), size) for frame in reader.feed(stream[at : at + size])]
        assert [frame.step for frame in found] == list(range(20))


def test_bytes_that_are_no_frame_end_the_conversation() -> None:
    with pytest.raises(ProtocolError):
        protocol.FrameReader().feed(b"GET / HTTP/1.1\r\n")


def test_a_frame_that_promises_too_much_is_refused_before_it_is_there() -> None:
    frame = protocol.pack_event(S, 0, Chunk("x" * 5000, 1))
    with pytest.raises(ProtocolError):
        protocol.FrameReader(max_message=1000).feed(bytes(frame[:64]))


def test_a_frame_with_the_wrong_content_is_a_protocol_error() -> None:
    frame = one(frames.encode(frames.FORWARD, session=S, payload=b"\x93\x01"))
    with pytest.raises(ProtocolError):
        protocol.unpack_request(frame)


def test_a_request_larger_than_a_message_may_be_is_not_sent() -> None:
    with pytest.raises(UsageError) as caught:
        protocol.pack_request(S, GenerateRequest(prompt="x" * (protocol.MAX_MESSAGE + 1)))
    assert caught.value.code == "too_large"


@pytest.mark.parametrize("number", [1 << 64, -(1 << 63) - 1])
def test_a_number_too_long_for_a_message_is_refused_by_where_it_stands(number: int) -> None:
    schema = {"type": "integer", "maximum": number}
    for where, request in {
        "tools": GenerateRequest(tools=(Tool("f", parameters=schema),)),
        "template_kwargs": GenerateRequest(template_kwargs={"a": [number]}),
        "format": GenerateRequest(format=ReplyFormat(schema=schema)),
        "sampling": GenerateRequest(sampling=SamplingParams(seed=number)),
        "tokens": Detokenize((1, number)),
    }.items():
        with pytest.raises(UsageError, match=f"{where}: .*64 bits") as caught:
            protocol.pack_request(S, request)
        assert caught.value.code == "request"


def test_an_answer_larger_than_an_answer_may_be_is_not_sent() -> None:
    with pytest.raises(UsageError) as caught:
        protocol.pack_answer(S, Text("x" * (protocol.MAX_ANSWER + 1)))
    assert caught.value.code == "too_large"


def test_a_request_that_is_nested_too_deeply_is_refused() -> None:
    schema: dict[str, object] = {}
    for _ in range(2000):
        schema = {"properties": {"a": schema}}
    with pytest.raises(UsageError, match="nested too deeply"):
        protocol.pack_request(S, GenerateRequest(prompt="x", tools=(Tool("f", parameters=schema),)))
