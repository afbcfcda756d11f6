"""`ensemble(A, B; weights=[2, 1])`: operators that predict the same kind of thing, averaged with weights.

Classes are averaged as scores, over a cross-walk into one label set where members have several. Members keep their
own grids: what is averaged is what each of them makes of a view at its full resolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.operators.composed.members import check_members, fingerprint, reads_files
from pipeline.operators.composed.relabel import mapped_scores, told, walk_to
from pipeline.operators.geometry_valued import moves_between_views
from pipeline.protocols import Operator
from schemas.errors import ConfigError, ContractError
from schemas.label_sets import LabelSet
from schemas.label_sets import label_set as built_in
from schemas.store import Kind

if TYPE_CHECKING:
    from torch import Tensor

    from schemas.scene import FrameBatch

VERSION = 1
"""Version of what encode and decode compute; part of the fingerprint."""


class Ensemble:
    """The weighted mean of several operators' predictions.

    Args:
        operators: two or more of one kind: classes, scalar or image. Features of different models have nothing in
            common, so these are refused. Class scores must not be negative (the built-in operators give probabilities).
        weights: one a member, zero or more; equal where absent. Only their ratio counts.
        label_set: name of the label set of the result; where absent, that of the first member. Classes of a member that
            have no counterpart in it say nothing.

    A map of K classes takes 1.2 MB times K a view of 640 x 480: lower operator.batch_size where memory is short.
    """

    takes_operators = True
    name = "ensemble"
    stride = 1

    def __init__(
        self, *operators: Operator, weights: Sequence[float] | None = None, label_set: str | None = None
    ) -> None:
        check_members(self.name, operators)
        self.operators = self.members = operators
        self.kind: Kind = _one_kind(operators)
        self.weights = _shares(weights, len(operators))
        self.reads_files = reads_files(operators)
        self.label_set = self._target(label_set)
        self._walks = [walk_to(one, self.label_set, self.name) for one in operators] if self.label_set else []

    def encode(self, batch: FrameBatch[Tensor]) -> Tensor:
        """images [B, 3, H, W] -> the weighted mean of what the members make of them: [B, K or C, H, W]."""
        size = (int(batch.images.shape[-2]), int(batch.images.shape[-1]))
        return self._mean([one.decode(one.encode(batch), size).float() for one in self.operators])

    def decode(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Nothing is left to do."""
        return features

    def fingerprint(self) -> str:
        """The members' in their order, weights and where each class goes."""
        walks = [told(walk) for walk in self._walks]
        return fingerprint(self.name, VERSION, self.operators, weights=self.weights, walks=walks)

    def _mean(self, decoded: Sequence[Tensor]) -> Tensor:
        """Members without weight are left out: not even their zeros can be NaN."""
        if self._walks:
            for one, scores in zip(self.operators, decoded, strict=True):
                _check_scores(one, scores)
            decoded = [mapped_scores(scores, walk) for scores, walk in zip(decoded, self._walks, strict=True)]
        heard = [(weight, value) for weight, value in zip(self.weights, decoded, strict=True) if weight]
        if len({weight for weight, _ in heard}) == 1:  # the mean of equal values is the value, to the last bit
            return sum((value for _, value in heard[1:]), heard[0][1]) / len(heard)
        return sum((weight * value for weight, value in heard[1:]), heard[0][0] * heard[0][1])

    def _target(self, name: str | None) -> LabelSet | None:
        if self.kind == "classes":
            return built_in(name) if name is not None else self.operators[0].label_set
        if name is not None:
            raise ConfigError(f"ensemble: a label set has no meaning where members predict {self.kind}")
        return None


def _one_kind(operators: Sequence[Operator]) -> Kind:
    kinds = {one.kind for one in operators}
    if len(operators) < 2:
        raise ConfigError(f"ensemble: {len(operators)} member(s), expected two or more", remedy="ensemble(indoor, ...)")
    if len(kinds) > 1 or "features" in kinds:
        found = ", ".join(f"{one.name} {one.kind}" for one in operators)
        raise ConfigError(f"ensemble: members must all predict classes, scalar or image, found {found}")
    for one in operators:
        if moves_between_views(one):
            raise ConfigError(
                f"ensemble: the values of {one.name!r} are moved between views, which a mean does not know"
            )
    return kinds.pop()


def _shares(weights: Sequence[float] | None, members: int) -> tuple[float, ...]:
    """Weights that sum to 1."""
    given = [1.0] * members if weights is None else weights
    fits = isinstance(given, Sequence) and not isinstance(given, str) and len(given) == members
    if not fits or not all(type(w) in (int, float) and math.isfinite(w) and w >= 0 for w in given) or not sum(given):
        raise ConfigError(
            f"ensemble: weights is {weights!r:.80}, expected {members} numbers, none negative and not all 0",
            remedy="for example weights=[2, 1]",
        )
    return tuple(w / math.fsum(given) for w in given)


def _check_scores(member: Operator, scores: Tensor) -> None:
    if bool((scores < 0).any()):
        raise ContractError(
            f"ensemble: {member.name!r} gave class scores down to {float(scores.min()):.3g}, expected none below 0",
            remedy="an ensemble averages probabilities: have its decode end with a softmax",
        )
