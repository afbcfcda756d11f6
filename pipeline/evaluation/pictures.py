"""How alike two pictures are where a mask holds: PSNR and structural similarity."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SSIM_WINDOW, SSIM_SIGMA, SSIM_C1, SSIM_C2 = 11, 1.5, 0.01**2, 0.03**2
LEAST_ERROR = 1e-10
"""Mean squared error that PSNR ends at: 100 dB."""

Map = NDArray[np.float64]


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
