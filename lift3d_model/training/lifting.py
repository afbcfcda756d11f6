"""Lifting single rays with gradients: the model's own weights, times the factor that is being learned."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lift3d_model.clues import Landings, Regime, correction
from lift3d_model.corrector import CorrectorSettings, weighted_mean
from lift3d_model.evidence import CERTAIN_SPREAD, EvidenceSettings, _samples_on_rays, gather_evidence, home_index
from lift3d_model.geometry import view_to_view, warp_pixels
from lift3d_model.training.examples import Example
from lift3d_model.weighting import Weighting


@dataclass(frozen=True, slots=True)
class Rays:
    """Weighed witnesses of R rays; in label mode the target itself is the last.

    Attributes:
        view: [E]; pixels: [E, R, 2]; weight: [E, R] with gradients to the curves.
    """

    view: Tensor
    pixels: Tensor
    weight: Tensor
    regime: Regime


def weigh_rays(example: Example, pixels: Tensor, weighting: Weighting) -> Rays:
    """Witnesses of target pixels [R, 2] and their learned weights."""
    views, depths, target, sources = example.views, example.depths, example.target, example.sources
    novel = example.kind == "novel"
    settings = EvidenceSettings(colour_scale=None) if novel else EvidenceSettings()
    evidence = gather_evidence(views, depths, target, sources, pixels, settings)
    home = home_index(views, target, pixels)
    depth, _, spread = _samples_on_rays(depths, target, home, settings.samples)
    A, b = view_to_view(views.K, views.world_from_cam, target, sources)
    z = warp_pixels(A, b, pixels, depth)[1].flatten(0, 1)
    tolerance = settings.tolerance + settings.spread_factor * spread
    regime: Regime = "novel" if novel else ("certain" if float(spread.max()) <= CERTAIN_SPREAD else "uncertain")
    landings = Landings(pixels, home, depth, tolerance, sources, evidence.index, z)
    factor = correction(weighting, regime, views, depths, target, landings, evidence.weight)
    weight = evidence.weight * factor
    view, landed = landings.view, evidence.pixels
    if example.kind == "label":
        own = torch.exp(weighting("own", torch.log1p(weight.sum(0))))
        weight = torch.cat([weight, own[None]])
        view = torch.cat([view, view.new_tensor([target])])
        landed = torch.cat([landed, pixels[None].to(landed.dtype)])
    return Rays(view, landed, weight, regime)


def lift_rays(weighting: Weighting, rays: Rays, values: Tensor) -> Tensor:
    """Corrected mean [C, R] of the witnesses' values [E, C, R]."""
    return weighted_mean(values, rays.weight * agreement(weighting, values, rays.weight))


def agreement(weighting: Weighting, values: Tensor, weight: Tensor) -> Tensor:
    """[E, R]: the corrector's factor for agreement with the others, times the learned one for dissent."""
    settings = CorrectorSettings()
    unit = F.normalize(values, dim=1)
    total = torch.einsum("er,ecr->cr", weight, unit)
    rest = total[None] - weight[:, None] * unit
    length = rest.norm(dim=1)
    cosine = (rest * unit).sum(1) / length.clamp_min(1e-6)
    cosine = torch.where(length < 1e-6, torch.full_like(cosine, settings.prior_agreement), cosine)
    analytic = (cosine.clamp_min(0) ** settings.sharpness).clamp_min(settings.floor)
    return analytic * torch.exp(weighting("dissent", dissent(cosine, weight)))


def dissent(cosine: Tensor, weight: Tensor) -> Tensor:
    """How far a witness is from the others, in logs of what is usual in this map, so that operators compare: [E, R]."""
    distance = (1 - cosine.detach()).clamp_min(1e-4)
    seen = distance[weight.detach() > 1e-3]
    usual = seen.median() if seen.numel() else distance.new_tensor(1.0)
    return torch.log(distance / usual)
