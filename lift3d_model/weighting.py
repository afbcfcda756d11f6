"""Learned part of Stage II: how much more or less than its analytic weight a witness deserves.

A generalised additive model: log correction = sum_k f_k(clue_k), each f_k a piecewise linear curve of one clue, so the
weight stays a product of readable factors. Values are never touched, only weighed, and all f_k = 0 is exactly the
analytic model: that is where training starts and what is left without a checkpoint. Clues are free of the scene's
unit and of the operator's channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Shape:
    """A curve's knots and what is known of its course.

    Attributes:
        knots: increasing positions; beyond the outermost the curve is flat.
        falling: whether more of the clue can only make a witness less believable.
        anchor: index of a usual clue, at which the curve is 0: witnesses are weighed against each other, and their sum
            keeps its meaning. None leaves the level free.
    """

    knots: tuple[float, ...]
    falling: bool = True
    anchor: int | None = 0


DEVIATION = Shape((0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.25, 1.5), anchor=2)
COLOUR = Shape((0.0, 0.015, 0.03, 0.05, 0.08, 0.12, 0.18, 0.25, 0.35, 0.5, 0.8), anchor=3)
TURN = Shape((0.0, 0.02, 0.04, 0.07, 0.11, 0.16, 0.22, 0.3, 0.45, 0.7), anchor=3)
NEARNESS = Shape((-1.0, -0.6, -0.35, -0.15, 0.0, 0.15, 0.35, 0.6, 1.0), falling=False, anchor=4)
SPREAD = Shape((0.0, 0.01, 0.02, 0.035, 0.05, 0.08, 0.12), anchor=2)
DISSENT = Shape((-2.0, -1.2, -0.7, -0.35, 0.0, 0.35, 0.7, 1.2, 2.0), anchor=4)
SUPPORT = Shape((0.0, 0.4, 0.8, 1.2, 1.6, 2.0, 2.4), anchor=None)

SHAPES: Mapping[str, Shape] = {
    "certain_deviation": DEVIATION,
    "certain_colour": COLOUR,
    "certain_turn": TURN,
    "certain_nearness": NEARNESS,
    "uncertain_deviation": DEVIATION,
    "uncertain_spread": SPREAD,
    "uncertain_colour": COLOUR,
    "uncertain_coarse": COLOUR,
    "uncertain_turn": TURN,
    "uncertain_nearness": NEARNESS,
    "novel_deviation": DEVIATION,
    "novel_spread": SPREAD,
    "novel_colour": COLOUR,
    "novel_turn": TURN,
    "novel_nearness": NEARNESS,
    "dissent": DISSENT,
    "own": SUPPORT,
}
"""Curves by name: the clues of each regime (see `clues`), a value's dissent from the others', and the others' support
where the target's own value is weighed."""
CELLS = 256
"""Cells of a curve's table: what inference looks up."""
FLAT = 0.01
"""Largest log factor that is not worth looking up."""


class Weighting(nn.Module):
    """All curves. Parameters are the curves' values at their knots, before order is imposed; 0 is analytic."""

    def __init__(self) -> None:
        super().__init__()
        self.values = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(len(shape.knots))) for name, shape in SHAPES.items()}
        )

    def __contains__(self, name: str) -> bool:
        return name in SHAPES

    def curve(self, name: str) -> Tensor:
        """[knots] values of a curve: falling where its shape says so, 0 at its anchor."""
        values: Tensor = self.values[name]
        shape = SHAPES[name]
        if shape.falling:
            values = values + (_falling(values.detach()) - values.detach())  # gradients as if there were no order
        return values if shape.anchor is None else values - values[shape.anchor]

    def impose_order(self) -> None:
        """Replace the parameters of falling curves by the nearest falling ones, as training does after a step."""
        with torch.no_grad():
            for name, values in self.values.items():
                if SHAPES[name].falling:
                    values.copy_(_falling(values))

    def forward(self, name: str, clue: Tensor) -> Tensor:
        """f_k of a clue of any shape; differentiable in the curve, not in the clue."""
        knots = clue.new_tensor(SHAPES[name].knots)
        values = self.curve(name).to(clue.dtype)
        right = torch.searchsorted(knots, clue.detach().contiguous()).clamp(1, len(knots) - 1)
        low, high = knots[right - 1], knots[right]
        share = ((clue - low) / (high - low)).clamp(0, 1)
        return values[right - 1] * (1 - share) + values[right] * share

    def tables(self) -> Tables:
        """The curves as tables for inference."""
        with torch.no_grad():
            return Tables({name: self._table(name) for name in SHAPES})

    def _table(self, name: str) -> Tensor:
        knots = SHAPES[name].knots
        step = (knots[-1] - knots[0]) / CELLS
        device = self.values[name].device
        return self.forward(name, knots[0] + step * (torch.arange(CELLS, device=device) + 0.5)).detach()


class Tables:
    """The curves of a `Weighting` by nearest look-up: several times faster, the same to a fraction of a per cent.

    A curve that stays within FLAT of zero is left out and costs nothing.
    """

    def __init__(self, tables: Mapping[str, Tensor]) -> None:
        self._tables = {name: table for name, table in tables.items() if bool(table.abs().max() > FLAT)}

    def __contains__(self, name: str) -> bool:
        return name in self._tables

    def __call__(self, name: str, clue: Tensor) -> Tensor:
        """f_k of a clue of any shape."""
        knots, table = SHAPES[name].knots, self._tables[name]
        scale = CELLS / (knots[-1] - knots[0])
        cell = torch.add(clue.new_tensor(-knots[0] * scale), clue, alpha=scale).clamp_(0, CELLS - 1).int()
        return table.to(clue.device).index_select(0, cell.flatten()).view(clue.shape)


def _falling(values: Tensor) -> Tensor:
    """The nearest falling sequence (isotonic regression): runs that rise are replaced by their means."""
    runs: list[tuple[float, int]] = []
    for value in values.tolist():
        mean, count = value, 1
        while runs and runs[-1][0] < mean:
            before, length = runs.pop()
            mean, count = (mean * count + before * length) / (count + length), count + length
        runs.append((mean, count))
    return values.new_tensor([mean for mean, count in runs for _ in range(count)])


def load_weighting(tensors: Mapping[str, Tensor]) -> Tables | None:
    """Tables from a checkpoint's `weighting` group; None where it has none. Raises `ValueError` for another model's."""
    if not tensors:
        return None
    expected = {f"values.{name}": len(shape.knots) for name, shape in SHAPES.items()}
    found = {name: tensor.numel() for name, tensor in tensors.items()}
    if found != expected:
        raise ValueError(f"expected curves {expected}, found {found}")
    weighting = Weighting()
    weighting.load_state_dict(dict(tensors))
    return weighting.tables()
