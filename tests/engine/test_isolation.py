"""A view that ends its worker is found, set aside with a reason, and costs no other frame."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline.run import run_labeling
from pipeline.store import read_quarantine, validate
from schemas.config import LabelingConfig

Rooms = Callable[..., Path]
Build = Callable[..., LabelingConfig]
Labels = Callable[[LabelingConfig], pd.DataFrame]
Settings = Callable[..., LabelingConfig]
InAProcess = Callable[[LabelingConfig], int | None]

DEADLY = '''
import ctypes
import os
import signal
import time

import torch

from own_models.operators import Fragile


class Deadly(Fragile):
    """Does to its process what `faults` (frame -> how) says, and writes down which frames it is given when."""

    def __init__(self, faults=(), log="", stage="encode", **rest):
        super().__init__(**rest)
        self.faults, self.log, self.stage = dict(faults), log, stage

    def encode(self, batch):
        with open(self.log, "a") as file:
            file.write(" ".join(batch.frames) + "\\n")
        for frame in batch.frames:
            self._suffer(self.faults.get(frame), len(batch.frames))
        return super().encode(batch)

    def _suffer(self, fault, count):
        if fault == "exit":
            os._exit(7)
        if fault == "segfault":
            ctypes.string_at(0)  # in this thread: a signal that is sent may be another's, while this one goes on
        if fault == "killed":  # what the kernel does when memory runs out
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "hang":
            time.sleep(600)
        if fault == "deaf":
            while True:
                try:
                    time.sleep(600)
                except Exception:
                    pass
        if fault == "raise":
            raise RuntimeError("no luck")
        if fault == "once" and not os.path.exists(self.log + ".once"):
            open(self.log + ".once", "w").close()
            os._exit(7)
        if fault == "nan":
            raise ValueError("not a number")

    def fingerprint(self):
        return f"deadly-{self.version}"
'''


@pytest.fixture(scope="session")
def deadly(fragile: str, importable: Path) -> str:
    """SPEC of an operator that can do anything to its process."""
    (importable / "own_models" / "deadly.py").write_text(DEADLY, encoding="utf-8")
    return "own_models.deadly:Deadly"


@pytest.fixture
def settings(config: Build, deadly: str, tmp_path: Path) -> Callable[..., LabelingConfig]:
    """A run with the deadly operator; `faults` is frame -> what happens there."""

    def build(
        faults: dict[str, str], store: str = "store", lift: dict[str, Any] | None = None, **rest: Any
    ) -> LabelingConfig:
        kwargs = {"faults": faults, "log": str(tmp_path / "calls.txt")}
        return config(store, operator={"spec": deadly, "kwargs": kwargs}, lift=lift or {"method": "none"}, **rest)

    return build


@pytest.fixture(scope="session")
def in_a_process(deadly: str) -> Callable[[LabelingConfig], int | None]:
    """`run_labeling` in a process of its own: the code that it ended with, 0 for any end in good order."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "pipeline.labeler", "pipeline.engines.worker", "pipeline.run"])

    def run(config: LabelingConfig) -> int | None:
        process = context.Process(target=run_labeling, args=(config,))
        process.start()
        process.join(100)
        return process.exitcode

    return run


def notes(config: LabelingConfig) -> list[Path]:
    """What is being tried, or was given up."""
    return list(Path(config.store, "_attempts").rglob("*.json"))


def times(tmp_path: Path, frame: str) -> int:
    """How often the operator was given a frame."""
    return sum(frame in line.split() for line in (tmp_path / "calls.txt").read_text().splitlines())


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")
def test_a_ray_worker_that_dies_costs_the_frame_that_killed_it(
    rooms: Rooms, settings: Settings, labels: Labels, tmp_path: Path
) -> None:
    """Frame 4 is also a source of others: they are labelled without it."""
    rooms(a=8)
    lift, plan = {"sources": 3}, {"chunk": 8}
    engine = {"kind": "ray", "workers": 1, "attempts": 1}
    killed = settings({"4": "killed"}, engine=engine, lift=lift, plan=plan)
    summary = run_labeling(killed)
    assert (summary.frames_labelled, summary.frames_quarantined, summary.exit_code) == (7, 1, 3)
    row = read_quarantine(killed.store).iloc[0]
    assert list(row[["frame", "stage", "reason", "attempts"]]) == ["4", "encode", "worker_died", 1]
    raised = settings({"4": "raise"}, "raised", lift=lift, plan=plan)
    assert run_labeling(raised).frames_quarantined == 1
    pd.testing.assert_frame_equal(labels(killed), labels(raised))
    assert not validate(killed.store).problems
    assert len(notes(killed)) == 1
    assert times(tmp_path, "4") == 4  # once among others and once alone, then once alone and once among others


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")
@pytest.mark.timeout(600)
def test_every_way_to_end_a_worker_is_survived(
    rooms: Rooms, settings: Settings, labels: Labels, tmp_path: Path
) -> None:
    """In chunks of four that share views: whatever ends a worker in one chunk does so in its neighbours."""
    rooms(a=12)
    faults = {"1": "exit", "3": "segfault", "5": "killed", "6": "hang", "8": "deaf", "9": "raise", "10": "once"}
    engine = {"kind": "ray", "workers": 2, "frame_timeout_s": 3}
    summary = run_labeling(settings(faults, engine=engine, lift={"sources": 4}))
    assert (summary.frames_labelled, summary.frames_quarantined) == (6, 6)
    rows = read_quarantine(settings(faults).store).set_index("frame")
    reasons = rows["reason"].to_dict()
    assert {frame: reasons[frame] for frame in "135"} == dict.fromkeys("135", "worker_died")
    assert (reasons["6"], reasons["8"], reasons["9"]) == ("timeout", "timeout", "operator_failed")
    assert set(rows["attempts"]) == {2}
    assert rows.loc["9", "traceback_hash"]
    assert sorted(labels(settings(faults))["frame"], key=int) == ["0", "2", "4", "7", "10", "11"]


def test_tries_are_remembered_when_the_driver_dies_with_the_work(
    rooms: Rooms, settings: Settings, labels: Labels, in_a_process: InAProcess, tmp_path: Path
) -> None:
    """The local engine ends with its operator: each run finds out more, and the last one is left with the culprit."""
    rooms(a=6)
    local = settings({"2": "exit"})
    codes = [in_a_process(local) for _ in range(4)]
    assert codes == [7, 7, 7, 0]
    row = read_quarantine(local.store).iloc[0]
    assert list(row[["frame", "reason", "attempts"]]) == ["2", "worker_died", 2]
    assert sorted(labels(local)["frame"]) == ["0", "1", "3", "4", "5"]
    assert times(tmp_path, "2") == 3  # once among others, twice alone
    assert not validate(local.store).problems


def test_a_frame_that_was_given_up_is_left_alone_until_something_changes(
    rooms: Rooms, settings: Settings, labels: Labels, in_a_process: InAProcess, tmp_path: Path
) -> None:
    rooms(a=4)
    local = settings({"2": "exit"}, engine={"attempts": 1})
    assert [in_a_process(local) for _ in range(3)] == [7, 7, 0]
    before = times(tmp_path, "2")
    idle = run_labeling(local)
    assert (idle.frames_labelled, idle.frames_resumed, idle.frames_quarantined, idle.exit_code) == (0, 3, 1, 3)
    assert times(tmp_path, "2") == before
    assert len(read_quarantine(local.store)) == 1

    mended = settings({}, engine={"attempts": 1})
    retried = run_labeling(mended, only_quarantined=True)
    assert (retried.frames_labelled, retried.frames_quarantined, retried.exit_code) == (1, 0, 0)
    assert sorted(labels(mended)["frame"]) == ["0", "1", "2", "3"]
    assert read_quarantine(mended.store).empty
    assert not notes(mended)


def test_a_new_version_of_the_operator_gets_new_tries(
    rooms: Rooms, settings: Settings, labels: Labels, in_a_process: InAProcess
) -> None:
    rooms(a=3)
    local = settings({"2": "exit"}, engine={"attempts": 1})
    assert [in_a_process(local) for _ in range(3)] == [7, 7, 0]
    kwargs = {**local.operator.kwargs, "faults": {}, "version": 2}
    newer = local.model_copy(update={"operator": local.operator.model_copy(update={"kwargs": kwargs})})
    assert run_labeling(newer).frames_labelled == 3
    assert read_quarantine(newer.store).empty


def test_only_quarantined_frames_are_retried_and_no_others(rooms: Rooms, settings: Settings, labels: Labels) -> None:
    room = rooms(a=5, b=4)
    failing = settings({"1": "raise"})
    assert run_labeling(failing).frames_quarantined == 2
    before = labels(failing).set_index(["scene", "frame"])
    (room / "a" / "color" / "3.jpg").write_bytes((room / "a" / "color" / "0.jpg").read_bytes())
    run = run_labeling(settings({}), only_quarantined=True)
    assert (run.frames_labelled, run.frames_quarantined) == (2, 0)
    after = labels(failing).set_index(["scene", "frame"])
    assert set(after.index) - set(before.index) == {("a", "1"), ("b", "1")}
    pd.testing.assert_frame_equal(after.loc[before.index], before)
    assert run_labeling(settings({}), only_quarantined=True).scenes == 0


def test_a_hung_operator_is_interrupted_and_the_run_goes_on(rooms: Rooms, settings: Settings, labels: Labels) -> None:
    rooms(a=4)
    local = settings({"2": "hang"}, engine={"kind": "local", "frame_timeout_s": 0.4})
    summary = run_labeling(local)
    assert (summary.frames_labelled, summary.frames_quarantined) == (3, 1)
    row = read_quarantine(local.store).iloc[0]
    assert list(row[["frame", "stage", "reason", "attempts"]]) == ["2", "encode", "timeout", 2]
    assert "engine.frame_timeout_s" in row["message"]
