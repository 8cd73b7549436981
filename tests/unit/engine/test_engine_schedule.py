"""What the scheduler decides in the cases that have a name."""

from __future__ import annotations

from hali.engine.schedule import PREFILL_BESIDE_DECODE, Plan, Slice, Work, may_enter, schedule


def decode(key: int, held: int = 10) -> Work:
    return Work(key, held, 1, decoding=True, frees=held)


def prompt(key: int, pending: int, held: int = 0) -> Work:
    return Work(key, held, pending, decoding=False, frees=held)


def plan(*works: Work, n_batch: int = 512, kv_free: int = 10_000, turn: int = 0) -> Plan:
    return schedule(works, n_batch=n_batch, kv_free=kv_free, turn=turn)


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
    chosen = plan(prompt(0, 2000), decode(1), decode(2))
    assert chosen.slices == (Slice(1, 1), Slice(2, 1), Slice(0, PREFILL_BESIDE_DECODE))


def test_prompts_share_the_batch_and_leave_nothing_of_it_unused() -> None:
    chosen = plan(prompt(0, 2000), prompt(1, 20), prompt(2, 2000))
    counts = {part.key: part.count for part in chosen.slices}
    assert counts == {1: 20, 0: 246, 2: 246}


def test_with_too_few_rows_for_all_prompts_each_gets_its_turn() -> None:
    works = [prompt(key, 100) for key in range(4)]
    served = [plan(*works, n_batch=1, turn=turn).slices[0].key for turn in range(4)]
    assert served == [0, 1, 2, 3]


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
