"""Stage II, second half: the inconsistency corrector. Weights from agreement; values are never touched by them.

R_i = sum_j A_ij g_j - g_i. For features, the rows of A are base weight x agreement, ray by ray: a witness that
disagrees with what the others say is outvoted by them. For class ids, A is a lift of its own: every source's map is
first lifted in that source's own view, from its sources, and what is blended at the target is g_i + R_i
(`Lift3D.corrected_ids`).
Channels are only ever weighted, so permuting or duplicating them permutes or duplicates the output.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lift3d_model.clues import Curves, dissent


@dataclass(frozen=True, slots=True)
class CorrectorSettings:
    """Constants of the reweighting.

    Attributes:
        rounds: reweighting rounds of features, and whether class maps are corrected at all; 0 = corrector off.
        prior_agreement: what the agreement of a witness without company is taken for.
        floor: least agreement, so that a lone witness still speaks.
        sharpness: exponent of the cosine for features.
        emphasis: exponent of features' base weights: above 1 the best placed witnesses count for more, all together for
            as much as before.
        surer: how much surer, in odds, an operator has to be than the geometry for its own class to count twice.
        most_own: what that counts at most.
    """

    rounds: int = 1
    prior_agreement: float = 0.35
    floor: float = 0.02
    sharpness: float = 4.0
    emphasis: float = 1.0
    surer: float = 3.0
    most_own: float = 8.0


NOVEL_VIEW = CorrectorSettings(rounds=0, emphasis=2.0)
"""Where the target has no prediction of its own, few views from nearby tell best what it would be: an average over many
blurs, and that many agree says little. Chosen on the views of one real scene that training saw, and another's."""


def vote(ids: Tensor, weight: Tensor, classes: int) -> Tensor:
    """Weighted votes: ids [E, R] in 0..classes-1, weight [E, R] -> [classes, R]."""
    return weight.new_zeros(classes, ids.shape[1]).scatter_add_(0, ids, weight)


def own_share(agreement: float, trust: float, settings: CorrectorSettings) -> float:
    """How often the target's own class counts: once, and more where operators agree better than geometry is known.

    All sources are looked at through one depth, so where it is off they are wrong together, however many they are.

    Args:
        agreement: share of the sources' evidence, as they were predicted, that has the target's own predicted class.
        trust: mean probability that the target's depth is right.
    """
    odds, known = (value / max(1.0 - value, 1e-6) for value in (agreement, trust))
    surer = odds / max(settings.surer * known, 1e-6)
    return 1.0 + min(surer**4, settings.most_own - 1.0)


def correct_features(
    values: Tensor, weight: Tensor, settings: CorrectorSettings, curves: Curves | None = None
) -> tuple[Tensor, Tensor]:
    """Robust weighted mean of E witnesses' features.

    Args:
        values: [E, C, R]; weight: [E, R].
        curves: the learned weighting; None leaves the analytic weights.

    Returns:
        mean [C, R] and the final weights [E, R].
    """
    weight = emphasised(weight, settings.emphasis)
    unit = F.normalize(values, dim=1)
    current = weight
    for _ in range(settings.rounds):
        total = torch.einsum("er,ecr->cr", current, unit)
        rest = total[None] - current[:, None] * unit
        cosine = (F.normalize(rest, dim=1) * unit).sum(1)
        alone = rest.norm(dim=1) < 1e-6
        agreement = torch.where(alone, torch.full_like(cosine, settings.prior_agreement), cosine.clamp_min(0))
        current = weight * (agreement**settings.sharpness).clamp_min(settings.floor)
        if curves is not None and "dissent" in curves:
            current = current * curves("dissent", dissent(cosine, weight)).exp()
    return weighted_mean(values, current), current


def emphasised(weight: Tensor, exponent: float) -> Tensor:
    """Weights [E, R] to a power, with the sums that they had: how much evidence there is does not change."""
    if exponent == 1.0:
        return weight
    powers = weight**exponent
    return powers * (weight.sum(0) / powers.sum(0).clamp_min(1e-20))


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """sum_i w_i g_i / sum_i w_i: values [E, C, R], weight [E, R] -> [C, R]; 0 where nothing is known."""
    total = torch.einsum("er,ecr->cr", weight, values)
    return total / weight.sum(0).clamp_min(1e-9)
