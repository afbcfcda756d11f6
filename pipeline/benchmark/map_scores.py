"""How near a predicted map is to the real one: cosine for features, PSNR and SSIM for pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.pictures import psnr, ssim

if TYPE_CHECKING:
    from torch import Tensor

FEW_CHANNELS = 3
"""Up to this many channels a cell's vector says little: the whole map is compared instead."""

Map = NDArray[np.float64]


def map_scores(values: Tensor, truth: Tensor, mask: Tensor, kind: str) -> dict[str, float]:
    """Scores of a map [C, h, w] where `mask` [h, w] holds; none where it holds nowhere.

    `cosine`: mean over cells of the cosine of the two vectors; for maps of up to three channels, whose vectors nearly
    all agree, the correlation of the two maps. `psnr` (dB) and `ssim`: of pictures and scalars, whose range is [0, 1].
    """
    if not bool(mask.any()):
        return {}
    mine, true, held = values.double().cpu().numpy(), truth.double().cpu().numpy(), mask.cpu().numpy()
    found = {"cosine": _likeness(mine[:, held], true[:, held])}
    if kind in ("image", "scalar"):
        found |= {"psnr": psnr(mine[:, held], true[:, held]), "ssim": ssim(mine, true, held)}
    return found


def _likeness(values: Map, truth: Map) -> float:
    """[C, N] and [C, N] -> mean cosine of columns, or the correlation of all entries where C is small."""
    if len(values) <= FEW_CHANNELS:
        values, truth = (one.reshape(-1, 1) - one.mean() for one in (values, truth))
    norms = np.linalg.norm(values, axis=0) * np.linalg.norm(truth, axis=0)
    return float(((values * truth).sum(0) / np.maximum(norms, 1e-12)).mean())
