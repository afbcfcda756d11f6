"""Notes of what is being tried: what a sudden death leaves behind, and what the next worker makes of it."""

import time

import pytest

from pipeline.store import attempts
from pipeline.store.attempts import HOPELESS, Attempts
from pipeline.store.files import open_files
from schemas.errors import Reason

SLUG = "indoor"


class Workers:
    """Workers on a chunk of seven frames; the dead are kept, so that nothing tidies up after them."""

    def __init__(self, uri, world, allowed=2, engine="ray"):
        self.files = open_files(uri)
        self.attempts = Attempts(self.files, SLUG, allowed, engine)
        self.chunk = world.chunk("room", world.frames(7), 0, 7)
        self.marks = {frame.id: f"mark-{frame.id}" for frame in self.chunk.frames}
        self.dead = []

    def begin(self, chunk=None):
        return self.attempts.begin(chunk or self.chunk, self.marks)

    def die(self, stage=None, *frames, **limits):
        """Begin the chunk, and end in a step of it (or in none)."""
        tries = self.begin()
        step = tries.step(stage, *frames, **limits) if stage else None
        if step:
            step.__enter__()
        self.dead.append((tries, step))
        return tries

    def notes(self):
        return [path for path in self.files.list("_attempts") if path.endswith(".json")]


@pytest.fixture
def workers(uri, world):
    return Workers(uri, world)


def test_work_that_ends_well_leaves_nothing(workers):
    tries = workers.begin()
    assert not tries.careful and len(workers.notes()) == 1
    with tries.step("encode", "0001"):
        assert len(workers.notes()) == 1
    tries.end()
    assert workers.notes() == []


def test_a_death_makes_the_next_try_careful_and_a_good_end_forgets_it(workers):
    workers.die()
    tries = workers.begin()
    assert tries.careful
    with tries.step("encode", "0001"):
        assert len(workers.notes()) == 2
    tries.end()
    assert workers.notes() == [] and not workers.begin().careful


def test_an_exception_is_no_death(workers):
    workers.die()
    tries = workers.begin()
    with pytest.raises(KeyboardInterrupt), tries.step("encode", "0001"):
        raise KeyboardInterrupt
    tries.end()
    assert workers.notes() == []


def test_a_view_is_hopeless_after_as_many_deaths_alone_as_are_allowed(workers):
    workers.die()
    for deaths in (0, 1):
        assert workers.begin().ended("encode", ["0003"]) == deaths
        assert workers.die("encode", "0003").hopeless == {}
    tries = workers.begin()
    assert set(tries.hopeless) == {"0003"}
    note = tries.hopeless["0003"]
    assert (note.ended, note.reason, note.stage, note.mark) == (2, Reason.WORKER_DIED, "encode", "mark-0003")
    tries.end()
    workers.attempts.clear("room")
    assert set(workers.attempts.hopeless()["room"]) == {"0003"} and len(workers.notes()) == 1


def test_another_chunk_that_looks_at_a_hopeless_view_knows_it(workers, world):
    workers.die()
    workers.die("encode", "0003")
    workers.die("encode", "0003")
    workers.begin().end()
    neighbour = world.pick("room", 7, [5, 6])
    assert set(workers.begin(neighbour).hopeless) == {"0003"}
    workers.marks["0003"] = "its image changed"
    assert not workers.begin(neighbour).hopeless


def test_a_step_that_takes_too_long_is_a_timeout(workers, monkeypatch):
    monkeypatch.setattr(attempts, "OVERDUE_S", 0.0)
    workers.die()
    for _ in range(2):
        workers.die("encode", "0003", limit_s=0.01)
        deadline = time.monotonic() + 20
        while not any(b"timeout" in workers.files.get(path) for path in workers.notes()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert workers.begin().hopeless["0003"].reason is Reason.TIMEOUT


def test_a_step_that_ends_in_time_leaves_nothing_even_later(workers, monkeypatch):
    monkeypatch.setattr(attempts, "OVERDUE_S", 0.0)
    workers.die()
    tries = workers.begin()
    with tries.step("encode", "0003", limit_s=0.01):
        time.sleep(0.05)
    tries.end()
    time.sleep(0.05)
    assert workers.notes() == []


def test_a_step_of_several_targets_is_counted_and_never_hopeless(workers):
    workers.die()
    for _ in range(3):
        workers.die("geometry", "0001", "0002")
    tries = workers.begin()
    assert tries.ended("geometry", ["0001", "0002"]) == 3 and not tries.hopeless


def test_an_operator_that_ends_its_worker_whatever_it_sees_is_broken(workers):
    workers.attempts = Attempts(workers.files, SLUG, 1)
    workers.die()
    for i in range(HOPELESS):
        assert not workers.begin().broken
        workers.die("encode", f"000{i}")
    assert workers.begin().broken


def test_an_operator_that_did_well_once_is_not_broken(workers):
    workers.attempts = Attempts(workers.files, SLUG, 1)
    workers.die()
    workers.begin().came_through()
    for i in range(HOPELESS + 1):
        workers.die("encode", f"000{i}")
    assert not workers.begin().broken and len(workers.begin().hopeless) == HOPELESS + 1


@pytest.mark.parametrize(("engine", "deaths"), [("local", 1), ("ray", 0)])
def test_the_next_run_counts_what_a_local_driver_died_of(uri, world, engine, deaths):
    """A Ray driver does not die of what its workers do, so its end is held against nobody."""
    workers = Workers(uri, world, engine=engine)
    tries = workers.die()
    tries.careful = True
    step = tries.step("encode", "0003")
    step.__enter__()
    assert workers.attempts.settle() == 2
    after = workers.begin()
    assert after.ended("encode", ["0003"]) == deaths
    assert after.careful == bool(deaths)


def test_a_chunk_that_is_cut_otherwise_is_careful_too(uri, world):
    workers = Workers(uri, world, engine="local")
    workers.die()
    workers.attempts.settle()
    assert workers.begin(world.pick("room", 7, [3, 4])).careful
    assert not workers.begin(world.pick("attic", 7, [3, 4])).careful


def test_forgiving_forgets_the_frames_that_are_named(workers):
    workers.attempts = Attempts(workers.files, SLUG, 1)
    workers.die()
    workers.die("encode", "0003")
    workers.die("encode", "0004")
    workers.begin().end()
    workers.attempts.forgive({"room": {"0003"}, "attic": {"0004"}})
    assert set(workers.attempts.hopeless()["room"]) == {"0004"}


def test_a_note_that_cannot_be_read_is_no_note(workers):
    workers.die()
    workers.files.put(workers.notes()[0], b"{")
    assert not workers.begin().careful
