"""`relabel(SPEC, LABEL_SET; unmapped=ignore)`: an operator's classes as those of another label set."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal, get_args

from pipeline.operators.composed.members import check_members, fingerprint, reads_files
from pipeline.protocols import Operator
from schemas.crosswalk import Crosswalk, crosswalk
from schemas.errors import ConfigError
from schemas.label_sets import LabelSet, label_set
from schemas.store import Kind

if TYPE_CHECKING:
    from torch import Tensor

    from schemas.scene import FrameBatch

log = logging.getLogger(__name__)

VERSION = 1
"""Version of what decode computes; part of the fingerprint."""
Unmapped = Literal["error", "ignore"]


class Relabel:
    """Scores of classes as those of another label set.

    Args:
        operator: what predicts, of kind classes.
        label_set: name of the built-in label set that labels are to have.
        unmapped: what to do about classes that have no counterpart there: `error` refuses the operator and names them;
            `ignore` gives the ignore id to pixels where one of them is the likeliest.

    `unmapped` of the object holds the names of these classes.
    """

    takes_operators = True
    name = "relabel"
    kind: Kind = "classes"

    def __init__(self, operator: Operator, label_set: str, *, unmapped: Unmapped = "error") -> None:
        check_members(self.name, [operator])
        if unmapped not in get_args(Unmapped):
            raise ConfigError(f"relabel: unmapped is {unmapped!r}, expected one of {', '.join(get_args(Unmapped))}")
        self.operator, self.members = operator, (operator,)
        self.stride = operator.stride
        self.reads_files = reads_files([operator])
        self._walk = walk_to(operator, _known(label_set), self.name)
        self.label_set = self._walk.target
        self.unmapped = tuple(self._walk.source.name_of(i) for i in self._walk.unmapped)
        self._choice = unmapped
        if self.unmapped:
            self._tell(operator.name)

    def encode(self, batch: FrameBatch[Tensor]) -> Tensor:
        """As the operator encodes."""
        return self.operator.encode(batch)

    def decode(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """The operator's scores [B, K, H, W] as the label set's [B, L, H, W]; all zero where a class becomes none."""
        return mapped_scores(self.operator.decode(features, size), self._walk)

    def fingerprint(self) -> str:
        """The operator's, both label sets and where each class goes."""
        return fingerprint(self.name, VERSION, [self.operator], walk=told(self._walk))

    def _tell(self, name: str) -> None:
        classes = f"{len(self.unmapped)} of {len(self._walk.source.ids)} classes of {name!r} have no counterpart in "
        classes += f"{self.label_set.name!r}: {', '.join(self.unmapped)}"
        if self._choice == "error":
            raise ConfigError(
                f"relabel: {classes:.600}",
                remedy="unmapped=ignore gives their pixels the ignore id, or choose another label set",
            )
        log.warning("%s; their pixels get the ignore id", classes)


def walk_to(operator: Operator, target: LabelSet, asking: str) -> Crosswalk:
    """The cross-walk from an operator's classes. Raises `ConfigError` where it has none, or none has a counterpart."""
    if operator.kind != "classes" or operator.label_set is None:
        raise ConfigError(f"{asking}: {operator.name!r} predicts {operator.kind}, expected classes")
    walk = crosswalk(operator.label_set, target)
    if not walk.ids:
        raise ConfigError(
            f"{asking}: no class of {operator.name!r} (label set {operator.label_set.name!r}) has a counterpart in "
            f"{target.name!r}",
            remedy="docs/label_spaces.md lists the label sets and what leads where",
        )
    return walk


def mapped_scores(scores: Tensor, walk: Crosswalk) -> Tensor:
    """[B, K, H, W] scores of the source's classes -> [B, L, H, W] of the target's.

    A target class scores what the best of its source classes does, so the likeliest class becomes what the likeliest
    source class becomes, whatever unit scores have. Where that becomes none, all are zero: "no prediction".
    """
    import torch

    lowest = scores.amin(1, keepdim=True).clamp(max=0)
    out = lowest.expand(-1, len(walk.target.ids), -1, -1).clone()
    for row, target in enumerate(walk.target.ids):
        sources = [k for k, i in enumerate(walk.source.ids) if walk.ids.get(i) == target]
        if sources:
            out[:, row] = scores[:, sources].amax(1)
    if walk.unmapped:
        kept = [k for k, i in enumerate(walk.source.ids) if i in walk.ids]
        lost = [k for k, i in enumerate(walk.source.ids) if i not in walk.ids]
        is_kept = scores[:, kept].amax(1, keepdim=True) >= scores[:, lost].amax(1, keepdim=True)
        out = torch.where(is_kept, out, 0)
    return out


def told(walk: Crosswalk) -> list[object]:
    """What a cross-walk does, as plain values for a fingerprint."""
    return [walk.source.model_dump_json(), walk.target.model_dump_json(), sorted(walk.ids.items())]


def _known(name: object) -> LabelSet:
    if not isinstance(name, str):
        raise ConfigError(f"relabel: label_set is {name!r:.80}, expected a name", remedy='relabel(indoor, "scannet20")')
    return label_set(name)
