"""Segmentation metrics: their algebra, and the independent measuring stick's numbers."""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluation.metrics import confusion_matrix, count_image, mean_iou, no_counts, summarise
from pipeline.evaluation.scene_scores import count_agreement, count_scene
from schemas.label_sets import LabelSet

K = 5
SET = LabelSet(
    name="five",
    ids=(1, 2, 3, 4, 5),
    names=("a", "b", "c", "d", "e"),
    colors=((1, 0, 0),) * 5,
    ignore_id=0,
)
seeds = st.integers(0, 2**32 - 1)


def random_pair(seed: int, shape: tuple[int, int] = (12, 16)) -> tuple[np.ndarray, np.ndarray]:
    """Ground truth with unscored pixels (K) and predictions with classless ones (K)."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, K + 1, shape).astype(np.uint8), rng.integers(0, K + 1, shape).astype(np.uint8)


@given(seeds)
def test_truth_against_itself_is_perfect(seed: int) -> None:
    truth, _ = random_pair(seed)
    scores = summarise([count_image(truth, truth, K)], SET)
    assert scores.miou == scores.image_miou == scores.accuracy == scores.mean_accuracy == scores.boundary_f1 == 1
    assert scores.no_class == 0


@given(seeds)
def test_renaming_classes_leaves_scores_alone(seed: int) -> None:
    truth, labels = random_pair(seed)
    renamed = np.append(np.random.default_rng(seed).permutation(K), K).astype(np.uint8)
    before = summarise([count_image(truth, labels, K)], SET)
    after = summarise([count_image(renamed[truth], renamed[labels], K)], SET)
    for field in ("miou", "accuracy", "mean_accuracy", "boundary_f1", "no_class"):
        assert getattr(after, field) == pytest.approx(getattr(before, field), abs=1e-12)


@given(seeds)
def test_counts_add_up_over_frames(seed: int) -> None:
    (truth, labels), (truth2, labels2) = random_pair(seed), random_pair(seed + 1)
    one_by_one = count_scene([truth, truth2], [labels, labels2], K).confusion
    joined = confusion_matrix(*(np.concatenate(pair).ravel() for pair in ([truth, truth2], [labels, labels2])), K + 1)
    assert (one_by_one[:, :K] == joined[:K, :K]).all()
    assert one_by_one.sum() == joined[:K].sum()


@given(seeds)
def test_predictions_where_there_is_no_truth_do_not_matter(seed: int) -> None:
    truth, labels = random_pair(seed)
    other = np.where(truth == K, random_pair(seed + 1)[1], labels)
    assert (count_image(truth, labels, K).confusion == count_image(truth, other, K).confusion).all()


def test_no_class_is_wrong_and_counted() -> None:
    truth = np.zeros((4, 4), np.uint8)
    labels = truth.copy()
    labels[0] = K
    scores = summarise([count_image(truth, labels, K)], SET)
    assert scores.miou == scores.accuracy == 0.75
    assert scores.no_class == 0.25


def test_classes_absent_from_the_truth_are_not_averaged() -> None:
    truth = np.array([[0, 0, 1, 1]], np.uint8)
    labels = np.array([[0, 0, 1, 2]], np.uint8)
    assert mean_iou(confusion_matrix(truth.ravel(), labels.ravel(), K)) == pytest.approx((1 + 0.5) / 2)


def test_the_three_means_differ_as_defined() -> None:
    easy, hard = np.zeros((1, 4), np.uint8), np.array([[0, 1, 1, 1]], np.uint8)
    wrong = np.zeros((1, 4), np.uint8)
    scenes = [count_scene([easy, easy], [easy, easy], K), count_image(hard, wrong, K)]
    scores = summarise(scenes, SET)
    assert scores.miou == pytest.approx((9 / 12 + 0) / 2)
    assert scores.scene_miou == pytest.approx((1 + (0.25 + 0) / 2) / 2)
    assert scores.image_miou == pytest.approx((1 + (0.25 + 0) / 2) / 2)
    assert summarise([scenes[0] + scenes[1]], SET).image_miou == pytest.approx((1 + 1 + 0.125) / 3)


def test_an_image_without_truth_counts_nothing() -> None:
    blank = count_image(np.full((3, 3), K, np.uint8), np.zeros((3, 3), np.uint8), K)
    assert blank.images == 0
    assert (blank + no_counts(K)).confusion.sum() == 0
    assert math.isnan(mean_iou(blank.confusion))


def test_per_class_scores_name_ids_of_the_label_set() -> None:
    truth = np.array([[1, 1, 3, 3]], np.uint8)
    classes = summarise([count_image(truth, truth, K)], SET).classes
    assert [(score.id, score.name, score.true_px) for score in classes] == [(2, "b", 2), (4, "d", 2)]


def test_shared_rooms_agree_with_the_measuring_stick(stick: ModuleType, room: tuple) -> None:
    scene, views, noisy = room
    truth = np.where(scene["label"] > 0, scene["label"] - 1, 40).astype(np.uint8)
    labels = (noisy - 1).astype(np.uint8)
    counts = count_scene(truth, labels, 40)
    miou, accuracy = stick.miou(scene["label"], noisy)
    assert mean_iou(counts.confusion) == pytest.approx(miou, abs=1e-12)
    assert np.diagonal(counts.confusion).sum() / counts.confusion.sum() == pytest.approx(accuracy, abs=1e-12)
    ((agreeing, covisible),) = count_agreement(views, [labels])
    assert agreeing / covisible == pytest.approx(stick.consistency(scene, noisy), abs=1e-6)
