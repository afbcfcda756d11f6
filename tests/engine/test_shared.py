"""What a worker holds of views: no more than its limits, whatever is asked for in whatever order."""

import weakref

from hypothesis import given
from hypothesis import strategies as st

from pipeline.shared import SharedViews

ROOM = {"a": 10, "b": 4}
ASKED = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 5), st.integers(1, 12)), max_size=30)


class Thing:
    """Something that was worked out."""

    def __init__(self, what: str, key: int, size: int) -> None:
        self.what, self.key, self.size = what, key, size


@given(ASKED, st.booleans())
def test_what_is_held_fits_and_is_let_go(asked: list[tuple[str, int, int]], holding: bool) -> None:
    shared = SharedViews(ROOM)
    alive: weakref.WeakSet[Thing] = weakref.WeakSet()

    def ask(what: str, key: int, size: int) -> int:
        def make() -> Thing:
            thing = Thing(what, key, size)
            alive.add(thing)
            return thing

        return shared.once(what, key, make, lambda thing: thing.size).key

    with shared.held(held=holding):
        for what, key, size in asked:
            assert ask(what, key, size) == key
            assert all(sum(one.size for one in alive if one.what == name) <= room for name, room in ROOM.items())
            assert holding or not alive
    assert not alive


def made(shared: SharedViews, keys: str) -> str:
    """Those of the keys that were worked out, each of size 3, in order."""
    found: list[str] = []
    for key in keys:

        def make(key: str = key) -> str:
            found.append(key)
            return key

        assert shared.once("a", key, make, lambda _: 3) == key
    return "".join(found)


def test_operators_of_a_pass_have_what_came_first() -> None:
    shared = SharedViews(ROOM)
    with shared.held():
        assert made(shared, "xyzxyzxyz") == "xyz"
        assert made(shared, "uvx") == "uv"
        assert made(shared, "uvxyz") == "uv", "what does not fit is worked out again, what was there stays"
    assert made(shared, "xx") == "xx"
