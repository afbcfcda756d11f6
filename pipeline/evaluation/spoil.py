"""Labels that are wrong differently in every view, made from ground truth: what lifting is there to repair."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.uint8]

SEED = 7
FLIPPED = 0.25
"""Share of a view's objects that are another class in it."""
PATCHES = 6
"""Patches of a wrong class in a view."""
SHAKE_PX = 2.5
"""Standard deviation of the displacement of outlines."""


def spoil_room(room: Path, out: Path) -> Path:
    """Write OUT/{scene}/{frame}.png for every labelled frame of a dataset in ScanNet's layout; always the same."""
    for path in sorted(room.glob("*/label-filt/*.png")):
        scene = path.parents[1]
        (out / scene.name).mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng([SEED, int(path.stem)])
        spoiled = spoil(_read(path), _read(scene / "instance-filt" / path.name), rng)
        cv2.imwrite(str(out / scene.name / path.name), spoiled)
    return out


def spoil(labels: NDArray[np.int32], objects: NDArray[np.int32], rng: np.random.Generator) -> Ids:
    """One view's [H, W] class ids, spoiled: whole objects flip class, outlines shake, patches take a wrong class."""
    classes = np.unique(labels[labels > 0])
    spoiled = labels.astype(np.uint8)
    for instance in np.unique(objects):
        if rng.random() < FLIPPED:
            spoiled[objects == instance] = rng.choice(classes)
    spoiled = _shaken(spoiled, rng)
    height, width = labels.shape
    for _ in range(PATCHES):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        radius = int(rng.integers(width // 40, width // 12))
        cv2.circle(spoiled, centre, radius, int(rng.choice(classes)), cv2.FILLED)
    return spoiled


def _shaken(ids: Ids, rng: np.random.Generator) -> Ids:
    height, width = ids.shape
    coarse = rng.normal(scale=SHAKE_PX, size=(2, height // 16, width // 16)).astype(np.float32)
    dx, dy = (cv2.resize(field, (width, height), interpolation=cv2.INTER_CUBIC) for field in coarse)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    return cv2.remap(ids, columns + dx, rows + dy, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE).astype(np.uint8)


def _read(path: Path) -> NDArray[np.int32]:
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), dtype=np.int32)
