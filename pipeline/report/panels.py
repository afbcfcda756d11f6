"""Small pictures as data URIs. Everything here takes arrays and returns text that goes into an `<img>`."""

from __future__ import annotations

import base64
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

PANEL_WIDTH = 288
"""Widest a panel gets, in pixels; smaller images stay as they are."""
JPEG_QUALITY = 82
HIGHLIGHT = (232, 62, 104)
"""RGB of pixels that disagree."""

Rgb = NDArray[np.uint8]


def photo(image: Rgb) -> str:
    """[H, W, 3] RGB -> JPEG data URI."""
    return _jpeg(_shrunk(image, cv2.INTER_AREA))


def class_map(ids: NDArray[np.unsignedinteger], palette: Rgb) -> str:
    """[H, W] class ids -> PNG data URI in the label set's colours; ids past the palette are black."""
    small = _shrunk(ids, cv2.INTER_NEAREST_EXACT)
    return _png(np.where((small < len(palette))[..., None], palette[np.minimum(small, len(palette) - 1)], 0))


def heat_map(values: NDArray[np.floating[Any]], low: float, high: float) -> str:
    """[H, W] numbers -> JPEG data URI, dark at `low` and yellow at `high`."""
    scaled = (np.nan_to_num(values.astype(np.float32)) - low) / max(high - low, 1e-12)
    grey = (scaled.clip(0, 1) * 255).astype(np.uint8)
    return _jpeg(_coloured(_shrunk(grey, cv2.INTER_AREA)))


def scalar_map(values: NDArray[np.floating[Any]]) -> str:
    """[H, W] numbers -> heat map between their 2nd and 98th percentile."""
    low, high = np.percentile(np.nan_to_num(values.astype(np.float32)), (2, 98))
    return heat_map(values, float(low), float(high))


def highlight(image: Rgb | None, marked: NDArray[np.bool_]) -> str:
    """[H, W] pixels to point out -> JPEG data URI, marked on the dimmed image [H, W, 3] (or on grey)."""
    height, width = marked.shape
    small = _shrunk(marked.view(np.uint8), cv2.INTER_NEAREST_EXACT).astype(bool)
    grey = np.full((height, width), 160, np.uint8) if image is None else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    pale = _shrunk(grey, cv2.INTER_AREA) // 2 + 104
    return _jpeg(np.where(small[..., None], np.array(HIGHLIGHT, np.uint8), pale[..., None]).astype(np.uint8))


def feature_colours(features: NDArray[np.floating[Any]]) -> str:
    """[C, h, w] features -> PNG data URI: the first three principal components of this frame as RGB."""
    channels, h, w = features.shape
    flat = np.nan_to_num(features.astype(np.float64)).reshape(channels, -1)
    flat -= flat.mean(1, keepdims=True)
    _, axes = np.linalg.eigh(flat @ flat.T)
    axes = axes[:, ::-1][:, :3]
    axes *= np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
    components = axes.T @ flat
    low, high = np.percentile(components, (2, 98), axis=1, keepdims=True)
    scaled = ((components - low) / np.maximum(high - low, 1e-12)).clip(0, 1) * 255
    colours = np.zeros((h * w, 3), np.uint8)
    colours[:, : len(scaled)] = scaled.T
    size = (PANEL_WIDTH, max(1, PANEL_WIDTH * h // w))
    return _png(np.asarray(cv2.resize(colours.reshape(h, w, 3), size, interpolation=cv2.INTER_NEAREST)))


def _coloured(grey: NDArray[np.uint8]) -> Rgb:
    return cv2.cvtColor(cv2.applyColorMap(grey, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB).astype(np.uint8)


def _shrunk(image: NDArray[Any], interpolation: int) -> NDArray[Any]:
    """At most `PANEL_WIDTH` wide, same shape otherwise."""
    height, width = image.shape[:2]
    if width <= PANEL_WIDTH:
        return image
    size = (PANEL_WIDTH, max(1, round(height * PANEL_WIDTH / width)))
    return np.asarray(cv2.resize(image, size, interpolation=interpolation))


def _jpeg(image: Rgb) -> str:
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"


def _png(image: Rgb) -> str:
    bgr = cv2.cvtColor(image.astype(np.uint8), cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    return f"data:image/png;base64,{base64.b64encode(data.tobytes()).decode()}"
