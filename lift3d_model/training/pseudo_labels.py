"""Classes that nobody drew: clusters of an operator's features over a scene, and the mistakes that are made of them."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from lift3d_model.sampling import sample_bilinear
from lift3d_model.training.examples import Example, blobs
from lift3d_model.training.scenes import CachedScene

CLASSES = 12
ROUNDS = 10
CELLS = 3000
FLIPPED = (0.1, 0.4)
"""Share of a view's classes that are another class in it, at least and at most."""
PATCHED = 0.08
"""Share of a view that wrong patches cover."""
WOBBLE_PX = (1.0, 5.0)
"""Standard deviation of the displacement of outlines, least and most."""


@lru_cache(maxsize=64)
def centroids(scene: CachedScene, name: str) -> Tensor:
    """[CLASSES, C] unit centroids of a scene's features, always the same ones."""
    rng = Generator().manual_seed(0)
    features = F.normalize(scene.tensor(f"features_{name}", range(len(scene.array("K")))), dim=1)
    cells = features.permute(0, 2, 3, 1).flatten(0, 2)
    cells = cells[torch.randperm(len(cells), generator=rng)[:CELLS]]
    centres = cells[:CLASSES].clone()
    for _ in range(ROUNDS):
        nearest = F.one_hot((cells @ centres.T).argmax(1), CLASSES).float()
        centres = F.normalize(nearest.T @ cells + 1e-6 * centres, dim=1)
    return centres


def classes_at(features: Tensor, pixels: Tensor, stride: int, centres: Tensor) -> Tensor:
    """Classes [E, R] of maps [E, C, h, w] at pixels [E, R, 2]."""
    values = sample_bilinear(features, pixels, stride)
    return torch.einsum("ecr,kc->ekr", values, centres.to(values.device)).argmax(1)


def mistaken(example: Example, view: Tensor, pixels: Tensor, classes: Tensor, rng: Generator) -> Tensor:
    """Classes [E, R] at pixels [E, R, 2] with each view's own mistakes: whole classes flip, patches are wrong."""
    count, size = len(example.chosen), example.views.images.shape[-2:]
    share = FLIPPED[0] + (FLIPPED[1] - FLIPPED[0]) * float(torch.rand(1, generator=rng))
    other = torch.randint(CLASSES, (count, CLASSES), generator=rng)
    flips = torch.rand(count, CLASSES, generator=rng) < share
    table = torch.where(flips, other, torch.arange(CLASSES)).to(view.device)
    patched = blobs(count, (size[0], size[1]), PATCHED, rng).to(view.device)
    wrong = torch.randint(CLASSES, (count,), generator=rng).to(view.device)
    x = pixels[..., 0].long().clamp(0, size[1] - 1)
    y = pixels[..., 1].long().clamp(0, size[0] - 1)
    found = table[view].gather(1, classes)
    return torch.where(patched[view[:, None], y, x], wrong[view][:, None], found)


def wobbled(example: Example, view: Tensor, pixels: Tensor, rng: Generator) -> Tensor:
    """Pixels [E, R, 2] moved by a smooth field of their view's own: outlines are not where they should be."""
    count, (height, width) = len(example.chosen), example.views.images.shape[-2:]
    level = WOBBLE_PX[0] + (WOBBLE_PX[1] - WOBBLE_PX[0]) * float(torch.rand(1, generator=rng))
    field = level * torch.randn(count, 2, max(height // 16, 2), max(width // 16, 2), generator=rng)
    grid = (2 * pixels / pixels.new_tensor([width, height]) - 1)[:, None]
    moved = F.grid_sample(field.to(view.device)[view], grid.float(), align_corners=False, padding_mode="border")
    return pixels + moved[:, :, 0].transpose(1, 2)
