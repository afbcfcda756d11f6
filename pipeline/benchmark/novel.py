"""Part c: views that are predicted from the other views alone, against what the operator makes of the real image.

Beside the lift: nearest-view warp (the nearest source that sees the cell's point) and the plain mean of all sources
that see it, with the same geometry. All are scored on the cells that every one of them has a value for. No view looks
at a held-out one, not even for the depth of a source.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from lift3d_model.geometry import in_image, land, pixel_centres, view_to_view
from lift3d_model.sampling import nearest_index, pick, sample_bilinear
from pipeline.benchmark.ablations import corrector_on
from pipeline.benchmark.catalogue import VIEW_OPERATORS, Entry
from pipeline.benchmark.cells import Cells
from pipeline.benchmark.labelled import Build
from pipeline.benchmark.lifts import Memory, Seen, Variant, config_of, lift_targets
from pipeline.benchmark.map_scores import map_scores
from pipeline.benchmark.options import ANALYTIC, LIFT, NO_WEIGHTS, WEIGHTS, Options
from pipeline.benchmark.scenes import BenchScene, spaced
from schemas.config import LiftConfig, OperatorConfig
from schemas.label_sets import LabelSet
from schemas.scene import FrameBatch
from schemas.store import Kind

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.protocols import Operator

SAME_SURFACE = 0.05
"""Relative depth difference within which a source sees the target's point."""
WARP, MEAN = "nearest-view warp", "mean of sources"
AGREEING = "feature agreement on"
"""Name of the lift that weighs witnesses by how their features agree, and not those in good places more."""
WAYS = {
    ANALYTIC: (NO_WEIGHTS, None),
    AGREEING: (WEIGHTS, corrector_on),
    LIFT: (WEIGHTS, None),
}
"""Name of a lift -> `lift.weights`, and what is changed of the model's settings."""


def measure_views(bench: BenchScene, options: Options, cells: Cells) -> None:
    """Every cell of part c for one scene, cut down to its measured views: the others are not looked at."""
    frames = tuple(bench.frames[target] for target in bench.targets)
    held_out = spaced(len(frames), options.few_views)
    scene = replace(bench.scene, frames=frames)
    bench = replace(bench, scene=scene, targets=held_out, planned=held_out, held_out=True)
    memory = Memory()
    for entry in VIEW_OPERATORS:
        build = cache(lambda entry=entry: entry.build(options.weights))
        for mode in options.geometries(bench):
            for name, (weights, change) in WAYS.items():
                lift = LiftConfig(method=mode, mode="novel", sources=options.usual_sources, weights=weights)
                measure_case(bench, entry, build, name, Variant(lift, change), cells, memory)


def measure_case(
    bench: BenchScene, entry: Entry, build: Build, name: str, variant: Variant, cells: Cells, memory: Memory
) -> dict[str, Any]:
    """One cell: held-out views of one operator, by one lift."""
    labels = {"group": bench.group, "scene": bench.id, "operator": entry.title, "what": name}
    labels["mode"] = variant.lift.method
    key = {"views": [frame.id for frame in bench.frames], "targets": bench.targets, **entry.key(), **variant.key()}
    return cells.measure("c", labels, key, lambda: _held_out(bench, build, variant, memory))


def _held_out(bench: BenchScene, build: Build, variant: Variant, memory: Memory) -> dict[str, Any]:
    operator = AsFeatures(build())
    found: list[dict[str, Any]] = []

    def look(seen: Seen) -> None:
        found.append(_scored(seen, operator.kind))

    model = variant.model(memory, look)
    config = config_of(bench, OperatorConfig(spec=operator.name, batch_size=1), variant.lift)
    lift_targets(bench, config, model, operator)
    return _averaged(found)


class AsFeatures:
    """An operator whose features are lifted whatever it makes of them: what is compared here are features."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator
        self.name, self.stride = operator.name, operator.stride
        self.label_set: LabelSet | None = None
        self.kind: Kind = "features" if operator.kind == "classes" else operator.kind

    def encode(self, batch: FrameBatch[Tensor]) -> Tensor:
        """The operator's."""
        return self._operator.encode(batch)

    def decode(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Features as they are, where they stand for classes; else the operator's."""
        return features if self.kind == "features" else self._operator.decode(features, size)

    def fingerprint(self) -> str:
        """The operator's."""
        return self._operator.fingerprint()


def _scored(seen: Seen, kind: str) -> dict[str, Any]:
    """One target's scores by row, and the share of cells that the lift has a value for."""
    warp, mean, anyone = warped_values(seen)
    supported = seen.lifted.support > 0
    rows = {"lift": seen.lifted.values.flatten(1), WARP: warp, MEAN: mean}
    h, w = seen.lifted.values.shape[-2:]
    height, width = seen.views.sizes[seen.target].tolist()
    inside = pixel_centres(h, w, seen.stride) < torch.tensor([width, height])
    mask = (supported & anyone & inside.all(1)).view(h, w)
    truth = seen.features[-1]
    scores = {name: map_scores(values.view(-1, h, w), truth, mask, kind) for name, values in rows.items()}
    return {**scores, "coverage": float(supported[inside.all(1)].float().mean())}


def warped_values(seen: Seen) -> tuple[Tensor, Tensor, Tensor]:
    """The source values at each cell's point, by the geometry that the lift had.

    Returns:
        [C, R] of the nearest source (by camera centre) that sees the point; [C, R] mean of all that do; [R] any does.
    """
    views, sources = seen.views, torch.tensor(list(seen.sources))
    height, width = seen.depths.mode.shape[-2:]
    h, w = seen.lifted.values.shape[-2:]
    pixels = pixel_centres(h, w, seen.stride)
    last = views.sizes[seen.target].flip(0) - 0.5
    depth = seen.depths.belief(seen.target)[0].flatten()[nearest_index(pixels.minimum(last), height, width)]
    A, b = view_to_view(views.K, views.world_from_cam, seen.target, sources)
    found = [torch.stack(land(*one, pixels.T.float(), depth[None])) for one in zip(A, b, strict=True)]
    x, y, z = torch.cat(found, dim=1)
    landed = torch.stack([x, y], dim=-1)
    stored = pick(seen.depths.mode, sources, nearest_index(landed, height, width))
    sees = in_image(landed, z, views.sizes[sources]) & ((stored - z).abs() < SAME_SURFACE * z) & (depth > 0)
    values = sample_bilinear(seen.features[:-1], landed, seen.stride)
    centres = views.world_from_cam[:, :3, 3]
    order = (centres[sources] - centres[seen.target]).norm(dim=1).argsort()
    first = order[sees[order].to(torch.uint8).argmax(0)]
    nearest = values.gather(0, first[None, None].expand(1, values.shape[1], -1))[0]
    mean = (values * sees[:, None]).sum(0) / sees.sum(0).clamp_min(1)
    return nearest, mean, sees.any(0)


def _averaged(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over targets, by row and score."""
    rows: dict[str, Any] = {"coverage": sum(one["coverage"] for one in found) / len(found), "views": len(found)}
    for row in ("lift", WARP, MEAN):
        scores = [one[row] for one in found]
        rows[row] = {name: sum(score[name] for score in scores) / len(scores) for name in scores[0]}
    return rows
