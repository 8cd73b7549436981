"""L4: from a request to tokens: admission, plan, stages, retry.

Local stages today; the words of the plan already know layer ranges.
"""

from __future__ import annotations

from hali.pipeline.base import Catalog, Engines, ServedModel
from hali.pipeline.router import InferenceRouter, RouterLimits, RouterStats

__all__ = ["Catalog", "Engines", "InferenceRouter", "RouterLimits", "RouterStats", "ServedModel"]
