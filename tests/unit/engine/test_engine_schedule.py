"""What the scheduler decides in the cases that have a name."""

from __future__ import annotations

from hali.engine.schedule import Plan, Slice, Work, may_enter, schedule


def decode(key: int, held: int = 10) -> Work:
    return Work(key, held, 1, decoding=True, frees=held)


def prompt(key: int, pending: int, held: int = 0) -> Work:
    return Work(key, held, pending, decoding=False, frees=held)


def plan(*works: Work, n_batch: int = 512, kv_free: int = 10_000, beside: int = 256) -> Plan:
    return schedule(works, n_batch=n_batch, kv_free=kv_free, beside=beside)


def test_alone_a_prompt_is_cut_as_llama_cpp_python_cuts_it() -> None:
    shapes, left = [], 1300
    while left:
        (part,) = plan(prompt(0, left, 1300 - left)).slices
        shapes.append(part.count)
        left -= part.count
    assert shapes == [512, 512, 276]


def test_alone_a_reply_is_computed_token_by_token() -> None:
    assert plan(decode(3)).slices == (Slice(3, 1),)


def test_decode_rows_come_first_and_prompts_beside_them_are_short() -> None:
    chosen = plan(prompt(0, 2000), decode(1), decode(2), beside=96)
    assert chosen.slices == (Slice(1, 1), Slice(2, 1), Slice(0, 96))


def test_the_oldest_prompt_has_half_of_the_batch_and_the_shortest_come_next() -> None:
    chosen = plan(prompt(0, 2000), prompt(1, 300), prompt(2, 20), prompt(3, 2000))
    assert chosen.slices == (Slice(0, 256), Slice(2, 20), Slice(1, 236))


def test_what_the_short_prompts_leave_is_for_the_oldest() -> None:
    assert plan(prompt(0, 500), prompt(1, 20)).slices == (Slice(0, 492), Slice(1, 20))


def test_a_long_prompt_is_done_although_short_ones_never_end() -> None:
    left, batches = 2000, 0
    while left:
        chosen = plan(prompt(0, left), *(prompt(key, 400) for key in range(1, 5)))
        left -= sum(part.count for part in chosen.slices if part.key == 0)
        batches += 1
    assert batches == 2000 // 256 + 1


def test_without_a_free_cell_the_youngest_step_back_and_their_cells_are_used() -> None:
    chosen = plan(decode(0, 90), decode(1, 60), decode(2, 50), kv_free=0)
    assert chosen.preempt == (2,)
    assert chosen.slices == (Slice(0, 1), Slice(1, 1))


def test_the_oldest_never_steps_back() -> None:
    assert plan(decode(0, 100), kv_free=0) == Plan(())


def test_nothing_to_do_is_an_empty_plan() -> None:
    assert plan() == Plan(())


def test_the_first_session_is_always_let_in() -> None:
    assert may_enter(4000, running=0, committed=0, n_kv=4000, slots_free=1)


def test_nobody_is_let_in_without_a_sequence_id_or_without_room_for_the_others_to_grow() -> None:
    assert not may_enter(1, running=8, committed=8, n_kv=10_000, slots_free=0)
    assert not may_enter(100, running=1, committed=850, n_kv=1000, slots_free=7)
    assert may_enter(100, running=1, committed=800, n_kv=1000, slots_free=7)
