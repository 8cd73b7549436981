"""`python -m hali.engine.worker`: one model, one process. Started by `hali.engine.process` only.

Arguments: the number of an inherited socket, the daemon's process id, the GGUF file, and EngineOptions as JSON.
"""

from __future__ import annotations

import os
import queue
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from hali._native import frames
from hali.engine import protocol
from hali.engine.confine import confine
from hali.engine.kinds import must_write
from hali.engine.options import EngineOptions
from hali.model.errors import EngineUnavailable, HaliError, ModelLoadFailed, ProtocolError, UsageError
from hali.model.generation import Answer, Done, EngineInfo, GenerateRequest, GenerationEvent

if TYPE_CHECKING:
    from hali.engine.backend import Model
    from hali.engine.drafter import Drafter
    from hali.engine.native_log import NativeLog
    from hali.engine.vision import Projector

READ = 256 * 1024
RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
PROGRESS_EVERY_S = 0.1
REPORT_EVERY_S = 0.5  # while sessions run; besides, whenever the set of sessions changed


class Wire:
    """The socket, written by the main thread: frames are collected and sent once a step. Only `at_once` is for other threads."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._out = bytearray()
        self._one = threading.Lock()  # one sender at a time: frames must not be mixed

    def put(self, frame: bytearray) -> None:
        """Send at the next `flush`."""
        self._out += frame

    def flush(self) -> None:
        """Blocks while the daemon does not read: then there is nobody to compute for either."""
        if self._out:
            data, self._out = self._out, bytearray()
            self.at_once(data)

    def at_once(self, frame: bytearray) -> None:
        """Send before anything that is collected."""
        with self._one:
            self._sock.sendall(frame)


class Inbox(threading.Thread):
    """Reads frames while the main thread computes, and answers whether the process is alive. The end of the socket ends it."""

    def __init__(self, sock: socket.socket, wire: Wire) -> None:
        super().__init__(name="engine-inbox", daemon=True)
        self._sock, self._wire = sock, wire
        self.frames: queue.SimpleQueue[protocol.Frame] = queue.SimpleQueue()
        self.on_cancel: Callable[[bytes], None] | None = None  # set once there is a loop to interrupt

    def run(self) -> None:
        """Until the daemon closes its end."""
        reader = protocol.FrameReader()
        try:
            while data := self._sock.recv(READ):
                for frame in reader.feed(data):
                    if frame.kind == frames.ACK:
                        self._wire.at_once(protocol.pack_ack(protocol.Alive()))
                        continue
                    if frame.kind == frames.CANCEL and self.on_cancel is not None:
                        self.on_cancel(frame.session)  # first: once it is carried out, nobody may order it again
                    self.frames.put(frame)
        except (OSError, ProtocolError, MemoryError) as error:  # the last while a hostile template has used all memory
            sys.stderr.write(f"engine worker: {error}\n")
        sys.stderr.flush()
        os._exit(1)  # the main thread may be inside llama.cpp for seconds, and nobody waits for it any more


class Worker:
    """Takes frames from the inbox between two batches, and runs the loop while it has work."""

    def __init__(self, wire: Wire, inbox: Inbox, path: Path, options: EngineOptions, held: dict[str, str]) -> None:
        # Imported here: after confine(), and so that a missing library is an answer rather than a traceback.
        from hali.engine import backend
        from hali.engine.answering import Answering
        from hali.engine.chat import Prompter
        from hali.engine.embedding import Embedder
        from hali.engine.loop import Loop
        from hali.engine.native_log import NativeLog
        from hali.engine.queries import Answerer

        began = time.monotonic()
        self._wire, self._inbox = wire, inbox
        self._told = 0.0
        log = NativeLog()
        log.install()
        self._model = backend.open_model(path, options, log, self._progress)
        projector, no_images = self._projector(options)
        self._draft, drafter = self._drafter(options, log)
        prompter = Prompter(self._model, projector=projector, no_images=no_images)
        self._loop = Loop(
            self._model,
            prompter,
            options.n_seq_max,
            self._emit,
            self._fail,
            retained=self._model.retained(options),
            speculation=options.speculation if self._model.goes_back else "off",
            drafter=drafter,
            projector=projector,
        )
        self._embedder = Embedder(self._model, options)
        answerer = Answerer(self._model, prompter, self._embedder)
        self._queries = Answering(answerer.answer, self._answer, self._fail)
        inbox.on_cancel = self._loop.interrupt
        self._stop: protocol.Stop | None = None
        self._load = self._loop.load
        info = self._info(options, prompter.has_template, reads_images=projector is not None)
        wire.put(protocol.pack_ack(protocol.Ready(info, held, time.monotonic() - began, backend.version())))
        wire.put(protocol.pack_ack(protocol.Report(self._loop.stats())))
        wire.flush()

    def _projector(self, options: EngineOptions) -> tuple[Projector | None, str | None]:
        """What reads images, or why nothing does: one that does not fit costs the images, not the texts."""
        try:
            return self._model.projector(options), options.no_images
        except ModelLoadFailed as error:
            sys.stderr.write(f"engine worker: {error}\n")
            return None, str(error)

    def _drafter(self, options: EngineOptions, log: NativeLog) -> tuple[Model | None, Drafter | None]:
        """The draft model and what guesses with it: one that does not fit costs the guesses, not the texts."""
        from hali.engine import drafter
        from hali.engine.drafting import Drafting

        try:
            model = drafter.load(self._model, options, log)
        except ModelLoadFailed as error:
            sys.stderr.write(f"engine worker: no draft model: {Path(options.draft or '').name}: {error}\n")
            return None, None
        return model, None if model is None else drafter.Drafter(model, Drafting(options.speculation))

    def _progress(self, fraction: float) -> None:
        if fraction >= 1 or time.monotonic() - self._told >= PROGRESS_EVERY_S:
            self._told = time.monotonic()
            self._wire.put(protocol.pack_ack(protocol.Progress(fraction)))
            self._wire.flush()

    def _info(self, options: EngineOptions, has_template: bool, *, reads_images: bool) -> EngineInfo:
        model = self._model
        return EngineInfo(
            model_id="",  # the daemon's name for it; the worker knows a file only
            pid=os.getpid(),
            n_ctx=model.n_ctx,
            n_seq_max=options.n_seq_max,
            n_vocab=model.n_vocab,
            n_layer=model.n_layer,
            layer_start=0,
            layer_end=model.n_layer,
            architecture=model.meta("general.architecture"),
            memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT,
            has_chat_template=has_template,
            reads_images=reads_images,
            kind=model.kind,
            gpu_layers=model.gpu_layers,
            draft=self._draft is not None,
        )

    def _emit(self, session: bytes, step: int, event: GenerationEvent) -> None:
        if isinstance(event, Done):
            self._report(force=True)  # before `Done`, so that who hears it finds the counters up to date
        self._wire.put(protocol.pack_event(session, step, event))

    def _fail(self, session: bytes, error: HaliError) -> None:
        self._report(force=True)
        self._wire.put(protocol.pack_error(session, error))

    def run(self) -> None:
        """Until a stop order."""
        while self._stop is None or (self._stop.drain and self._busy):
            self._take_frames()
            if self._queries.busy:
                self._loop.tell()
                self._wire.flush()
                self._queries.step()
            if self._loop.busy:
                self._loop.admit()
                self._report(force=False)
                self._wire.flush()  # a batch may take seconds
                self._loop.step()
            self._wire.flush()
        self._loop.cancel_all()
        self._queries.end()
        self._wire.flush()
        self._embedder.close()
        if self._draft is not None:
            self._draft.close()
        self._model.close()

    @property
    def _busy(self) -> bool:
        return self._loop.busy or self._queries.busy

    def _take_frames(self) -> None:
        """All that lie there; with nothing to compute, wait for the first."""
        wait = not self._busy
        try:
            while True:
                self._handle(self._inbox.frames.get(block=wait))
                wait = False
        except queue.Empty:
            return

    def _handle(self, frame: protocol.Frame) -> None:
        if frame.kind == frames.FORWARD:
            self._open(frame)
        elif frame.kind == frames.CANCEL:
            self._loop.cancel(frame.session)
            self._queries.cancel(frame.session)
        elif frame.kind == frames.RELEASE:
            self._stop = protocol.unpack_stop(frame)
        else:
            raise ProtocolError(f"unexpected frame of kind {frames.KIND_NAMES[frame.kind]}")

    def _open(self, frame: protocol.Frame) -> None:
        try:
            order = protocol.unpack_request(frame)
        except ProtocolError as error:
            self._fail(frame.session, error)
            return
        if not isinstance(order, GenerateRequest):
            self._queries.open(frame.session, order)
            return
        try:
            must_write(self._model.kind)
        except UsageError as error:
            self._fail(frame.session, error)
            return
        self._loop.open(frame.session, order)

    def _answer(self, session: bytes, answer: Answer) -> None:
        self._wire.put(protocol.pack_answer(session, answer))

    def _report(self, *, force: bool) -> None:
        now = time.monotonic()
        if force or self._loop.load != self._load or now - self._told >= REPORT_EVERY_S:
            self._told, self._load = now, self._loop.load
            self._wire.put(protocol.pack_ack(protocol.Report(self._loop.stats())))


def main(argv: list[str]) -> int:
    """0 after an orderly stop, 1 when the model could not be loaded (the reason went over the socket)."""
    fd, parent, path, options_json = argv
    options = msgspec.json.decode(options_json, type=EngineOptions)
    held = confine(int(parent), options.memory_limit)
    sock = socket.socket(fileno=int(fd))
    sock.set_inheritable(False)
    wire = Wire(sock)
    inbox = Inbox(sock, wire)
    try:
        inbox.start()
        worker = Worker(wire, inbox, Path(path), options, held)
    except ImportError as error:
        wire.put(protocol.pack_error(protocol.PROCESS, EngineUnavailable(f"llama.cpp cannot be loaded: {error}")))
        wire.flush()
        return 1
    except HaliError as error:
        wire.put(protocol.pack_error(protocol.PROCESS, error))
        wire.flush()
        return 1
    worker.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
