"""Depth and normals through the labeler: lifted ones are nearer to the truth than what each view said."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.assets import decode_depth
from pipeline.operators import build_operator

CROSSED = 3
"""A pixel's border, where neighbours may be of another wall."""


def noisy(scene: Any, folder: Path, kind: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """True maps and what each view says of them, written for `precomputed`; by frame."""
    rng, truth, said = np.random.default_rng(5), {}, {}
    (folder / scene.id).mkdir(parents=True)
    for frame in scene.frames:
        depth = decode_depth(frame.depth)[None]
        if kind == "depth":
            true = depth
            found = depth * (1 + rng.normal(0, 0.05)) * (1 + rng.normal(0, 0.03, depth.shape))
        else:
            true = normals_of(depth[0], frame.camera)
            found = true + rng.normal(0, 0.3, true.shape)
            found /= np.linalg.norm(found, axis=0)
        truth[frame.id], said[frame.id] = true, found
        np.save(folder / scene.id / f"{frame.id}.npy", found.astype(np.float32))
    return truth, said


def normals_of(depth: np.ndarray, camera: Any) -> np.ndarray:
    """[3, H, W] from the points of neighbouring pixels, towards the camera."""
    y, x = np.mgrid[: depth.shape[0], : depth.shape[1]] + 0.5
    points = np.linalg.inv(camera.K) @ np.stack([x, y, np.ones_like(x)]).reshape(3, -1) * depth.ravel()
    down, right = np.gradient(points.reshape(3, *depth.shape), axis=(1, 2))
    normal = np.cross(down, right, axis=0)
    return normal / np.linalg.norm(normal, axis=0)


@pytest.mark.parametrize("kind", ["depth", "normals"])
def test_lifting_brings_them_nearer_to_the_truth(sound_room: Any, label: Any, tmp_path: Path, kind: str) -> None:
    truth, said = noisy(sound_room.scene, tmp_path, kind)
    spoken = {"depth": "scalar", "normals": "features"}[kind]
    operator = build_operator(f'{kind}(precomputed:"{tmp_path}"(; kind="{spoken}"))')
    records, quarantined = label(sound_room, operator, method="depth")
    assert not quarantined
    crop = (slice(None), slice(CROSSED, -CROSSED), slice(CROSSED, -CROSSED))
    before, after = [], []
    for frame, true in truth.items():
        lifted = records[frame].value.reshape(true.shape)
        before.append(np.median(np.abs(said[frame] - true)[crop]))
        after.append(np.median(np.abs(lifted - true)[crop]))
        assert 0 < records[frame].consistency < 1
    assert np.mean(after) < 0.7 * np.mean(before)
    if kind == "normals":
        lengths = np.linalg.norm(lifted, axis=0)
        assert np.abs(lengths - 1).max() < 1e-3
