"""L5: HTTP for clients. `build_app` is the Starlette application, `ApiServer` the service that listens and drains."""

from __future__ import annotations

from hali.api.app import build_app
from hali.api.base import ApiDeps, ApiKey, ApiLimits
from hali.api.binding import Bind
from hali.api.server import ApiServer

__all__ = ["ApiDeps", "ApiKey", "ApiLimits", "ApiServer", "Bind", "build_app"]
