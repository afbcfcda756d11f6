"""How near a predicted map is to the real one: cosine for features, PSNR and SSIM for pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

FEW_CHANNELS = 3
"""Up to this many channels a cell's vector says little: the whole map is compared instead."""
SSIM_WINDOW, SSIM_SIGMA, SSIM_C1, SSIM_C2 = 11, 1.5, 0.01**2, 0.03**2
LEAST_ERROR = 1e-10
"""Mean squared error that PSNR ends at: 100 dB."""

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


def psnr(values: Map, truth: Map) -> float:
    """Peak signal-to-noise ratio in dB of values in [0, 1]."""
    return float(-10 * np.log10(max(float(np.square(values - truth).mean()), LEAST_ERROR)))


def ssim(values: Map, truth: Map, mask: NDArray[np.bool_]) -> float:
    """Structural similarity of maps [C, h, w] in [0, 1], mean over channels and the cells of `mask`.

    Gaussian window of 11 cells (sigma 1.5). Cells outside the mask are taken for equal, so that they cost nothing.
    """
    maps = [_ssim_map(np.where(mask, mine, true), true) for mine, true in zip(values, truth, strict=True)]
    return float(np.mean([one[mask] for one in maps]))


def _ssim_map(a: Map, b: Map) -> Map:
    def blurred(values: Map) -> Map:
        window = (SSIM_WINDOW, SSIM_WINDOW)
        return np.asarray(cv2.GaussianBlur(values, window, SSIM_SIGMA, borderType=cv2.BORDER_REFLECT), np.float64)

    mean_a, mean_b = blurred(a), blurred(b)
    spread_a, spread_b = blurred(a * a) - mean_a**2, blurred(b * b) - mean_b**2
    shared = blurred(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + SSIM_C1) / (mean_a**2 + mean_b**2 + SSIM_C1)
    return luminance * (2 * shared + SSIM_C2) / (spread_a + spread_b + SSIM_C2)


def _likeness(values: Map, truth: Map) -> float:
    """[C, N] and [C, N] -> mean cosine of columns, or the correlation of all entries where C is small."""
    if len(values) <= FEW_CHANNELS:
        values, truth = (one.reshape(-1, 1) - one.mean() for one in (values, truth))
    norms = np.linalg.norm(values, axis=0) * np.linalg.norm(truth, axis=0)
    return float(((values * truth).sum(0) / np.maximum(norms, 1e-12)).mean())
