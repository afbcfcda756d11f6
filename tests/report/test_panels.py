"""Pictures as data URIs: they decode to what was put in, are small, and are the same every time."""

from __future__ import annotations

import base64

import cv2
import numpy as np
import pytest

from pipeline.report import panels


def decoded(uri: str) -> np.ndarray:
    data = base64.b64decode(uri.partition("base64,")[2])
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image[..., ::-1]


def test_class_maps_have_the_label_sets_colours() -> None:
    palette = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 10]], np.uint8)
    ids = np.array([[1, 2], [0, 999]], np.uint16)
    assert decoded(panels.class_map(ids, palette)).tolist() == [[[255, 0, 0], [0, 255, 10]], [[0, 0, 0], [0, 0, 0]]]


@pytest.mark.parametrize(("size", "shown"), [((480, 640), (216, 288)), ((640, 360), (512, 288)), ((9, 7), (9, 7))])
def test_panels_keep_their_shape_and_never_grow(size: tuple[int, int], shown: tuple[int, int]) -> None:
    assert decoded(panels.photo(np.zeros((*size, 3), np.uint8))).shape[:2] == shown


def test_photos_keep_red_red() -> None:
    red, green, blue = decoded(panels.photo(np.full((16, 16, 3), (200, 40, 20), np.uint8)))[8, 8].tolist()
    assert red > 180
    assert max(green, blue) < 60


def test_heat_runs_from_dark_to_yellow() -> None:
    low, high = (decoded(panels.heat_map(np.full((8, 8), value), 0.0, 1.0)).mean() for value in (0.0, 1.0))
    assert low < 100 < high


@pytest.mark.parametrize("values", [np.zeros((4, 4)), np.full((4, 4), np.nan), np.array([[np.inf, 0.0]])])
def test_constant_or_broken_scalars_are_drawn(values: np.ndarray) -> None:
    assert decoded(panels.scalar_map(values)).size


@pytest.mark.parametrize("image", [None, np.full((16, 16, 3), 90, np.uint8)])
def test_highlights_are_marked(image: np.ndarray | None) -> None:
    marked = np.zeros((16, 16), bool)
    marked[:8] = True
    shown = decoded(panels.highlight(image, marked)).astype(int)
    assert np.abs(shown[3, 8] - panels.HIGHLIGHT).max() < 25
    assert np.ptp(shown[12, 8]) < 25


@pytest.mark.parametrize("channels", [1, 2, 3, 40])
def test_any_number_of_channels_becomes_colours(channels: int) -> None:
    features = np.random.default_rng(0).normal(size=(channels, 6, 8))
    first = panels.feature_colours(features)
    assert first == panels.feature_colours(features)
    assert decoded(first).shape == (216, 288, 3)
