"""A small cache written by hand: noise images, flat depth, two feature maps. One thread, since tensors are small."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

VIEWS, SIZE, STRIDE = 8, (24, 32), 8


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Two scenes of a wall two metres away, seen from cameras in a row; of the second, views 6 and 7 are held out."""
    folder = tmp_path / "cache"
    for number, name in enumerate(("a", "b")):
        _write_scene(folder / name, np.random.default_rng(number))
    (folder / "split.json").write_text(json.dumps({"a": VIEWS, "b": 6}))
    return folder


def _write_scene(folder: Path, rng: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    height, width = SIZE
    poses = np.stack([np.eye(4)] * VIEWS)
    poses[:, 0, 3] = 0.05 * np.arange(VIEWS)
    cells = (height // STRIDE, width // STRIDE)
    arrays = {
        "images": rng.integers(0, 255, (VIEWS, 3, *SIZE), dtype=np.uint8),
        "K": np.stack([[[30.0, 0, width / 2], [0, 30.0, height / 2], [0, 0, 1]]] * VIEWS),
        "poses": poses,
        "sizes": np.array([SIZE] * VIEWS),
        "sources": np.stack([[s for s in range(VIEWS) if s != v] + [-1] for v in range(VIEWS)]),
        "depth": np.full((VIEWS, *SIZE), 2.0, np.float16),
        "swept": np.stack([np.full((VIEWS, *SIZE), v, np.float16) for v in (2.0, 0.03)], axis=1),
        "features_f": rng.normal(size=(VIEWS, 5, *cells)).astype(np.float16),
        "features_g": rng.normal(size=(VIEWS, 3, *cells)).astype(np.float16),
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    (folder / "scene.json").write_text(json.dumps({"views": VIEWS, "strides": {"f": STRIDE, "g": STRIDE}}))
