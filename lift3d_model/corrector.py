"""Stage II, second half: the inconsistency corrector. Weights from agreement; values are never touched by them.

R_i = sum_j A_ij g_j - g_i with rows of A given by base weight x reliability: a witness that disagrees with what the
others say, over the whole region that it belongs to, is replaced by them. Works on ids (votes) and on features of any
channel count; channels are only ever weighted, so permuting or duplicating them permutes or duplicates the output.
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
        rounds: reweighting rounds, 0 = corrector off; a second one sharpens but starts to outvote small objects.
        prior_agreement, prior_weight: what a region's agreement is taken for before anything is seen, and how much
            evidence that is worth.
        floor: least reliability, so that a lone witness still speaks.
        sharpness: exponent of the cosine for features.
    """

    rounds: int = 1
    prior_agreement: float = 0.35
    prior_weight: float = 0.5
    floor: float = 0.02
    sharpness: float = 4.0


def vote(ids: Tensor, weight: Tensor, classes: int) -> Tensor:
    """Weighted votes: ids [E, R] in 0..classes-1, weight [E, R] -> [classes, R]."""
    return weight.new_zeros(classes, ids.shape[1]).scatter_add_(0, ids, weight)


def correct_votes(
    ids: Tensor, region: Tensor, weight: Tensor, classes: int, settings: CorrectorSettings
) -> tuple[Tensor, Tensor]:
    """Reliability-weighted votes of E witnesses.

    A witness's region is judged as a whole: its reliability is the mean share of the *other* witnesses' evidence that
    agrees with it, over all rays that land in the region.

    Args:
        ids: [E, R] class index of each witness.
        region: [E, R] region it lies in, numbered so that no two views share a number.
        weight: [E, R] base weights.

    Returns:
        votes [classes, R] and the final weights [E, R].
    """
    regions = int(region.max()) + 1 if region.numel() else 0
    current = weight
    for _ in range(settings.rounds):
        votes = vote(ids, current, classes)
        others = (votes.sum(0) - current).clamp_min(0)
        agreeing = (votes.gather(0, ids) - current).clamp_min(0)
        reliability = _region_mean(weight * agreeing, weight * others, region, regions, settings)
        current = weight * reliability.clamp_min(settings.floor)
    return vote(ids, current, classes), current


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


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """sum_i w_i g_i / sum_i w_i: values [E, C, R], weight [E, R] -> [C, R]; 0 where nothing is known."""
    total = torch.einsum("er,ecr->cr", weight, values)
    return total / weight.sum(0).clamp_min(1e-9)


def _region_mean(agreeing: Tensor, others: Tensor, region: Tensor, regions: int, settings: CorrectorSettings) -> Tensor:
    """[E, R]: each witness's region's share of agreement, shrunk towards the prior."""
    index = region.flatten()
    zeros = agreeing.new_zeros(regions)
    numerator = zeros.scatter_add(0, index, agreeing.flatten())
    denominator = zeros.scatter_add(0, index, others.flatten())
    prior = settings.prior_agreement * settings.prior_weight
    return ((numerator + prior) / (denominator + settings.prior_weight))[region]
