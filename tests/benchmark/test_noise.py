"""The noise model: what it changes, how much, and that it depends on nothing but the view and the level."""

import cv2
import numpy as np
import pytest

from pipeline.benchmark import noise
from pipeline.benchmark.noise import noise_rng, spoil_view

CLASSES = np.arange(1, 21, dtype=np.uint16)


def _only(monkeypatch, **kept):
    """Switch off every kind of noise but one."""
    for name in ("FLIPPED", "WOBBLE_PX", "BLOBS"):
        monkeypatch.setattr(noise, name, kept.get(name, 0))


@pytest.mark.parametrize("level", [0.5, 1.0, 2.0])
def test_objects_flip_with_the_stated_chance(monkeypatch, level):
    _only(monkeypatch, FLIPPED=0.22)
    objects = np.repeat(np.arange(1, 6001, dtype=np.uint16).reshape(60, 100), 1, 0)
    labels = np.ones_like(objects)
    spoiled = spoil_view(labels, objects, CLASSES, level, noise_rng("a", "0", level))
    # one in twenty draws its own class again
    expected = 0.22 * level * 19 / 20
    assert (spoiled != labels).mean() == pytest.approx(expected, abs=4 * np.sqrt(expected / 6000))


def test_a_flipped_object_flips_as_a_whole():
    objects = np.kron(np.arange(1, 13).reshape(3, 4), np.ones((40, 40))).astype(np.uint16)
    flipped = noise._flipped(np.ones_like(objects), objects, CLASSES, 1.0, np.random.default_rng(0))
    assert all(len(np.unique(flipped[objects == k])) == 1 for k in range(1, 13))


@pytest.mark.parametrize("level", [0.5, 1.0, 2.0])
def test_outlines_wobble_by_the_stated_distance(monkeypatch, level):
    _only(monkeypatch, WOBBLE_PX=3.0)
    ramp = np.tile(np.arange(1, 641, dtype=np.uint16), (480, 1))
    moved = spoil_view(ramp, np.zeros_like(ramp), CLASSES, level, noise_rng("a", "0", level))
    inner = (slice(60, -60), slice(60, -60))
    shift = (moved.astype(float) - ramp)[inner]
    # the cubic field has less variance between its knots than on them
    assert 0.55 * 3 * level < shift.std() < 1.05 * 3 * level
    assert abs(shift.mean()) < 0.4 * level


@pytest.mark.parametrize(("level", "blobs"), [(0.5, 3), (1.0, 5), (2.0, 10)])
def test_there_are_as_many_blobs_as_stated(monkeypatch, level, blobs):
    _only(monkeypatch, BLOBS=5)
    monkeypatch.setattr(noise, "BLOB_RADII", (200, 80))
    counts = []
    for k in range(30):
        clean = np.full((480, 640), 30, np.uint16)
        spoiled = spoil_view(clean, np.zeros_like(clean), CLASSES, level, noise_rng("a", str(k), level))
        counts.append(cv2.connectedComponents((spoiled != clean).astype(np.uint8))[0] - 1)
    # now and then two meet
    assert max(counts) == blobs
    assert np.mean(counts) > blobs - 0.5


def test_about_three_pixels_in_ten_are_wrong_at_level_one_and_nothing_is_at_level_zero(room):
    shares = []
    for level in (0.0, 1.0):
        views = zip(room.frames, room.truth, room.objects, strict=True)
        wrong = [
            (spoil_view(truth, objects, room.classes, level, noise_rng(room.id, frame.id, level)) != truth).mean()
            for frame, truth, objects in views
        ]
        shares.append(np.mean(wrong))
    assert shares[0] == 0
    assert 0.2 < shares[1] < 0.4


def test_every_view_level_and_scene_has_noise_of_its_own():
    draws = [noise_rng(*which).random(4).tolist() for which in (("a", "1", 1), ("a", "1", 1), ("a", "2", 1))]
    draws += [noise_rng("b", "1", 1).random(4).tolist(), noise_rng("a", "1", 2).random(4).tolist()]
    assert draws[0] == draws[1]
    assert len({tuple(draw) for draw in draws}) == 4


def test_what_was_not_labelled_becomes_a_class_of_the_scene(room):
    truth, objects = np.zeros_like(room.truth[0]), room.objects[0]
    spoiled = spoil_view(truth, objects, room.classes, 1.0, noise_rng("a", "0", 1.0))
    assert set(np.unique(spoiled)) <= set(room.classes.tolist())
