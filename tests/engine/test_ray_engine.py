"""The Ray engine on a real cluster of this machine: the same labels, and what it adds: surviving workers."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pandas as pd
import pytest

from pipeline.run import run_labeling
from schemas.config import LabelingConfig
from schemas.errors import EngineError, OperatorError

pytestmark = [
    pytest.mark.ray,
    pytest.mark.usefixtures("cluster"),
    # Ray Data sets options of its own that it has deprecated.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
]

Rooms = Callable[..., Path]
Build = Callable[..., LabelingConfig]
Labels = Callable[[LabelingConfig], pd.DataFrame]


def ray_engine(**settings: object) -> dict[str, object]:
    return {"kind": "ray", "workers": 2, **settings}


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the pictures that this process decodes; workers are other processes."""
    shapes: list[tuple[int, ...]] = []
    decode = cv2.imdecode

    def noted(data: Any, flags: int) -> Any:
        picture = decode(data, flags)
        shapes.append(picture.shape)
        return picture

    monkeypatch.setattr(cv2, "imdecode", noted)
    return shapes


def test_both_engines_make_the_same_store_and_the_driver_of_ray_sees_no_image(
    rooms: Rooms, config: Build, labels: Labels, decoded: list[tuple[int, ...]]
) -> None:
    """Planning looks at up to twelve depth maps a scene: at what depths there is something to see."""
    rooms(a=9, b=5)
    local = config("local")
    ray = config("ray", engine=ray_engine())
    assert run_labeling(local).frames_labelled == 14
    assert any(len(shape) == 3 for shape in decoded)
    decoded.clear()
    assert run_labeling(ray).frames_labelled == 14
    assert all(len(shape) == 2 for shape in decoded)
    assert len(decoded) <= 9 + 5
    pd.testing.assert_frame_equal(labels(local), labels(ray))
    names = [sorted(p.relative_to(c.store) for p in Path(c.store, "labels").rglob("*.parquet")) for c in (local, ray)]
    assert names[0] == names[1]


@pytest.mark.slow
def test_a_run_that_stands_still_says_what_it_waits_for(rooms: Rooms, config: Build, fragile: str) -> None:
    rooms(a=2)
    slow = {"spec": fragile, "kwargs": {"seconds": 300.0}}
    settings = config(operator=slow, lift={"method": "none"}, engine=ray_engine(workers=1, no_progress_s=40))
    with pytest.raises(
        EngineError, match=r"no chunk finished for 40 s.*a/000000 by \S+ for \d+ s.*engine\.no_progress_s"
    ):
        run_labeling(settings)


def test_an_error_of_a_worker_reaches_the_driver_as_it_is(rooms: Rooms, config: Build, fragile: str) -> None:
    rooms(a=2)
    broken = {"spec": fragile, "kwargs": {"driver": os.getpid()}}
    with pytest.raises(OperatorError, match="only the driver can build this"):
        run_labeling(config(operator=broken, lift={"method": "none"}, engine=ray_engine(workers=1)))


@pytest.mark.slow
def test_workers_that_cannot_start_end_the_run(rooms: Rooms, config: Build, fragile: str) -> None:
    rooms(a=2)
    broken = {"spec": fragile, "kwargs": {"driver": os.getpid(), "crash": True}}
    with pytest.raises(EngineError, match="worker died 2 times before it could start"):
        run_labeling(config(operator=broken, lift={"method": "none"}, engine=ray_engine(workers=1)))


def test_what_does_not_fit_the_cluster_is_refused_before_any_work(rooms: Rooms, config: Build) -> None:
    rooms(a=2)
    with pytest.raises(EngineError, match="engine.workers to at most 2"):
        run_labeling(config(engine=ray_engine(workers=3)))
    assert not Path(config().store).exists()


def test_workers_keep_few_heaps_of_what_is_free_and_as_many_as_the_user_says(
    rooms: Rooms, config: Build, fragile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms(a=2)
    for said, expected in ((None, "1"), ("5", "5")):
        if said:
            monkeypatch.setenv("MALLOC_ARENA_MAX", said)
        operator = {"spec": fragile, "kwargs": {"driver": os.getpid(), "environment": {"MALLOC_ARENA_MAX": expected}}}
        settings = config(f"heaps-{expected}", operator=operator, lift={"method": "none"}, engine=ray_engine(workers=1))
        assert run_labeling(settings).frames_labelled == 2
