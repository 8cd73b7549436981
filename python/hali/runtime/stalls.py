"""An event loop that tells, from a thread of its own, when something keeps it from turning, and where that is.

The thread sleeps while the loop does: a node that nothing happens to wakes nobody up for this.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
import threading
import time
import traceback

from hali.runtime.log import get_logger

log = get_logger(__name__)

LIMIT_S = 1.0  # what a person feels, and ten times what any of our own work in the loop may take
FRAMES = 30  # of the stack, innermost last: what is below are the loop's own


class StallWatch(threading.Thread):
    """Logs `loop.blocked` with the stack of the thread that made it, once a stall, and `loop.unblocked` when it is over."""

    def __init__(self, limit_s: float = LIMIT_S) -> None:
        super().__init__(name="loop-stalls", daemon=True)
        self._limit_s = limit_s
        self._watched = threading.get_ident()
        self.busy_since: float | None = None  # set by the loop; None while it waits for something to do
        self.asleep = True  # this thread, until the loop calls `wake`
        self._work, self._ended = threading.Event(), threading.Event()

    # ---- called by the loop

    def wake(self) -> None:
        """A turn began while this thread slept."""
        self.asleep = False
        self._work.set()

    def end(self) -> None:
        """The loop is closed."""
        self._ended.set()
        self._work.set()

    # ---- the thread

    def run(self) -> None:
        """Until `end`."""
        while not self._ended.is_set():
            self._work.wait()
            self._work.clear()
            self._ended.wait(self._limit_s)  # before a look: thousands of short turns cost one wake-up
            while not self._ended.is_set() and self._look():
                pass

    def _look(self) -> bool:
        """Look at the turn of now, wait until it may be too long; False when there is none, and this thread may sleep."""
        since = self.busy_since
        if since is None:
            self.asleep = True  # from here on the next turn wakes us …
            return self.busy_since is not None  # … and one that began just before is looked at
        if (left := since + self._limit_s - time.monotonic()) > 0:
            self._ended.wait(left)
        else:
            self._tell(since)
        return True

    def _tell(self, since: float) -> None:
        frame = sys._current_frames().get(self._watched)
        stack = traceback.format_stack(frame)[-FRAMES:] if frame is not None else []
        if self.busy_since != since:  # it went on while we looked: the stack says nothing
            return
        log.error("loop.blocked", seconds=round(time.monotonic() - since, 2), stack="".join(stack))
        while self.busy_since == since and not self._ended.wait(self._limit_s):
            pass
        log.warning("loop.unblocked", after_s=round(time.monotonic() - since, 1))


class _WatchedSelector(selectors.DefaultSelector):
    """Where the loop waits; whatever is not waiting is a turn."""

    def __init__(self, watch: StallWatch) -> None:
        super().__init__()
        self._watch = watch

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """As of the base class. Runs each turn, so it is written to cost little: below a microsecond."""
        watch = self._watch
        watch.busy_since = None
        ready = super().select(timeout)
        watch.busy_since = time.monotonic()
        if watch.asleep:
            watch.wake()
        return ready

    def close(self) -> None:
        """As of the base class."""
        super().close()
        self._watch.end()


def watched_loop(limit_s: float = LIMIT_S) -> asyncio.AbstractEventLoop:
    """A new event loop for this thread; `loop_factory` of asyncio and anyio."""
    watch = StallWatch(limit_s)
    loop = asyncio.SelectorEventLoop(_WatchedSelector(watch))
    watch.start()
    return loop
