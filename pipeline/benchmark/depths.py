"""Part d: depth from RGB alone against sensor depth, and whether its spread says how wrong it is."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.benchmark.cells import Cells
from pipeline.benchmark.lifts import Memory, Variant, config_of, target_chunks
from pipeline.benchmark.options import ANALYTIC, LIFT, NO_WEIGHTS, WEIGHTS, Options
from pipeline.benchmark.scenes import BenchScene
from schemas.config import LiftConfig, OperatorConfig

RANKED_PIXELS = 200_000
"""Pixels a scene, evenly spaced, over which errors and spreads are ranked."""
STEPS = 50
"""Points of the sparsification curves."""

Values = NDArray[np.float64]


def measure_depth(bench: BenchScene, options: Options, cells: Cells, memory: Memory) -> None:
    """The cells of part d, where there is sensor depth to compare with."""
    for name, weights in ((ANALYTIC, NO_WEIGHTS), (LIFT, WEIGHTS)):
        variant = Variant(LiftConfig(method="rgb", sources=options.usual_sources, weights=weights))
        labels = {"group": bench.group, "scene": bench.id, "what": name, "sources": options.usual_sources}
        key = {"targets": bench.targets, **variant.key()}
        cells.measure("d", labels, key, partial(_measured, bench, variant, memory))


def _measured(bench: BenchScene, variant: Variant, memory: Memory) -> dict[str, Any]:
    truth = {bench.frames[target].id: bench.views[target].depth for target in bench.targets}
    mode, spread, true = [], [], []
    for frame, (depth, width) in found_depths(bench, variant, memory).items():
        known = truth[frame] > 0
        mode.append(depth[known])
        spread.append(width[known])
        true.append(truth[frame][known])
    return depth_scores(*(np.concatenate(parts).astype(np.float64) for parts in (mode, spread, true)))


def found_depths(
    bench: BenchScene, variant: Variant, memory: Memory
) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Depth and relative spread [H, W] of every target as it is lifted with (compared with its sources'), by frame."""
    import torch

    from pipeline.loading import as_tensors, load_view

    torch.set_num_threads(1)
    model = variant.model(memory)
    found = {}
    for chunk in target_chunks(bench, config_of(bench, OperatorConfig(), variant.lift)):
        views, sensor = as_tensors([load_view(frame, variant.lift) for frame in chunk.frames], torch.device("cpu"))
        needed = sorted({v for target in chunk.targets for v in (target, *chunk.sources[target])})
        with torch.inference_mode():
            depths = model.depths(views, sensor, [False] * len(chunk.frames), list(chunk.sources), needed)
            for target in chunk.targets:
                own = model.confirmed(depths, views, target, chunk.sources[target])
                camera = chunk.frames[target].camera
                mode, spread, _ = own.belief(target)[:, : camera.height, : camera.width].numpy()
                found[chunk.frames[target].id] = mode, spread
    return found


def depth_scores(depth: Values, spread: Values, truth: Values) -> dict[str, float]:
    """Scores of [N] depths (0 = none) with relative spreads, against [N] true depths > 0.

    `within_1`, `within_2`: share of pixels whose error is at most 1 or 2 spreads (a Gaussian: 0.68, 0.95).
    `rank_correlation`: Spearman's, of spread and relative error. `ause`: area between the curves of mean error when the
    least certain pixels, or those with the largest errors, are left out step by step, relative to the mean error.
    """
    known = depth > 0
    if not known.any():
        return {"coverage": 0.0, "pixels": float(truth.size)}
    depth, spread, true = depth[known], spread[known], truth[known]
    error = np.abs(depth - true) / true
    ratio = np.maximum(depth / true, true / depth)
    deviations = np.abs(depth - true) / np.maximum(spread * depth, 1e-12)
    step = max(1, error.size // RANKED_PIXELS)
    return {
        "pixels": float(truth.size),
        "coverage": float(known.mean()),
        "abs_rel": float(error.mean()),
        "median_rel": float(np.median(error)),
        "delta_105": float((ratio < 1.05).mean()),
        "delta_125": float((ratio < 1.25).mean()),
        "within_1": float((deviations <= 1).mean()),
        "within_2": float((deviations <= 2).mean()),
        "rank_correlation": rank_correlation(spread[::step], error[::step]),
        "ause": ause(spread[::step], error[::step]),
    }


def rank_correlation(a: Values, b: Values) -> float:
    """Spearman's correlation of [N] and [N]; 0 where one of them is constant."""
    ranks = [_ranks(values) for values in (a, b)]
    if any(rank.std() == 0 for rank in ranks):
        return 0.0
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def ause(spread: Values, error: Values) -> float:
    """Area under the sparsification error, relative to the mean error: 0 = spreads rank errors perfectly."""
    mean = float(error.mean())
    if mean == 0:
        return 0.0
    by_spread, by_error = (_sparsified(error, order) for order in (np.argsort(spread), np.argsort(error)))
    return float((by_spread - by_error).mean() / mean)


def _sparsified(error: Values, order: NDArray[np.intp]) -> Values:
    """[STEPS] mean errors of what is left when a growing share at the end of `order` is left out."""
    running = np.cumsum(error[order]) / np.arange(1, error.size + 1)
    kept = np.ceil(np.linspace(1, 1 / STEPS, STEPS) * error.size).astype(int).clip(1, error.size)
    return running[kept - 1]


def _ranks(values: Values) -> Values:
    """Ranks from 0, ties sharing their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts + 1) / 2)[inverse]
