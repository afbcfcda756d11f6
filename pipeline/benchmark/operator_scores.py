"""What one operator's stored predictions of a scene are worth: agreement of views, quality where there is truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.benchmark.catalogue import truth_space
from pipeline.benchmark.scenes import BenchScene
from pipeline.benchmark.scores import score_rows
from pipeline.evaluation.correspondence import View, matches
from pipeline.evaluation.image_consistency import LONG, SHORT, sharpness, warping
from pipeline.evaluation.scene_scores import count_agreement
from pipeline.store import decode_features, decode_image, decode_label_map, decode_scalar
from schemas.label_sets import LabelSet

PAIRS_A_VIEW_PAIR = 4000
"""Co-visible pixels of two views, evenly spaced, whose features are compared."""

Values = dict[str, Any]


def class_scores(bench: BenchScene, views: Sequence[View], rows: Sequence[Values], labels: LabelSet) -> Values:
    """Share of co-visible pixels with equal classes; mIoU and accuracy where the scene has ground truth."""
    maps = [decode_label_map(row) for row in rows]
    if not any(frame.label for frame in bench.frames):
        agreeing, covisible = count_agreement(views, [maps])[0]
        return {"consistency": agreeing / max(covisible, 1)}
    space = truth_space(labels)
    truth = [space.truth(bench.truth[target]) for target in bench.targets]
    predicted = [space.space.prediction(ids) for ids in maps]
    scored = score_rows(truth, {"it": predicted}, space.space.labels, list(views))["it"]
    return {name: scored[name] for name in ("consistency", "miou", "accuracy")}


def picture_scores(views: Sequence[View], pictures: Sequence[NDArray[np.float32]]) -> Values:
    """Warping error and likeness over short and long range, and how sharp the pictures are."""
    near, far = (warping(views, pictures, gap) for gap in (SHORT, LONG))
    scores: Values = {"short_rmse": near.rmse, "short_ssim": near.ssim, "long_rmse": far.rmse, "long_ssim": far.ssim}
    return scores | {"sharpness": sharpness(pictures), "long_pairs": far.pairs}


def feature_scores(views: Sequence[View], maps: Sequence[NDArray[np.float32]], stride: int) -> Values:
    """Mean cosine of the features of co-visible pixels, the scene's mean feature taken away."""
    mean = np.mean([features.mean(axis=(1, 2)) for features in maps], axis=0)
    total, count = 0.0, 0
    for a, b, in_a, in_b in matches(views, (SHORT, LONG)):
        step = max(1, len(in_a) // PAIRS_A_VIEW_PAIR)
        ours, theirs = (
            _cells(maps[v], pixels[::step], views[v], stride) - mean for v, pixels in ((a, in_a), (b, in_b))
        )
        norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
        total += float(((ours * theirs).sum(1) / np.maximum(norms, 1e-9)).sum())
        count += len(ours)
    return {"consistency": total / count if count else None}


def scores(bench: BenchScene, views: Sequence[View], rows: Sequence[Values], labels: LabelSet | None) -> Values:
    """Scores of one scene's rows of a store, in the order of `views`.

    Args:
        rows: with frame, kind, height, width and the payload of the kind.
        labels: the operator's label set, where its kind is classes.
    """
    kind = rows[0]["kind"]
    if kind == "classes" and labels is not None:
        return class_scores(bench, views, rows, labels)
    if kind == "features":
        maps = [decode_features(row) for row in rows]
        return feature_scores(views, maps, -(-int(rows[0]["width"]) // maps[0].shape[2]))
    decode: Callable[[Values], NDArray[np.float32]] = _picture if kind == "image" else _scalar
    return picture_scores(views, [decode(row) for row in rows])


def _picture(row: Values) -> NDArray[np.float32]:
    return np.divide(decode_image(row), 255, dtype=np.float32)


def _scalar(row: Values) -> NDArray[np.float32]:
    return np.asarray(decode_scalar(row), np.float32)[..., None]


def _cells(features: NDArray[np.float32], pixels: NDArray[np.intp], view: View, stride: int) -> NDArray[np.float32]:
    """[N, C] features of the cells that flat pixels lie in."""
    y, x = np.divmod(pixels, view.camera.width)
    return features[:, y // stride, x // stride].T
