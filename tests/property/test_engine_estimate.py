"""What is chosen by the estimate: contexts for a room, layers for a GPU, bytes of ranges."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hali.engine.estimate import Layer, Shape, estimate, fitting, gpu_layers, roomy
from hali.engine.options import EngineOptions

GIB = 1024**3
# Llama 3 8B at Q4_K_M: 32 layers of 130 MB, 8 KV heads of 128; embedding 290 MB, output 430 MB.
LLAMA_8B = Shape(
    tuple(Layer(130_000_000, 1024, 1024) for _ in range(32)), 290_000_000, 430_000_000, 4096, 128_256, 32, 14_336, 8192
)


def test_an_8b_model_takes_what_is_known_of_it() -> None:
    told = estimate(LLAMA_8B, EngineOptions(n_ctx=8192, n_kv=8192))
    assert told.weights == 32 * 130_000_000 + 720_000_000
    assert told.kv == GIB  # 128 KiB a token
    assert 0.25 * GIB < told.compute < 0.6 * GIB


@given(st.integers(min_value=0, max_value=12 * GIB))
def test_what_is_chosen_for_a_room_fits_it_and_twice_as_much_would_not(room: int) -> None:
    chosen = fitting(LLAMA_8B, EngineOptions(), room)
    if chosen is None:
        assert estimate(LLAMA_8B, EngineOptions(n_ctx=1024, n_kv=1024)).total > room
        return
    assert estimate(LLAMA_8B, chosen).total <= room
    if chosen != EngineOptions():
        larger = (
            EngineOptions(n_ctx=2 * chosen.n_ctx, n_kv=2 * chosen.n_ctx) if chosen.n_ctx < 4096 else EngineOptions()
        )
        assert estimate(LLAMA_8B, larger).total > room


def test_a_context_that_somebody_chose_is_never_changed() -> None:
    assert fitting(LLAMA_8B, EngineOptions(n_ctx=8192), 5 * GIB) is None


@given(st.integers(min_value=1, max_value=31))
def test_two_ranges_of_layers_weigh_what_the_whole_does(cut: int) -> None:
    options = EngineOptions()
    parts = [estimate(LLAMA_8B, options, span) for span in ((0, cut), (cut, 32))]
    whole = estimate(LLAMA_8B, options)
    assert sum(part.weights for part in parts) == whole.weights
    assert sum(part.kv for part in parts) == whole.kv
    tied = Shape(LLAMA_8B.layers, 290_000_000, 0, 4096, 128_256, 32, 14_336, 8192)
    both = [estimate(tied, options, span).weights for span in ((0, cut), (cut, 32))]
    assert sum(both) == estimate(tied, options).weights + tied.embedding  # either end needs it


def test_as_many_layers_go_to_a_gpu_as_fit_it() -> None:
    options = EngineOptions(n_ctx=4096, n_kv=4096)
    assert gpu_layers(LLAMA_8B, options, 24 * GIB) == 33
    assert gpu_layers(LLAMA_8B, options, GIB // 4) == 0
    counts = [gpu_layers(LLAMA_8B, options, size * GIB) for size in range(1, 9)]
    assert counts == sorted(counts) and 8 <= counts[3] < 33
    # 4 GiB less 0.25 GiB of scratch and the output leave room for so many layers of 130 MB and 16 MiB of KV each.
    left = 4 * GIB - estimate(LLAMA_8B, options).compute - estimate(LLAMA_8B, options).output - 430_000_000
    assert counts[3] == 1 + left // (130_000_000 + 16 * 1024**2)


def test_sessions_side_by_side_get_more_cells_where_these_cost_little() -> None:
    assert roomy(LLAMA_8B, EngineOptions()) == EngineOptions(n_kv=8192), "two contexts are more than 256 MiB already"
    # SmolLM2-135M: 30 layers, 3 KV heads of 64.
    small = Shape(tuple(Layer(2_000_000, 192, 192) for _ in range(30)), 30_000_000, 0, 576, 49_152, 9, 1536, 8192)
    for slots, cells in ((1, 11_650), (8, 11_650), (16, 11_650)):
        assert roomy(small, EngineOptions(n_seq_max=slots)).n_kv == max(4096 * min(2, slots), min(slots * 4096, cells))
    assert roomy(small, EngineOptions(n_kv=5000)).n_kv == 5000, "a number that somebody chose stays"
    assert estimate(small, roomy(small, EngineOptions())).kv <= 256 * 1024**2 + 256 * 23_040
