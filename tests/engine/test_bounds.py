"""What does not grow with a scene: views that a worker holds at once, and how long workers stand idle."""

import heapq
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.benchmark.engine_case import EngineCase, spans_of
from pipeline.benchmark.engine_data import round_rooms
from pipeline.known import Known
from pipeline.plan import MOST_VIEWS, plan_scene
from pipeline.readers import load_scene, open_dataset
from pipeline.rounds import next_round
from pipeline.run import run_labeling
from pipeline.store import Store
from pipeline.survey import survey
from schemas.config import LabelingConfig, ReaderConfig

LENGTHS = {"a": 813, "b": 150, "c": 57, "d": 25, "e": 10, "f": 4}
"""13,000, 2,400, 900, 400, 150 and 65 frames, sixteen times fewer; chunks of 32 are chunks of 2."""


def _config(source: Path, store: Path, chunk: int, seconds: float = 0.0, method: str = "depth") -> LabelingConfig:
    operator = {"spec": "pipeline.benchmark.engine_data:Bands", "kwargs": {"seconds": seconds}}
    case = EngineCase("ray", str(source), str(store), operator, {"method": method}, workers=2, chunk=chunk)
    return case.config(f"{store}.events.jsonl")


@pytest.mark.parametrize("frames", [200, 1000])
def test_a_worker_never_holds_more_views_than_it_is_allowed_however_long_the_scene(tmp_path: Path, frames: int) -> None:
    source = round_rooms(tmp_path / "rooms", {"long": frames}, (12, 16))
    config = _config(source, tmp_path / "store", 32)
    scene = load_scene(open_dataset(str(source), ReaderConfig())[0], ReaderConfig())
    chunks = plan_scene(scene, config, "model", {}).chunks
    assert sum(len(chunk.targets) for chunk in chunks) == frames
    for chunk in chunks[:: max(1, len(chunks) // 6)]:
        known = Known(corrects=True)
        while (part := next_round(chunk, known, config.lift)) is not None:
            assert len(part.frames) <= MOST_VIEWS
            corrected = {**known.corrected, **dict.fromkeys(part.target_ids)}
            known = Known(corrects=True, corrected=corrected)  # type: ignore[arg-type]
        assert len(known.loaded(chunk, config.lift)) <= MOST_VIEWS
    assert frames == 200 or any(len(chunk.frames) > MOST_VIEWS for chunk in chunks)


@pytest.mark.parametrize("workers", [2, 8, 24])
def test_scenes_of_very_different_lengths_leave_no_worker_idle(tmp_path: Path, workers: int) -> None:
    """Chunks in the order in which they are handed out, each to the worker that is free first."""
    source = round_rooms(tmp_path / "rooms", LENGTHS, (8, 12))
    config = _config(source, tmp_path / "store", 2, method="none")
    costs = [len(chunk.targets) for chunk in survey(config, Store(config.store)).chunks]
    assert sum(costs) == sum(LENGTHS.values())
    free = [0.0] * workers
    for cost in costs:
        heapq.heappush(free, heapq.heappop(free) + cost)
    assert max(free) <= 1.3 * sum(costs) / workers


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("cluster")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")
def test_ray_leaves_no_worker_idle_either(tmp_path: Path, spread: Callable[[list[float]], float]) -> None:
    lengths = {name: -(-count // 4) for name, count in LENGTHS.items()}
    source = round_rooms(tmp_path / "rooms", lengths, (8, 12))
    config = _config(source, tmp_path / "store", 2, seconds=0.1, method="none")
    assert run_labeling(config).frames_labelled == sum(lengths.values())
    spans = spans_of(Path(f"{config.store}.events.jsonl"))
    busy = [sum(s.ended - s.began for s in spans if s.worker == worker) for worker in {s.worker for s in spans}]
    both = max(min(s.began for s in spans if s.worker == worker) for worker in {s.worker for s in spans})
    ended = max(span.ended for span in spans)
    work = sum(span.ended - max(span.began, both) for span in spans if span.ended > both)
    assert len(busy) == 2
    assert spread(busy) < 1.3
    assert ended - both <= 1.3 * work / 2


@pytest.fixture
def spread() -> Callable[[list[float]], float]:
    """The largest of some numbers relative to their mean."""
    return lambda values: max(values) * len(values) / sum(values)
