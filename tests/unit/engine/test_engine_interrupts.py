"""Orders to stop a decode reach that decode and no other."""

from __future__ import annotations

import threading

from hali.engine.interrupts import Interrupts


class Flag:
    """Remembers its value; `before` comes between the decision to set it and that."""

    def __init__(self) -> None:
        self.value = b"\0"
        self.before = lambda: None

    def __setitem__(self, index: int, value: bytes, /) -> None:
        if value == b"\1":
            self.before()
        self.value = value


def test_an_order_stops_the_decode_of_its_session_and_not_the_next() -> None:
    flag = Flag()
    interrupts = Interrupts(flag)
    assert interrupts.begin([b"a"])
    interrupts.order(b"b")
    assert flag.value == b"\0"
    interrupts.order(b"a")
    assert flag.value == b"\1"
    interrupts.end()
    assert not interrupts.begin([b"a"]), "it was ordered to end by now"
    interrupts.obeyed(b"a")
    assert interrupts.begin([b"a"])
    assert flag.value == b"\0"


def test_no_decode_begins_between_the_look_of_an_order_and_its_flag() -> None:
    flag = Flag()
    interrupts = Interrupts(flag)
    interrupts.begin([b"a"])
    began = threading.Event()

    def next_decode() -> None:
        interrupts.end()
        interrupts.begin([b"b"])
        began.set()

    other = threading.Thread(target=next_decode)

    def lose_the_interpreter() -> None:
        other.start()
        while not (began.is_set() or interrupts._one.locked()):
            pass

    flag.before = lose_the_interpreter
    interrupts.order(b"a")
    other.join()
    assert flag.value == b"\0", "the order was for the decode before"
