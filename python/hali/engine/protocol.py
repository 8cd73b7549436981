"""The words between daemon and worker: MessagePack inside HLF1 frames on a Unix socket pair.

forward (a request or a query), cancel and release go to the worker; token, result and error come back, ack goes both ways. Each
message is the frame's `RAW` payload, so a long prompt needs no limit of its own but `MAX_MESSAGE`, and what comes back none but
`MAX_ANSWER`. Session zero means the process itself.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from hali._native import frames
from hali.engine.options import EngineStats
from hali.model.errors import HaliError, ProtocolError, UsageError, from_wire
from hali.model.generation import (
    Answer,
    Detokenize,
    Done,
    Embed,
    EngineInfo,
    GenerateRequest,
    GenerationEvent,
    Query,
    Render,
    Rerank,
    Tokenize,
)

PROCESS = bytes(16)
MAX_MESSAGE = 16 * 1024 * 1024  # a prompt of 4 M tokens; beyond any context, small against the model in memory
MAX_ANSWER = 80 * 1024 * 1024  # 2,048 vectors of 8,192 numbers are 64 MiB: the most inputs, and wider than models are

Frame = frames.Frame
FrameError = frames.FrameError


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """`fraction` of the model's tensors are loaded."""

    fraction: float


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The model is loaded; `confinement` says what the worker could give up (network, privileges, …)."""

    info: EngineInfo
    confinement: dict[str, str]
    load_s: float
    backend: str


class Report(msgspec.Struct, frozen=True, tag="report"):
    """Counters, sent whenever the set of sessions changed."""

    stats: EngineStats


class Alive(msgspec.Struct, frozen=True, tag="alive"):
    """Asked by the daemon, and the answer: the process runs, whatever its main thread computes."""


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """End the process: after the running sessions (`drain`), or at once, cancelling them."""

    drain: bool = False


Ack = Progress | Ready | Report | Alive
Order = GenerateRequest | Tokenize | Detokenize | Render | Embed | Rerank

_encoder = msgspec.msgpack.Encoder()
_order: msgspec.msgpack.Decoder[Order] = msgspec.msgpack.Decoder(Order)
_event: msgspec.msgpack.Decoder[GenerationEvent] = msgspec.msgpack.Decoder(GenerationEvent)
_answer: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)
_ack: msgspec.msgpack.Decoder[Ack] = msgspec.msgpack.Decoder(Ack)
_stop = msgspec.msgpack.Decoder(Stop)
_wire_error = msgspec.msgpack.Decoder(dict[str, object])
T = TypeVar("T")


def _pack(
    kind: int, session: bytes, message: object, *, step: int = 0, flags: int = 0, most: int = MAX_ANSWER
) -> bytearray:
    payload = _encoder.encode(message)
    if len(payload) > most:
        what = "a request" if kind == frames.FORWARD else "an answer"
        raise UsageError(f"{what} of {len(payload)} bytes, at most {most}", hint="ask for less", code="too_large")
    return frames.encode(kind, session=session, step=step, flags=flags, dtype=frames.RAW, payload=payload)


def _unpack(frame: Frame, decoder: msgspec.msgpack.Decoder[T]) -> T:
    try:
        return decoder.decode(frame.payload)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"engine message of kind {frames.KIND_NAMES[frame.kind]} cannot be read: {error}") from None


def pack_request(session: bytes, request: GenerateRequest | Query) -> bytearray:
    """A request or a query that opens `session`; UsageError if it is larger than a message may be, or cannot be one."""
    try:
        return _pack(frames.FORWARD, session, request, most=MAX_MESSAGE)
    except OverflowError:  # JSON has longer numbers than MessagePack
        where = next(name for name in request.__struct_fields__ if not _fits(getattr(request, name)))
        raise UsageError(f"{where}: a whole number in it takes more than 64 bits", code="request") from None
    except RecursionError:
        raise UsageError("the request is nested too deeply", code="request") from None


def _fits(value: object) -> bool:
    try:
        return bool(_encoder.encode(value))
    except OverflowError:
        return False


def pack_event(session: bytes, step: int, event: GenerationEvent) -> bytearray:
    """One event of a reply; `Done` carries the final flag."""
    final = frames.FLAG_FINAL if isinstance(event, Done) else 0
    return _pack(frames.TOKEN, session, event, step=step, flags=final)


def pack_answer(session: bytes, answer: Answer) -> bytearray:
    """What a query gets, and the end of its session; UsageError if it is larger than an answer may be."""
    return _pack(frames.RESULT, session, answer, flags=frames.FLAG_FINAL)


def pack_error(session: bytes, error: HaliError) -> bytearray:
    """The end of a session (or, for `PROCESS`, of the engine) by failure."""
    wire = {**error.to_wire(), "class": type(error).code}  # `code` alone may be finer than the classes are
    return _pack(frames.ERROR, session, wire, flags=frames.FLAG_FINAL)


def pack_ack(message: Ack) -> bytearray:
    """What the worker says about itself, or is asked."""
    return _pack(frames.ACK, PROCESS, message)


def pack_cancel(session: bytes) -> bytearray:
    """Nobody waits for `session` any more."""
    return frames.encode(frames.CANCEL, session=session)


def pack_stop(drain: bool) -> bytearray:
    """The order to end the process."""
    return _pack(frames.RELEASE, PROCESS, Stop(drain))


def unpack_request(frame: Frame) -> Order:
    """ProtocolError if the payload is neither a request nor a query."""
    return _unpack(frame, _order)


def unpack_event(frame: Frame) -> GenerationEvent:
    """ProtocolError if the payload is not an event."""
    return _unpack(frame, _event)


def unpack_answer(frame: Frame) -> Answer:
    """ProtocolError if the payload is not an answer."""
    return _unpack(frame, _answer)


def unpack_error(frame: Frame) -> HaliError:
    """The error as an exception of its own class, with its own code."""
    wire = _unpack(frame, _wire_error)
    error = from_wire({**wire, "code": wire.get("class")})
    error.code = str(wire.get("code"))
    return error


def unpack_ack(frame: Frame) -> Ack:
    """ProtocolError if the payload is none of the known ones."""
    return _unpack(frame, _ack)


def unpack_stop(frame: Frame) -> Stop:
    """ProtocolError if the payload is not a stop order."""
    return _unpack(frame, _stop)


class FrameReader:
    """Cuts a byte stream into frames; sans-I/O. ProtocolError, for good, once the stream is not frames."""

    def __init__(self, max_message: int = MAX_MESSAGE) -> None:
        self._buffer = bytearray()
        self._max = max_message

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes."""
        self._buffer += data
        found: list[Frame] = []
        try:
            while (frame := self._next()) is not None:
                found.append(frame)
        except FrameError as error:
            raise ProtocolError(f"engine socket: {error}", code="frame") from None
        return found

    def _next(self) -> Frame | None:
        if not self._buffer:
            return None
        length = frames.frame_length(self._buffer[: frames.HEADER_SIZE], max_payload=self._max)
        if length is None or len(self._buffer) < length:
            return None
        whole = bytes(self._buffer[:length])
        del self._buffer[:length]
        return frames.decode(whole, max_payload=self._max)
