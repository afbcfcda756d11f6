"""Where the constants of a class's confidence come from: a logistic regression over pixels of rooms with known labels.

N: pixels that were drawn. The rooms must not be those that confidence is judged on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from lift3d_model import Lifted
from lift3d_model.lifted import ODDS, ODDS_LEAD, ODDS_SHARE, ODDS_VIEW
from pipeline.benchmark.labels import SET, noisy_space, target_truth, written
from pipeline.benchmark.lifts import Memory, Remembering, Variant, WatchedLift3D, config_of, lift_targets
from pipeline.benchmark.options import CLEAN
from pipeline.benchmark.scenes import BenchScene
from pipeline.benchmark.table import Cell, Table
from pipeline.evaluation.calibration import auroc, calibration_error, confidence_histogram
from pipeline.lift_weights import load_weights
from schemas.config import LiftConfig, OperatorConfig
from schemas.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

Values = NDArray[np.float64]

CASES = tuple((n, level) for n in (4, 8, 16) for level in (CLEAN, 0.5, 1.0, 2.0) if n > 4 or level >= 1)
"""Source views and noise: many views of clean labels and few of bad ones."""
DRAWN = 6000
"""Pixels that are drawn of a target view."""
SHIPPED = np.array([ODDS, ODDS_SHARE, ODDS_VIEW, ODDS_LEAD])
STEPS, RIDGE, CLOSE = 50, 1e-6, 1e-8
"""Of Newton's method: most steps, what keeps it from diverging where a clue never changes, and when it has arrived."""


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """Pixels of one scene with evidence and a known class.

    Attributes:
        mode, sources, noise: how they were lifted, from what.
        clues: [N, 4] what the log odds are a sum of, in the order of the constants.
        right: [N] whether the lifted class is the true one.
    """

    mode: str
    sources: int
    noise: float
    clues: Values
    right: NDArray[np.bool_]

    def confidence(self, constants: Values) -> Values:
        """[N] with these constants."""
        return np.asarray(1 / (1 + np.exp(-self.clues @ constants)))

    def scores(self, constants: Values) -> tuple[float | None, float | None]:
        """AUROC for wrong pixels, and calibration error."""
        histogram = confidence_histogram(self.confidence(constants).astype(np.float32), ~self.right)
        return auroc(histogram), calibration_error(histogram)


def gather(bench: BenchScene, cases: Sequence[tuple[int, float]] = CASES, drawn: int = DRAWN) -> Iterator[Pixels]:
    """Pixels of every case of a scene, the same ones every time."""
    memory, rng = Memory(), np.random.default_rng(0)
    for mode in bench.modes:
        for sources, noise in cases:
            lift = LiftConfig.model_validate({"method": mode, "sources": sources})
            clues, right = _lifted(bench, lift, noise, memory)
            some = rng.permutation(len(right))[: drawn * len(bench.targets)]
            yield Pixels(mode, sources, noise, clues[some], right[some])


def fit(pixels: Sequence[Pixels]) -> Values:
    """[4] the constants under which the pixels' being right or wrong is likeliest; every pixel counts the same.

    Raises `ConfigError` where all are right or all are wrong.
    """
    clues, right = np.concatenate([one.clues for one in pixels]), np.concatenate([one.right for one in pixels])
    if right.all() or not right.any():
        raise ConfigError("all pixels are right, or all are wrong", remedy="fit on more rooms, and with noise")
    found = np.zeros(clues.shape[1])
    for _ in range(STEPS):
        likely = 1 / (1 + np.exp(-clues @ found))
        slope = clues.T @ (likely - right) / len(right) + RIDGE * found
        bend = (clues.T * (likely * (1 - likely))) @ clues / len(right) + RIDGE * np.eye(len(found))
        step = np.linalg.solve(bend, slope)
        found -= step
        if np.abs(step).max() < CLOSE:
            break
    return found


def compared(pixels: Sequence[Pixels], fitted: Values) -> Table:
    """AUROC and calibration error with the constants that are shipped, and with others: means over scenes."""
    rows: list[tuple[Cell, ...]] = []
    for case in dict.fromkeys((one.mode, one.sources, one.noise) for one in pixels):
        same = [one for one in pixels if (one.mode, one.sources, one.noise) == case]
        scored = [[one.scores(constants) for one in same] for constants in (SHIPPED, fitted)]
        rows.append((*case, *(_mean(scores, which) for which in (0, 1) for scores in scored)))
    columns = ("lift", "sources", "noise", "AUROC, shipped", "fitted", "ECE, shipped", "fitted")
    return Table("Confidence with the shipped constants, and with fitted ones", columns, tuple(rows))


def _mean(scores: Sequence[tuple[float | None, float | None]], which: int) -> str | None:
    known = [found for score in scores if (found := score[which]) is not None]
    return f"{np.mean(known):.3f}" if known else None


def _lifted(bench: BenchScene, lift: LiftConfig, noise: float, memory: Memory) -> tuple[Values, NDArray[np.bool_]]:
    """Clues [N, 4] of all target pixels with evidence and a known class, and whether their class is right."""
    space = noisy_space()
    noted: list[Said] = []
    with written(bench, noise) as folder:
        operator = OperatorConfig(spec=f"precomputed:{folder}", kwargs={"label_set": SET})
        lift_targets(bench, config_of(bench, operator, lift), _model(lift, memory, noted.append))
    clues, right = [], []
    for (padded, found), truth in zip(noted, target_truth(bench, space)[0], strict=True):
        height, width = truth.shape
        ids = padded[:height, :width]
        scored = (ids >= 0) & (truth < len(space.labels.ids))
        clues.append(found[:, :height, :width][:, scored].T)
        right.append(ids[scored] == truth[scored])
    return np.concatenate(clues), np.concatenate(right)


Said = tuple[NDArray[np.int16], Values]
Note = Callable[[Said], Any]


@dataclass(frozen=True)
class _Noted(Lifted):
    """What was lifted, that tells its class ids [h, w] and clues [4, h, w] when it is asked for confidence."""

    note: Note = field(default=lambda _: None)

    def agreement(self, similarity: Tensor) -> tuple[Tensor, float | None]:
        confidence, consistency = super().agreement(similarity)
        raw, share, ahead = self.clues(similarity)
        everywhere = torch.full_like(raw, consistency or 0.0)
        clues = torch.stack([torch.ones_like(raw), raw * share.logit(), everywhere, everywhere * ahead])
        grid = self.values.shape[-2:]
        self.note((self.ids.numpy(), clues.unflatten(1, grid).double().numpy()))
        return confidence, consistency


def _model(lift: LiftConfig, memory: Memory, note: Note) -> WatchedLift3D:
    checkpoint, digest = load_weights(lift)
    return _NotingLift3D(Variant(lift).settings(), checkpoint, Remembering(memory, digest), note=note)


class _NotingLift3D(WatchedLift3D):
    """The same lift, which notes the clues of every target."""

    def __init__(self, *args: Any, note: Note) -> None:
        super().__init__(*args)
        self._note = note

    def lift_ids(self, *args: Any, **kwargs: Any) -> Lifted:
        lifted = super().lift_ids(*args, **kwargs)
        return _Noted(lifted.values, lifted.witnesses, lifted.weight, lifted.sources, lifted.classes, note=self._note)
