"""A truth table of what a label depends on."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipeline.fingerprint import model_fingerprint
from pipeline.plan import choose_sources, plan_scene
from schemas.camera import Camera
from schemas.config import LabelingConfig, parse_config
from schemas.scene import Asset, Frame, Scene

Build = Callable[..., Scene]


def config(**lift: Any) -> LabelingConfig:
    return parse_config({"source": "/in", "store": "/out", "lift": {"sources": 3, "method": "depth", **lift}})


def fingerprints(scene: Scene, settings: LabelingConfig, operator: str = "op", weights: str | None = None) -> list[str]:
    """One a frame, in order."""
    model = model_fingerprint(settings.lift, operator, weights)
    return list(plan_scene(scene, settings, model, {}).fingerprints.values())


def changed(scene: Scene, index: int, **fields: Any) -> Scene:
    """The scene with one frame altered."""
    frames = list(scene.frames)
    frames[index] = replace(frames[index], **fields)
    return replace(scene, frames=tuple(frames))


def users_of(scene: Scene, settings: LabelingConfig, index: int) -> set[int]:
    """Frames that have this one as a source."""
    return {view for view, sources in enumerate(choose_sources(scene.frames, settings.lift)) if index in sources}


LIFT_CHANGES = {
    "method depth -> rgb": ({"method": "depth"}, {"method": "rgb"}, True),
    "method depth -> none": ({"method": "depth"}, {"method": "none"}, True),
    "method depth -> auto, all have depth": ({"method": "depth"}, {"method": "auto"}, False),
    "mode": ({"mode": "label"}, {"mode": "novel"}, True),
    "sources": ({"sources": 3}, {"sources": 4}, True),
    "self_weight": ({"self_weight": 1.0}, {"self_weight": 2.0}, True),
    "self_weight of a novel view": ({"mode": "novel"}, {"mode": "novel", "self_weight": 2.0}, False),
    "planes of sensor depth": ({"planes": 64}, {"planes": 32}, False),
    "planes of a sweep": ({"method": "rgb"}, {"method": "rgb", "planes": 32}, True),
    "near of a sweep": ({"method": "rgb"}, {"method": "rgb", "near": 0.1}, True),
    "far of a sweep": ({"method": "rgb"}, {"method": "rgb", "far": 99.0}, True),
    "samples": ({"samples": 4}, {"samples": 8}, True),
    "samples of a sweep": ({"method": "rgb"}, {"method": "rgb", "samples": 8}, True),
    "samples of the raw prediction": ({"method": "none"}, {"method": "none", "samples": 8}, False),
    "mode of the raw prediction": ({"method": "none"}, {"method": "none", "mode": "novel"}, False),
}


@pytest.mark.parametrize(("before", "after", "matters"), LIFT_CHANGES.values(), ids=LIFT_CHANGES.keys())
def test_lift_settings(scene: Build, before: dict[str, Any], after: dict[str, Any], matters: bool) -> None:
    old, new = fingerprints(scene(), config(**before)), fingerprints(scene(), config(**after))
    assert [a != b for a, b in zip(old, new, strict=True)] == [matters] * len(old)


def test_operator_and_checkpoint(scene: Build) -> None:
    plain = fingerprints(scene(), config())
    assert not set(plain) & set(fingerprints(scene(), config(), operator="another"))
    assert not set(plain) & set(fingerprints(scene(), config(), weights="abc"))
    raw = config(method="none")
    assert fingerprints(scene(), raw) == fingerprints(scene(), raw, weights="abc")


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"source": "/moved", "store": "/other"},
        {"plan": {"chunk": 1}},
        {"operator": {"batch_size": 16}},
        {"engine": {"kind": "local", "workers": 3, "attempts": 5}},
    ],
)
def test_what_is_not_part_of_a_label(scene: Build, elsewhere: dict[str, Any]) -> None:
    here = config()
    there = parse_config({**here.model_dump(mode="json"), **elsewhere})
    assert fingerprints(scene(), here) == fingerprints(scene(root="s3://bucket/moved"), there)


@pytest.mark.parametrize(
    "fields",
    [
        {"id": "renamed"},
        {"image": Asset("/nowhere/color/4.jpg", size=7)},
        {"depth": Asset("/nowhere/depth/4.png", size=7, scale=1000.0)},
        {"depth": Asset("/nowhere/depth/4.png", size=504, scale=5000.0)},
    ],
)
def test_a_frame_matters_to_itself_and_to_whoever_looks_at_it(scene: Build, fields: dict[str, Any]) -> None:
    before = fingerprints(scene(), config())
    after = fingerprints(changed(scene(), 4, **fields), config())
    differing = {i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b}
    first = users_of(scene(), config(), 4)
    assert differing == {4} | first | set().union(*(users_of(scene(), config(), user) for user in first))


def test_a_ground_truth_label_does_not_matter(scene: Build) -> None:
    labelled = changed(scene(), 4, label=Asset("/nowhere/label/4.png", size=1))
    assert fingerprints(scene(), config()) == fingerprints(labelled, config())


def test_a_camera_matters_to_the_last_bit(scene: Build) -> None:
    camera = scene().frames[4].camera
    nudged = Camera(np.nextafter(camera.K, np.inf), camera.world_from_cam, camera.height, camera.width)
    before = fingerprints(scene(), config(method="none"))
    after = fingerprints(changed(scene(), 4, camera=nudged), config(method="none"))
    assert [a != b for a, b in zip(before, after, strict=True)] == [i == 4 for i in range(12)]


def test_a_swept_depth_depends_on_the_sources_of_the_sources_sources(scene: Build) -> None:
    settings = config(method="rgb", sources=2)
    first = users_of(scene(), settings, 4)
    second = set().union(*(users_of(scene(), settings, user) for user in first))
    third = set().union(*(users_of(scene(), settings, user) for user in second))
    before = fingerprints(scene(), settings)
    after = fingerprints(changed(scene(), 4, image=Asset("/nowhere/color/4.jpg", size=7)), settings)
    differing = {i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b}
    assert differing == {4} | first | second | third
    assert len(differing) < 12


def test_a_depth_map_that_is_not_used_does_not_matter(scene: Build) -> None:
    settings = config(method="rgb")
    bare: tuple[Frame, ...] = scene(without_depth=tuple(range(12))).frames
    assert fingerprints(scene(), settings) == fingerprints(Scene("room", bare), settings)
