"""The training log as a picture: one small panel a figure, training in grey, held-out views in colour."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from lift3d_model.training.log import read_log

PANEL = (180, 300)
MARGIN = (26, 14, 14, 26)
COLUMNS = 3
INK, GREY, COLOUR = (40, 40, 40), (170, 170, 170), (180, 90, 20)
"""BGR."""


def draw_log(log: Path, out: Path) -> None:
    """Write a PNG with a panel for each figure of a training log."""
    curves: dict[str, dict[str, list[tuple[int, float]]]] = defaultdict(lambda: defaultdict(list))
    for step, part, figure, value in read_log(log):
        if np.isfinite(value):
            curves[figure][part].append((step, value))
    panels = [_panel(figure, parts) for figure, parts in sorted(curves.items())]
    panels += [np.full((*PANEL, 3), 255, np.uint8)] * (-len(panels) % COLUMNS)
    rows = [np.hstack(panels[start : start + COLUMNS]) for start in range(0, len(panels), COLUMNS)]
    if rows:
        cv2.imwrite(str(out), np.vstack(rows))


def _panel(title: str, parts: dict[str, list[tuple[int, float]]]) -> Any:
    image = np.full((*PANEL, 3), 255, np.uint8)
    points = np.array([point for curve in parts.values() for point in curve], float)
    low, high = points.min(0), points.max(0)
    span = np.maximum(high - low, 1e-9)
    top, right, bottom, left = MARGIN
    size = np.array([PANEL[1] - left - right, PANEL[0] - top - bottom])
    for part, curve in parts.items():
        at = (np.array(curve, float) - low) / span * size
        line = np.stack([left + at[:, 0], PANEL[0] - bottom - at[:, 1]], axis=1).round().astype(np.int32)
        cv2.polylines(image, [line], isClosed=False, color=COLOUR if part == "dev" else GREY, lineType=cv2.LINE_AA)
    cv2.rectangle(image, (left, top), (PANEL[1] - right, PANEL[0] - bottom), INK, 1)
    _text(image, title, (left, 18))
    _text(image, f"{high[1]:.4g}", (left + 4, top + 12))
    _text(image, f"{low[1]:.4g}", (left + 4, PANEL[0] - bottom - 4))
    _text(image, f"step {int(high[0])}", (PANEL[1] - right - 84, PANEL[0] - bottom - 4))
    return image


def _text(image: Any, text: str, place: tuple[int, int]) -> None:
    cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.38, INK, 1, cv2.LINE_AA)
