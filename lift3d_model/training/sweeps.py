"""Sweeps that a refiner learns from: every view of a cached scene once, from spoiled images and few or many sources.

They are made when first asked for and kept beside the scene's other arrays, as `sweeps<variant>_<what>.npy`.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from lift3d_model.density import COARSE_PIXELS, WORKING_PIXELS, Sweep, SweepSettings, shrink, sweep
from lift3d_model.proposal import SWEPT_SOURCES, working_depth
from lift3d_model.sampling import pad_to
from lift3d_model.training.scenes import CachedScene
from lift3d_model.training.state import write_whole
from lift3d_model.views import Views

FEWEST, MOST = 3, 12
"""Source views of a sweep."""
PARTS = ("images", "K", "poses", "sizes", "truth", "position", "planes", "asked", "clues")
"""Arrays of a variant; the last one is written last."""


@dataclass(frozen=True)
class SweptScene:
    """All sweeps of one variant of a scene, over the views that this part of the data may look at."""

    scene: CachedScene
    variant: int

    def load(self, name: str, row: int) -> Tensor:
        """One view's row of an array, as float32 or what it is."""
        value = torch.from_numpy(np.array(self.scene.array(f"sweeps{self.variant}_{name}")[row]))
        return value.float() if value.dtype in (torch.float16, torch.uint8) else value

    def views(self, rows: Sequence[int]) -> Views:
        """Some of the views, at working resolution."""
        images, K, poses, sizes = (torch.stack([self.load(name, row) for row in rows]) for name in PARTS[:4])
        return Views(images / 255, K, poses, sizes)

    def sweep(self, row: int) -> Sweep:
        """One view's sweep."""
        first, step = self.load("planes", row).tolist()
        height, width = self.load("sizes", row).tolist()
        position, clues = (self.load(name, row)[..., :height, :width] for name in ("position", "clues"))
        return Sweep(first, step, position, clues, len(self.sources(row)))

    def truth(self, row: int) -> Tensor:
        """[h, w] sensor depth at working resolution, 0 = none."""
        height, width = self.load("sizes", row).tolist()
        return self.load("truth", row)[:height, :width]

    def sources(self, row: int) -> list[int]:
        """Rows of the views that a view's sweep looked at."""
        return [int(s) for s in self.load("asked", row) if s >= 0]


def swept_scene(scene: CachedScene, variant: int, device: torch.device) -> SweptScene:
    """A variant's sweeps, made now where they are not there yet; variant 0 has clean images and the best sources."""
    if not scene.has(f"sweeps{variant}_{PARTS[-1]}"):
        _make(scene, variant, device)
    return SweptScene(scene, variant)


def spoil_images(images: Tensor, rng: Generator) -> Tensor:
    """Images [V, 3, H, W] with another exposure, contrast, tint, blur and noise, a little different in every view."""

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=rng).to(images.device)

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand(1, generator=rng))

    each = 1 + 0.04 * normal(len(images), 1, 1, 1) + 0.02 * normal(len(images), 3, 1, 1)
    spoiled = ((images - 0.5) * uniform(0.6, 1.1) + 0.5).clamp(0, 1) ** float(torch.exp(0.2 * normal(1)))
    spoiled = spoiled * uniform(0.7, 1.2) * each
    blurred = F.avg_pool2d(F.pad(spoiled, (1, 1, 1, 1), mode="replicate"), 3, 1)
    spoiled = torch.lerp(spoiled, blurred, max(uniform(-0.8, 0.8), 0.0))
    noise = torch.randn(images.shape, generator=rng).to(images.device)
    return (spoiled + max(uniform(-0.02, 0.02), 0.0) * noise).clamp(0, 1)


def _make(scene: CachedScene, variant: int, device: torch.device) -> None:
    rng = Generator().manual_seed(variant)
    pool = sorted(scene.pool)
    place = {view: row for row, view in enumerate(pool)}
    views = scene.views(pool, device)
    if variant:
        views = replace(views, images=spoil_images(views.images, rng))
    working, coarse = shrink(views, WORKING_PIXELS), shrink(views, COARSE_PIXELS)
    depth = scene.tensor("depth", pool, device)
    truth = torch.stack([working_depth(depth[row], views, working, row) for row in place.values()])
    ranked = [[place[s] for s in scene.sources(view)] or [place[view]] for view in pool]
    asked = [_pick(rows, variant, rng) for rows in ranked]
    chosen = [torch.tensor(rows, device=device) for rows in asked]
    with torch.no_grad():
        found = [sweep(working, coarse, row, rows, SweepSettings()) for row, rows in enumerate(chosen)]
    height, width = working.images.shape[-2:]
    arrays = {
        "images": (working.images * 255).round().byte(),
        "K": working.K,
        "poses": working.world_from_cam,
        "sizes": working.sizes,
        "truth": truth.half(),
        "position": torch.stack([pad_to(one.position, height, width) for one in found]).half(),
        "planes": torch.tensor([[one.first, one.step] for one in found], dtype=torch.float64),
        "asked": torch.tensor([rows + [-1] * (MOST - len(rows)) for rows in asked]),
        "clues": torch.stack([pad_to(one.clues, height, width) for one in found]).half(),
    }
    for name in PARTS:
        file = io.BytesIO()
        np.save(file, arrays[name].cpu().numpy(), allow_pickle=False)
        write_whole(scene.folder / f"sweeps{variant}_{name}.npy", file.getvalue())


def _pick(ranked: list[int], variant: int, rng: Generator) -> list[int]:
    """The best sources, or, in spoiled variants, any number of them from near or far, best first."""
    if not variant:
        return ranked[:SWEPT_SOURCES]
    count = min(int(torch.randint(FEWEST, MOST + 1, (1,), generator=rng)), len(ranked))
    reach = min(count + int(torch.randint(0, 8, (1,), generator=rng)), len(ranked))
    return [ranked[int(k)] for k in torch.randperm(reach, generator=rng)[:count].sort().values]
