"""Whatever moment a run dies at, no frame is shown twice, nothing committed is lost, and the next run ends the same."""

import random
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.store import Store, read_labels, validate
from pipeline.store.recover import Recovered

FRAMES = 5
SIZES = (3, 2, 4)
"""Chunk sizes of the runs over one scene: run 0 labels it, each later one relabels it with other cuts."""


class Killed(BaseException):
    """Stands for the process's end: nothing catches it."""


class MortalFiles:
    """Real files that die after a number of steps. A move on object stores is two steps: copy, then delete."""

    def __init__(self, files, steps):
        self.files, self.steps, self.root = files, steps, files.root

    def _step(self):
        if self.steps == 0:
            raise Killed
        self.steps -= 1

    def put(self, path, data, timeout_s=None):
        self._step()
        self.files.put(path, data, timeout_s)
        self._step()

    def move(self, source, target):
        self._step()
        if hasattr(self.files, "system"):
            data = self.files.get(source)
            if data is not None:
                self.files.put(target, data)
                self._step()
                self.files.delete(source)
        else:
            self.files.move(source, target)
        self._step()

    def delete(self, path):
        self._step()
        self.files.delete(path)

    def __getattr__(self, name):
        return getattr(self.files, name)


def shown(store):
    """How often each frame is visible to plain Parquet readers, judged by the files alone."""
    listed = [path for path in store._files.list("labels") if not path.rpartition("/")[2].startswith(".")]
    tables = [pq.read_table(pa.BufferReader(store._files.get(path)), columns=["frame"]) for path in listed]
    return Counter(frame for table in tables for frame in table.column("frame").to_pylist())


def wanted(world, number):
    return {frame.id: f"v{number:04d}-{frame.id}" for frame in world.frames(FRAMES)}


def keeps(before, after):
    """Whether every frame still has the label that it had, or one of a later run."""
    return all(fingerprint <= after[frame] for frame, fingerprint in before.items())


def resume(store, world, number):
    """What the driver does: recover, leave out what is done, label the rest, publish."""
    store.recover()
    done, goal = store.done("indoor", "room"), wanted(world, number)
    missing = [i for i, frame in enumerate(goal) if done.get(frame) != goal[frame]]
    for staged in (False, True):
        part = [i for i in missing if (f"{i:04d}" in done) == staged]
        for start in range(0, len(part), SIZES[number % 3]):
            targets = part[start : start + SIZES[number % 3]]
            world.write(store, world.pick("room", FRAMES, targets, f"v{number:04d}", staged), world.run(number))
    store.publish("indoor", "room", goal)


def label_run(store, world, number):
    world.label(store, "room", FRAMES, SIZES[number % 3], f"v{number:04d}", world.run(number), staged=number > 0)
    store.publish("indoor", "room", wanted(world, number))


def content(uri):
    """Everything that labels are, run stamps and order aside."""
    rows = read_labels(uri).drop(columns=["run_id", "created_at"])
    return rows.sort_values("frame").reset_index(drop=True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, world):
    contents = []
    for number in range(len(SIZES)):
        store = Store(str(tmp_path_factory.mktemp("undisturbed")))
        store.prepare()
        for earlier in range(number + 1):
            label_run(store, world, earlier)
        contents.append(content(store.uri))
    return contents


@pytest.mark.parametrize(
    ("storage", "number"),
    [("memory", 0), ("memory", 1), ("memory", 2), ("local", 1), pytest.param("local", 2, marks=pytest.mark.slow)],
)
def test_death_at_every_single_step(tmp_path, world, undisturbed, storage, number):
    step, ended = 0, False
    while not ended:
        uri = str(tmp_path / f"{step}") if storage == "local" else f"memory://{uuid.uuid4().hex}"
        store = Store(uri)
        store.prepare()
        for earlier in range(number):
            label_run(store, world, earlier)
        lasting, store._files = store._files, MortalFiles(store._files, step)
        try:
            label_run(store, world, number)
            ended = True
        except Killed:
            pass
        store._files = lasting
        assert all(count == 1 for count in shown(store).values()), f"step {step}"
        committed = store.done("indoor", "room")
        store.recover()
        assert all(count == 1 for count in shown(store).values()), f"step {step}"
        assert keeps(committed, store.done("indoor", "room")), f"step {step}"
        resume(store, world, number)
        assert validate(uri).problems == (), f"step {step}"
        pd.testing.assert_frame_equal(content(uri), undisturbed[number])
        assert store.recover() == Recovered()
        step += 1
    assert step > 6


WORKER = """
import sys
sys.path[:0] = [{root!r}, {here!r}]
import conftest, test_crash, pyarrow.parquet, cv2
from pipeline.store import Store
store, world = Store({uri!r}), conftest.World()
store.prepare()
print("ready", flush=True)
while True:
    number = test_crash.reached(store)
    test_crash.resume(store, world, number)
    test_crash.resume(store, world, number + 1)
"""


def run_and_kill(uri, delay):
    """A process that labels and relabels for as long as it lives, killed `delay` seconds into its work."""
    here = Path(__file__).parent
    script = WORKER.format(root=str(here.parents[1]), here=str(here), uri=uri)
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def reached(store):
    """Number of the run that was under way when the store was left."""
    store.recover()
    return int(max(store.done("indoor", "room").values(), default="v0000-")[1:5])


def check_kills(uri, world, kills, seed):
    chance = random.Random(seed)
    store = Store(uri)
    store.prepare()
    for _ in range(kills):
        run_and_kill(uri, chance.uniform(0.0, 0.2))
        assert all(count == 1 for count in shown(store).values())
        committed = store.done("indoor", "room")
        store.recover()
        assert keeps(committed, store.done("indoor", "room"))
        assert all(count == 1 for count in shown(store).values())
    last = reached(store)
    assert last >= kills // 4, "the processes were killed before they did any work"
    resume(store, world, last)
    assert validate(uri).problems == ()
    assert not [path for path in store._files.list("") if path.endswith(".tmp")]
    undisturbed = Store(f"{uri}-undisturbed")
    undisturbed.prepare()
    label_run(undisturbed, world, last)
    pd.testing.assert_frame_equal(content(uri), content(undisturbed.uri))


def test_kill_9_at_random_moments(uri, world):
    check_kills(uri, world, kills=7, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(4))
def test_kill_9_many_times(uri, world, seed):
    check_kills(uri, world, kills=40, seed=seed)
