"""A driver that is killed or told to stop: what it committed stays, the next run makes only what is missing."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from pipeline.run import run_labeling
from pipeline.store import validate
from schemas.config import LabelingConfig

Rooms = Callable[..., Path]
Build = Callable[..., LabelingConfig]
Labels = Callable[[LabelingConfig], pd.DataFrame]

FRAMES, CHUNK = 16, 2


def start(config: LabelingConfig) -> "subprocess.Popen[bytes]":
    """`run_labeling` in a process of its own."""
    program = (
        "import sys; from pipeline.run import run_labeling; from schemas.config import LabelingConfig;"
        "run_labeling(LabelingConfig.model_validate_json(sys.argv[1]))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program, config.model_dump_json()]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)


def committed(config: LabelingConfig) -> int:
    """Frames whose chunk is committed."""
    return CHUNK * len(list(Path(config.store, "_commits").rglob("*.json")))


def wait_for_commits(config: LabelingConfig, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 60
    while committed(config) == 0:
        assert process.poll() is None, process.communicate()[1].decode()
        assert time.monotonic() < deadline, "nothing was committed in a minute"
        time.sleep(0.05)


def settled(config: LabelingConfig) -> int:
    """Committed frames once nobody commits any more: a Ray worker outlives its driver for a moment."""
    before = -1
    while (now := committed(config)) != before:
        before = now
        time.sleep(1.0)
    return now


@pytest.mark.parametrize(
    ("engine", "number"),
    [
        pytest.param({"kind": "ray", "workers": 1}, signal.SIGKILL, marks=pytest.mark.ray, id="ray, kill -9"),
        pytest.param({"kind": "local"}, signal.SIGKILL, id="local, kill -9"),
        pytest.param({"kind": "local"}, signal.SIGTERM, id="local, kill"),
        pytest.param({"kind": "local"}, signal.SIGINT, id="local, Ctrl-C"),
    ],
)
def test_the_next_run_makes_what_is_missing_and_nothing_else(
    rooms: Rooms, config: Build, labels: Labels, fragile: str, engine: dict[str, object], number: signal.Signals
) -> None:
    rooms(a=FRAMES)

    def settings(store: str, seconds: float, **engine: object) -> LabelingConfig:
        operator = {"spec": fragile, "kwargs": {"seconds": seconds}, "batch_size": 1}
        return config(store, operator=operator, lift={"method": "none"}, plan={"chunk": CHUNK}, engine=engine)

    with start(settings("broken", 0.3, **engine)) as process:
        wait_for_commits(settings("broken", 0.3), process)
        process.send_signal(number)
        process.communicate(timeout=30)
    assert process.returncode != 0
    survived = settled(settings("broken", 0.3))
    assert 0 < survived < FRAMES

    second = run_labeling(settings("broken", 0.0))
    assert (second.frames_resumed, second.frames_labelled) == (survived, FRAMES - survived)
    run_labeling(settings("undisturbed", 0.0))
    pd.testing.assert_frame_equal(labels(settings("broken", 0)), labels(settings("undisturbed", 0)))
    assert not validate(settings("broken", 0.0).store).problems
