"""What is chosen by the estimate: contexts for a room, layers for a GPU, bytes of ranges."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hali.engine.estimate import GPU_MARGIN, Layer, Shape, estimate, fitting, gpu_layers, roomy
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
    assert gpu_layers(LLAMA_8B, options, []) == 0
    assert gpu_layers(LLAMA_8B, options, [24 * GIB]) == 33
    assert gpu_layers(LLAMA_8B, options, [GIB + GIB // 4]) == 0
    # 5 GiB less the margin, scratch and the output leave room for so many layers of 130 MB and 16 MiB of KV each.
    whole = estimate(LLAMA_8B, options)
    left = 4 * GIB - whole.compute - whole.output - 430_000_000
    some = gpu_layers(LLAMA_8B, options, [5 * GIB])
    assert some == 1 + left // (130_000_000 + 16 * 1024**2) and 8 <= some < 33
    assert gpu_layers(LLAMA_8B, options, [6 * GIB], beside=GIB) == some, "a projector takes of the same room"


@given(st.lists(st.integers(min_value=0, max_value=10 * GIB), max_size=4), st.integers(0, 3), st.integers(0, 4 * GIB))
def test_more_free_memory_never_means_fewer_layers(free: list[int], which: int, more: int) -> None:
    count = gpu_layers(LLAMA_8B, EngineOptions(), free)
    assert 0 <= count <= 33
    if len(free) == 1:
        assert gpu_layers(LLAMA_8B, EngineOptions(), [free[0] + more]) >= count
    assert gpu_layers(LLAMA_8B, EngineOptions(), [room + more for room in free]) >= count
    assert gpu_layers(LLAMA_8B, EngineOptions(n_ctx=8192), free) <= count, (
        "a longer context needs more of the same room"
    )


@given(st.lists(st.integers(min_value=GIB, max_value=10 * GIB), min_size=1, max_size=4))
def test_each_gpu_has_room_for_its_share_of_the_layers(free: list[int]) -> None:
    options = EngineOptions()
    count = gpu_layers(LLAMA_8B, options, free)
    whole = estimate(LLAMA_8B, options)
    taken = [0] * len(free)
    for number in range(count):  # as llama-model.cpp deals them out, the output last
        share = next(gpu for gpu in range(len(free)) if sum(free[: gpu + 1]) > sum(free) * number // count)
        taken[share] += 430_000_000 if number == count - 1 else 130_000_000 + 32 * 1024**2
    for room, layers in zip(free, taken, strict=True):
        assert layers == 0 or layers + whole.compute + GPU_MARGIN <= room
    assert count == 0 or min(free) >= GPU_MARGIN + whole.compute, "a small one beside a large one is not overrun"


def test_two_gpus_hold_more_than_one_and_one_that_tells_nothing_holds_the_rest_back() -> None:
    options = EngineOptions()
    assert gpu_layers(LLAMA_8B, options, [6 * GIB]) < 33 == gpu_layers(LLAMA_8B, options, [6 * GIB, 6 * GIB])
    assert gpu_layers(LLAMA_8B, options, [24 * GIB, 0]) == 0, "llama.cpp would put layers there all the same"


def test_a_recurrent_state_lies_on_the_gpu_too() -> None:
    layers = tuple(Layer(20_000_000, state=1_000_000) for _ in range(64))
    mamba = Shape(layers, 100_000_000, 100_000_000, 2560, 50_000, 0, 0, 8192)
    room = [3 * GIB]
    assert gpu_layers(mamba, EngineOptions(n_seq_max=1), room) > gpu_layers(mamba, EngineOptions(n_seq_max=16), room)


def test_sessions_side_by_side_get_more_cells_where_these_cost_little() -> None:
    assert roomy(LLAMA_8B, EngineOptions()) == EngineOptions(n_kv=8192), "two contexts are more than 256 MiB already"
    # SmolLM2-135M: 30 layers, 3 KV heads of 64.
    small = Shape(tuple(Layer(2_000_000, 192, 192) for _ in range(30)), 30_000_000, 0, 576, 49_152, 9, 1536, 8192)
    for slots, cells in ((1, 11_650), (8, 11_650), (16, 11_650)):
        assert roomy(small, EngineOptions(n_seq_max=slots)).n_kv == max(4096 * min(2, slots), min(slots * 4096, cells))
    assert roomy(small, EngineOptions(n_kv=5000)).n_kv == 5000, "a number that somebody chose stays"
    assert estimate(small, roomy(small, EngineOptions())).kv <= 256 * 1024**2 + 256 * 23_040
