"""Which operators are lifted in parts b and c, and how each one's classes meet the ground truth's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.label_space import LabelSpace, label_space
from schemas.errors import MissingWeightsError
from schemas.label_sets import LabelSet, label_set

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.protocols import Operator
    from schemas.scene import FrameBatch

DEEPLAB_FILE = Path("deeplab_voc") / "deeplabv3_mnv2_pascal_quant.tflite"
STYLE_FOLDER = "style_ncnn"
HERE = "pipeline.benchmark.operators"

VOC_OF_NYU40 = {"chair": "chair", "sofa": "sofa", "table": "diningtable", "television": "tvmonitor", "person": "person"}
"""Classes that both have. The other NYU40 classes are VOC's background."""
UNDECIDED = ("desk", "counter", "otherstructure", "otherfurniture", "otherprop")
"""NYU40 classes that may hold tables, bottles, plants and much else: not scored in VOC's classes."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An operator to measure.

    Attributes:
        title: its name in tables.
        spec, kwargs: how it is built.
        brought: files under the folder of weights: kwarg -> relative path.
        trained_on: whether the lift was trained on its features.
    """

    title: str
    spec: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    brought: Mapping[str, str] = field(default_factory=dict)
    trained_on: bool = False

    def build(self, weights: str | None) -> Operator:
        """The operator, remembering what it encoded. Raises `MissingWeightsError` that says what is missing."""
        from pipeline.operators import build_operator

        if self.brought and weights is None:
            needed = ", ".join(self.brought.values())
            raise MissingWeightsError(f"{self.title} needs {needed}", remedy="name their folder with --weights")
        files = {name: str(Path(weights or "") / relative) for name, relative in self.brought.items()}
        return Replayed(build_operator(self.spec, {**self.kwargs, **files}))

    def key(self) -> dict[str, Any]:
        """What tells entries apart, as plain values."""
        return {"operator": self.spec, "kwargs": {**self.kwargs, **self.brought}}


LABELLERS = (
    Entry("indoor", "indoor"),
    Entry("DeepLab VOC", f"{HERE}:DeepLab", brought={"path": str(DEEPLAB_FILE)}),
)
"""Operators of part b."""

VIEW_OPERATORS = (
    Entry("raw RGB", f"{HERE}:RawRgb"),
    Entry("ViT-S/14 features", "dino", trained_on=True),
    Entry("EfficientNet-Lite0 features", "efficientnet", trained_on=True),
    Entry("HED edges", f"{HERE}:Hed", {"stride": 2}),
    Entry("DeepLab one-hot classes", f"{HERE}:DeepLab", {"stride": 4}, {"path": str(DEEPLAB_FILE)}),
    Entry("style-transferred RGB", f"{HERE}:Style", {"stride": 2}, {"folder": STYLE_FOLDER}),
)
"""Operators of part c."""


class Replayed:
    """The same operator, that encodes each view once: source counts, geometries and variants share its features."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator
        self._known: dict[tuple[str, str], Tensor] = {}
        self.name, self.kind = operator.name, operator.kind
        self.stride, self.label_set = operator.stride, operator.label_set

    def encode(self, batch: FrameBatch[Tensor]) -> Tensor:
        """What the operator encodes, remembered by scene and frame; one-hot maps are kept as class indices."""
        import torch

        views = [(batch.scene, frame) for frame in batch.frames]
        if not all(view in self._known for view in views):
            for view, features in zip(views, self._operator.encode(batch), strict=True):
                self._known[view] = self._kept(features)
        return torch.stack([self._restored(self._known[view]) for view in views])

    def decode(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """The operator's."""
        return self._operator.decode(features, size)

    def fingerprint(self) -> str:
        """The operator's."""
        return self._operator.fingerprint()

    def _kept(self, features: Tensor) -> Tensor:
        """Class indices [H, W], -1 for none, of one-hot maps; anything else as it is."""
        total = features.sum(0)
        hard = self.kind == "classes" and self.stride == 1
        if not hard or not bool((((features == 0) | (features == 1)).all(0) & (total <= 1)).all()):
            return features
        return features.argmax(0).where(total > 0, -1).short()

    def _restored(self, kept: Tensor) -> Tensor:
        if kept.ndim == 3:
            return kept
        import torch

        assert self.label_set is not None
        full = torch.nn.functional.one_hot(kept.long().clamp_min(0), len(self.label_set.ids)) * (kept >= 0)[..., None]
        return full.permute(2, 0, 1).float()


@dataclass(frozen=True, slots=True, eq=False)
class TruthSpace:
    """NYU40 ground truth in an operator's classes.

    Attributes:
        space: turns ids of the operator's label set into class indices.
    """

    space: LabelSpace
    _ids: NDArray[np.uint16] | None = None

    def truth(self, ids: NDArray[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
        """[H, W] NYU40 ids -> class indices, K where not scored."""
        return self.space.truth(ids if self._ids is None else self._ids[ids])


def truth_space(labels: LabelSet) -> TruthSpace:
    """VOC's classes by `VOC_OF_NYU40`, any other label set by the names that it shares with NYU40."""
    if labels.name == "voc21":
        return TruthSpace(label_space(labels, labels), _voc_of_nyu40())
    return TruthSpace(label_space(labels, label_set("nyu40")))


@cache
def _voc_of_nyu40() -> NDArray[np.uint16]:
    """[41] NYU40 id -> VOC id."""
    nyu, voc = label_set("nyu40"), label_set("voc21")
    voc_id = dict(zip(voc.names, voc.ids, strict=True))
    table = np.full(max(nyu.ids) + 1, voc.ignore_id, np.uint16)
    for name, i in zip(nyu.names, nyu.ids, strict=True):
        if name not in UNDECIDED:
            table[i] = voc_id[VOC_OF_NYU40.get(name, "background")]
    return table
