"""How long one source is tried: waits between attempts, keeps what was tried, and ends it."""

from __future__ import annotations

from collections import deque

import anyio

from hali.model.errors import TransferFailed
from hali.runtime.log import get_logger
from hali.transfer.http_retry import HttpPolicy, wait_before_retry

log = get_logger(__name__)

TRIED_KEPT = 20  # lines of `details['tried']`; enough to see a pattern


class Patience:
    """Shared by all connections of a source, so that one Retry-After holds for all of them."""

    def __init__(self, name: str, policy: HttpPolicy) -> None:
        self._name, self._policy = name, policy
        self._not_before = float("-inf")  # monotonic
        self._tried: deque[str] = deque(maxlen=TRIED_KEPT)

    @property
    def waits_s(self) -> float:
        """How long the server wants to be left alone yet, as far as that is respected."""
        return max(0.0, self._not_before - anyio.current_time())

    async def respect_retry_after(self) -> None:
        """Waits until the server wants to be asked again."""
        await anyio.sleep(self.waits_s)

    async def pause(self, what: str, failures: int, after: float | None) -> None:
        """Notes a failed attempt, the `failures`-th in a row, and waits; TransferFailed when patience is used up."""
        self._tried.append(what)
        log.debug("http.retry", what=what, failures=failures)
        if failures >= self._policy.attempts:
            raise TransferFailed(
                f"{self._name}: given up after {failures} failed attempts in a row",
                details={"tried": list(self._tried)},
                hint=f"the last one: {what}",
            )
        wait = wait_before_retry(self._policy, failures, after)
        if after:
            self._not_before = max(self._not_before, anyio.current_time() + wait)
        await anyio.sleep(wait)
