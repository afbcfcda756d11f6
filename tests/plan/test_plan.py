"""Plans: every frame once, with all the views that it needs and no dependence on how the scene is cut."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.plan import DEPTH_FRAMES, ScenePlan, choose_sources, depth_quantiles, halves, plan_scene
from schemas.config import LabelingConfig, LiftConfig, parse_config
from schemas.errors import Reason
from schemas.scene import Asset, Chunk, Frame, FrameIssue, Scene, chunk_from_json, chunk_to_json

Build = Callable[..., Scene]


def config(chunk: int = 4, **lift: Any) -> LabelingConfig:
    values = {"source": "/in", "store": "/out", "plan": {"chunk": chunk}, "lift": {"sources": 3, **lift}}
    return parse_config(values)


def sources_by_id(plan: ScenePlan) -> dict[str, list[str]]:
    """Target id -> ids of its sources, as its chunk carries them."""
    return {
        chunk.frames[target].id: [chunk.frames[s].id for s in chunk.sources[target]]
        for chunk in plan.chunks
        for target in chunk.targets
    }


def plain(chunk: Chunk) -> dict[str, Any]:
    return chunk_to_json(chunk)


@pytest.mark.parametrize("method", ["depth", "rgb", "auto", "none"])
@pytest.mark.parametrize("chunk", [1, 5, 100])
def test_every_frame_is_a_target_once_and_sources_do_not_depend_on_chunks(
    scene: Build, method: str, chunk: int
) -> None:
    room = scene(without_depth=(3, 7))
    plan = plan_scene(room, config(chunk, method=method), "model", {})
    assert [frame for c in plan.chunks for frame in c.target_ids] == [str(i) for i in range(12)]
    chosen = choose_sources(room.frames, config(method=method).lift)
    assert sources_by_id(plan) == {str(i): [str(s) for s in chosen[i]] for i in range(12)}
    assert plan.targets == plan.frames == 12


@pytest.mark.parametrize("chunk", [1, 5, 100])
def test_whatever_is_swept_brings_its_own_full_source_list(scene: Build, chunk: int) -> None:
    room = scene(without_depth=(3, 7))
    chosen = choose_sources(room.frames, config().lift)
    for c in plan_scene(room, config(chunk), "model", {}).chunks:
        looked_at = {*c.targets, *(s for target in c.targets for s in c.sources[target])}
        for view in looked_at:
            if c.frames[view].depth is None:
                ids = [c.frames[s].id for s in c.sources[view]]
                assert ids == [str(s) for s in chosen[int(c.frames[view].id)]]


@pytest.mark.parametrize("corrects", [False, True])
def test_a_chunk_of_sensor_depth_carries_what_is_looked_at_and_nothing_else(scene: Build, corrects: bool) -> None:
    room = scene()
    chosen = choose_sources(room.frames, config().lift)
    for c in plan_scene(room, config(2), "model", {}, corrects=corrects).chunks:
        needed = set(c.target_ids)
        for _ in range(1 + corrects):
            needed |= {str(s) for view in needed for s in chosen[int(view)]}
        assert {frame.id for frame in c.frames} == needed
        assert [int(frame.id) for frame in c.frames] == sorted(int(i) for i in needed)


def test_the_raw_prediction_needs_no_other_view(scene: Build) -> None:
    plan = plan_scene(scene(), config(method="none"), "model", {})
    assert all(len(c.frames) == len(c.targets) and not any(c.sources) for c in plan.chunks)


@given(done=st.sets(st.integers(0, 11)), chunk=st.integers(1, 13))
@settings(max_examples=40, deadline=None)
def test_what_is_done_is_not_done_again_and_the_rest_is_as_if_nothing_was(done: set[int], chunk: int) -> None:
    room = _room()
    whole = plan_scene(room, config(chunk, method="none"), "model", {})
    labels = {str(i): whole.fingerprints[str(i)] for i in done}
    rest = plan_scene(room, config(chunk, method="none"), "model", labels)
    assert [t for c in rest.chunks for t in c.target_ids] == [str(i) for i in range(12) if i not in done]
    assert set(rest.resumed) == set(labels)
    assert rest.fingerprints == whole.fingerprints
    untouched = {c.name: plain(c) for c in whole.chunks if not done & {int(t) for t in c.target_ids}}
    assert {c.name: plain(c) for c in rest.chunks if c.name in untouched} == untouched
    assert not any(c.staged for c in rest.chunks)


def test_a_label_of_other_settings_is_replaced_under_cover(scene: Build) -> None:
    plan = plan_scene(scene(), config(4), "model", {"5": "another fingerprint"})
    assert [c.staged for c in plan.chunks] == [False, True, False]
    assert plan.resumed == ()


def test_frames_of_an_earlier_dataset_do_not_disturb(scene: Build) -> None:
    plan = plan_scene(scene(), config(), "model", {"gone": "fingerprint"})
    assert plan.targets == 12
    assert not any(c.staged for c in plan.chunks)


def test_names_sort_like_frames_and_payloads_round_trip(scene: Build) -> None:
    chunks = plan_scene(scene(), config(1), "model", {}).chunks
    assert sorted(c.name for c in chunks) == [c.name for c in chunks]
    assert all(plain(chunk_from_json(plain(c))) == plain(c) for c in chunks)


def test_issues_are_handed_on_and_an_empty_scene_is_an_empty_plan() -> None:
    issue = FrameIssue("7", Reason.POSE_NOT_FINITE, "tracking lost")
    plan = plan_scene(Scene("room", (), (issue,)), config(), "model", {})
    assert (plan.issues, plan.chunks, plan.frames) == ((issue,), (), 0)


def test_depths_come_from_a_few_maps_and_survive_damaged_ones(scene: Build, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = []
    for i, frame in enumerate(scene(40).frames):
        path = tmp_path / f"{i}.png"
        depth = rng.uniform(1000, 3000, (60, 80)).astype(np.uint16)
        depth[:10] = 0
        path.write_bytes(b"damaged" if i == 0 else cv2.imencode(".png", depth)[1].tobytes())
        frames.append(Frame(frame.id, frame.camera, frame.image, Asset(str(path), scale=1000.0), frame.camera))
    found = depth_quantiles(frames, LiftConfig())
    assert found is not None
    assert np.allclose(found, (1.2, 2.0, 2.8), atol=0.05)
    assert depth_quantiles(frames, LiftConfig(method="rgb")) is None
    for path in sorted(tmp_path.iterdir()):
        path.write_bytes(b"damaged")
    assert depth_quantiles(frames, LiftConfig()) is None
    assert DEPTH_FRAMES < 40


def test_near_and_far_stand_in_for_depth_maps(scene: Build) -> None:
    lift = LiftConfig(method="rgb", near=1.0, far=4.0)
    assert depth_quantiles(scene().frames, lift) == pytest.approx((1.0, 2.0, 4.0))


def _room() -> Scene:
    """Twelve frames without sources to choose, for properties of the bookkeeping."""
    from schemas.camera import Camera

    camera = Camera(np.eye(3), np.eye(4), 4, 4)
    return Scene("room", tuple(Frame(str(i), camera, Asset(f"/nowhere/{i}.jpg")) for i in range(12)))


@pytest.mark.parametrize(
    ("lift", "without_depth"),
    [({}, ()), ({"mode": "novel"}, ()), ({"method": "rgb"}, ()), ({"method": "none"}, ()), ({}, (1, 5, 6))],
)
def test_half_a_chunk_is_the_chunk_that_would_have_been_planned(
    scene: Build, lift: dict[str, Any], without_depth: tuple[int, ...]
) -> None:
    """Whatever halving leaves out, no label of the half depends on."""
    room = scene(24, without_depth)
    for corrects in (True, False):
        whole = plan_scene(room, config(16, **lift), "model", {}, corrects=corrects).chunks
        small = plan_scene(room, config(8, **lift), "model", {}, corrects=corrects).chunks
        parts = halves(whole[0], config(16, **lift).lift, corrects=corrects)
        for half, planned in zip(parts, small, strict=False):
            assert replace(half, name=planned.name) == planned
