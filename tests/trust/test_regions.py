"""Regions: each suspect pixel in one of them, figures as defined; regions that show one surface become one item."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.evaluation.correspondence import View
from pipeline.trust.disagreement import contradiction
from pipeline.trust.regions import Region, suspect_regions
from pipeline.trust.same_surface import fold
from schemas.camera import Camera

HEIGHT, WIDTH, FOCAL, DISTANCE, STEP = 24, 32, 40.0, 2.0, 3
K = np.array([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1.0]])


def along_a_wall(count: int) -> list[View]:
    """Cameras that see a wall, each three pixels further on."""
    views = []
    for k in range(count):
        pose = np.eye(4)
        pose[0, 3] = k * STEP * DISTANCE / FOCAL
        views.append(View(Camera(K, pose, HEIGHT, WIDTH), np.full((HEIGHT, WIDTH), DISTANCE, np.float32)))
    return views


def square(x: int, class_id: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """A doubtful 6 x 6 square of a class on a sure wall: labels and confidence."""
    labels, confidence = np.ones((HEIGHT, WIDTH), np.uint8), np.full((HEIGHT, WIDTH), 0.9, np.float32)
    labels[8:14, x : x + 6], confidence[8:14, x : x + 6] = class_id, 0.25
    return labels, confidence


def test_a_region_has_the_figures_of_its_pixels() -> None:
    labels, confidence = square(5)
    confidence[20:, 28:] = 0.4  # sixteen pixels of the wall
    regions = sorted(suspect_regions(("s", "7"), labels, confidence, used_by=3), key=lambda r: -r.score)
    assert [(r.class_id, r.box, r.pixels.size) for r in regions] == [(2, (5, 8, 11, 14), 36), (1, (28, 20, 32, 24), 16)]
    assert regions[0].expected_wrong == pytest.approx(36 * 0.75)
    assert regions[0].score == pytest.approx(4 * 36 * 0.75)
    assert np.array_equal(np.unravel_index(regions[0].pixels, labels.shape)[0].reshape(6, 6)[:, 0], np.arange(8, 14))


def test_touching_regions_of_two_classes_are_two_and_specks_none() -> None:
    labels, confidence = square(5)
    labels[8:14, 8:11] = 3
    confidence[0, 0] = 0.1
    assert len(list(suspect_regions(("s", "7"), labels, confidence, 0))) == 3
    big = np.full((200, 200), 0.9, np.float32)
    big[0, :3] = 0.1
    assert not list(suspect_regions(("s", "7"), np.ones((200, 200), np.uint8), big, 0))


def region(frame: str, x: int, class_id: int = 2) -> Region:
    (found,) = suspect_regions(("s", frame), *square(x, class_id), used_by=0)
    return found


def test_a_surface_in_three_views_is_one_item_and_another_surface_another() -> None:
    views = dict(zip("abc", along_a_wall(3), strict=True))
    # The camera moves on by three pixels, so what it sees moves back by three.
    regions = [region("a", 15), region("b", 12, class_id=3), region("c", 9), region("c", 22)]
    items = fold(regions, views)
    assert [(item.frame, item.box[0], also) for item, also in items] == [("a", 15, ("b", "c")), ("c", 22, ())]
    assert [also for _, also in fold(regions, {})] == [(), (), (), ()]


def test_views_contradict_by_label_only_where_one_view_errs() -> None:
    views = along_a_wall(4)
    labels = [np.ones((HEIGHT, WIDTH), np.uint8) for _ in views]
    labels[1] = square(12)[0]
    found = contradiction(views, labels, 1)
    assert np.array_equal(found.mask(), labels[1] == 2)
    assert not contradiction(views, labels, 0).mask().any()
    assert np.nan_to_num(contradiction(views, labels, 0).otherwise).max() == pytest.approx(1 / 3)
    alone = contradiction(views[:1], labels[:1], 0)
    assert np.isnan(alone.otherwise).all()
    assert not alone.mask().any()


def test_a_thing_that_left_is_looked_through() -> None:
    views = along_a_wall(4)
    moved = views[1].depth.copy()
    moved[8:14, 12:18] = 1.2  # something stood there, before the wall, in this view alone
    views[1] = View(views[1].camera, moved)
    labels = [np.ones((HEIGHT, WIDTH), np.uint8) for _ in views]
    found = contradiction(views, labels, 1)
    assert np.array_equal(found.mask(), moved < DISTANCE)
    assert (found.witnesses[moved < DISTANCE] == 0).all()
    # To those who saw the wall, the thing hid it: that contradicts nobody.
    assert not contradiction(views, labels, 0).mask().any()
