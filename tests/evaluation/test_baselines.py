"""Nearest-view warp and z-test voting: exact on a made scene, and equal to the independent implementation."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

from pipeline.evaluation.baselines import nearest_view_warp, z_test_vote
from pipeline.evaluation.correspondence import View

Wall = Callable[..., tuple[list[View], np.ndarray]]
CLASSES = 4


def test_true_labels_survive_both(wall: Wall) -> None:
    views, labels = wall()
    assert np.array_equal(z_test_vote(views, labels, CLASSES), labels)
    assert np.array_equal(nearest_view_warp(views, labels), labels)


def test_a_wrong_view_is_outvoted(wall: Wall) -> None:
    views, labels = wall(step=0)
    noisy = labels.copy()
    noisy[2] = 0
    assert np.array_equal(z_test_vote(views, noisy, CLASSES), labels)


def test_ties_go_to_the_lowest_class(wall: Wall) -> None:
    views, labels = wall(views=2, step=0)
    labels[0], labels[1] = 3, 1
    assert (np.stack(z_test_vote(views, labels, CLASSES)) == 1).all()


def test_without_itself_a_view_takes_what_the_others_say(wall: Wall) -> None:
    views, labels = wall(views=2, step=0)
    labels[0], labels[1] = 3, 1
    first, second = z_test_vote(views, labels, CLASSES, include_self=False)
    assert (first == 1).all()
    assert (second == 3).all()


def test_only_the_nearest_views_vote(wall: Wall) -> None:
    views, labels = wall(views=4, step=1)
    labels[:] = np.array([0, 1, 2, 3], np.uint8)[:, None, None]
    nearest = np.stack(z_test_vote(views, labels, CLASSES, nearest=1, include_self=False))
    assert (nearest[0][:, 1:] == 1).all()
    assert (nearest[3][:, :-1] == 2).all()


def test_no_class_casts_no_vote_and_is_filled_by_others(wall: Wall) -> None:
    views, labels = wall(step=0)
    holes = labels.copy()
    holes[:3] = CLASSES
    assert np.array_equal(z_test_vote(views, holes, CLASSES), labels)
    nobody = np.full_like(labels, CLASSES)
    assert np.array_equal(z_test_vote(views, nobody, CLASSES), nobody)


def test_warp_copies_the_nearest_view_and_keeps_what_nobody_sees(wall: Wall) -> None:
    views, labels = wall(views=3, step=4)
    labels[:] = np.array([0, 1, 2], np.uint8)[:, None, None]
    first, _, last = nearest_view_warp(views, labels)
    assert (first[:, :4] == 0).all()
    assert (first[:, 4:] == 1).all()
    assert (last[:, -4:] == 2).all()
    assert (last[:, :-4] == 1).all()


def test_views_of_different_sizes_vote_together(wall: Wall) -> None:
    views, labels = wall(views=3, step=0)
    half = View(views[1].camera.resized(12, 16), views[1].depth[::2, ::2])
    mixed = [views[0], half, views[2]]
    maps = [labels[0], np.zeros((12, 16), np.uint8), labels[2]]
    voted = z_test_vote(mixed, maps, CLASSES)
    assert [v.shape for v in voted] == [(24, 32), (12, 16), (24, 32)]
    assert np.array_equal(voted[0], labels[0])


def test_progress_is_reported_a_view(wall: Wall) -> None:
    views, labels = wall(views=3)
    seen: list[tuple[int, int]] = []
    z_test_vote(views, labels, CLASSES, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("nearest", [None, 4])
def test_shared_rooms_agree_with_the_measuring_stick(stick: ModuleType, room: tuple, nearest: int | None) -> None:
    scene, views, noisy = room
    mine = np.stack(z_test_vote(views, noisy.astype(np.uint8), 41, nearest=nearest))
    assert (mine != stick.vote(scene, noisy, nearest)).mean() < 1e-4


def test_shared_rooms_novel_votes_agree_too(stick: ModuleType, room: tuple) -> None:
    scene, views, noisy = room
    mine = np.stack(z_test_vote(views, noisy.astype(np.uint8), 41, include_self=False))
    assert (mine != stick.vote(scene, noisy, None, False)).mean() < 1e-4
