"""What can be trained: one learned part with its loss and its score, whatever the loop around it does."""

from __future__ import annotations

from typing import Protocol

from torch import Generator, Tensor, nn


class Task(Protocol):
    """One learned part of the model.

    Attributes:
        name: the part's group in the checkpoint; its module's state goes there as it is.
    """

    name: str

    @property
    def module(self) -> nn.Module:
        """The learned part."""
        ...

    def loss(self, rng: Generator) -> tuple[Tensor, dict[str, float]]:
        """One step's loss (a scalar that depends on the module) and figures for the log.

        All randomness comes from `rng` (on the CPU), so that a resumed run goes on exactly as it would have.
        """
        ...

    def validate(self) -> dict[str, float]:
        """Figures on views that no step ever looks at, the same ones every time.

        One of them is `score`, lower being better, or several are `score:<prefix of tensor names>` (see `loop.SCORE`).
        """
        ...

    def config(self) -> dict[str, object]:
        """What the part has to know to be rebuilt from its tensors, as plain JSON types."""
        ...
