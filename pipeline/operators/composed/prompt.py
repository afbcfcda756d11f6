"""`prompt("a chair")` and `prompt(SPEC, "chair")`: a heat map of what a text or a class names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.operators.composed.members import check_members, fingerprint, reads_files
from pipeline.operators.words import Words
from pipeline.protocols import Operator
from schemas.errors import ConfigError
from schemas.store import Kind

if TYPE_CHECKING:
    from torch import Tensor

    from schemas.scene import FrameBatch

VERSION = 1
"""Version of what decode computes; part of the fingerprint."""


class Prompt:
    """Heat [B, 1, H, W] of a text.

    Args:
        what: a text, which `words` looks for; or an operator of kind classes (open_clip with prompts, indoor, ...).
        name: the class of that operator, as its label set spells it.
        device: torch device of `words`.

    Scores of a class are lifted as they are, at full resolution, before any class has won: what is likely in many views
    but best in none is still seen.
    """

    takes_operators = True
    name = "prompt"
    kind: Kind = "scalar"
    label_set = None

    def __init__(self, what: Operator | str, name: str | None = None, *, device: str = "cpu") -> None:
        if isinstance(what, str):
            self.operator, self._index = _look_for(what, name, device)
        else:
            check_members(self.name, [what])
            self.operator, self._index = what, _class_index(what, name)
        self.stride = self.operator.stride if self._index is None else 1
        self.members = (self.operator,)
        self.reads_files = reads_files(self.members)

    def encode(self, batch: FrameBatch[Tensor]) -> Tensor:
        """images [B, 3, H, W] -> heat on the grid of `words`, or the class's scores [B, 1, H, W]."""
        features = self.operator.encode(batch)
        if self._index is None:
            return features
        size = (int(batch.images.shape[-2]), int(batch.images.shape[-1]))
        return self.operator.decode(features, size)[:, self._index : self._index + 1]

    def decode(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Lifted heat [B, 1, h, w] -> [B, 1, H, W]."""
        return self.operator.decode(features, size) if self._index is None else features

    def fingerprint(self) -> str:
        """The operator's, and the class."""
        return fingerprint(self.name, VERSION, [self.operator], chosen=self._index)


def _look_for(text: str, name: str | None, device: str) -> tuple[Operator, int | None]:
    if name is not None:
        raise ConfigError(
            f"prompt: expected an operator before the class {name!r:.80}, found the text {text!r:.80}",
            remedy='prompt("a chair") or prompt(indoor, "chair")',
        )
    return Words(text, device=device), None


def _class_index(operator: Operator, name: str | None) -> int:
    labels = operator.label_set
    if labels is None or name not in labels.names:
        known = f"its classes are {', '.join(labels.names)}" if labels else f"it predicts {operator.kind}"
        raise ConfigError(f"prompt: {operator.name!r} has no class {name!r}", remedy=known)
    return labels.names.index(name)
