"""`hali ps`: what stands in its table."""

from __future__ import annotations

from typing import Any

from hali.cli.engines import COLUMNS, _table

ENGINE: dict[str, Any] = {
    "model_id": "tiny:1b", "state": "ready", "pid": 7, "n_ctx": 4096, "gpu_layers": 0, "draft": False, "kv_used": 0, "kv_total": 8192,
    "memory_bytes": 10**9, "active": 0, "tokens_per_s": None, "expires_in_s": 60.0,
}  # fmt: skip


def test_layers_on_a_gpu_have_a_column_where_there_are_some() -> None:
    loading = ENGINE | {"gpu_layers": None, "pid": None, "n_ctx": None}
    columns, rows = _table([ENGINE, loading])
    assert columns == COLUMNS and {len(row) for row in rows} == {len(COLUMNS)}
    columns, rows = _table([ENGINE, loading, ENGINE | {"gpu_layers": 33}])
    assert columns == (*COLUMNS, "GPU") and [row[-1] for row in rows] == ["—", "—", "33"]


def test_a_draft_model_has_a_column_where_there_is_one() -> None:
    columns, rows = _table([ENGINE, ENGINE | {"draft": True}, ENGINE | {"draft": None, "gpu_layers": 33}])
    assert columns == (*COLUMNS, "GPU", "DRAFT")
    assert [row[-2:] for row in rows] == [("—", "—"), ("—", "yes"), ("33", "—")]
