"""Lifting single rays with gradients: the model's own evidence and corrector, with curves that are being learned."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lift3d_model.clues import Curves, ForVotes, own_factor
from lift3d_model.corrector import CorrectorSettings, correct_features
from lift3d_model.evidence import EvidenceSettings, gather_evidence
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


def weigh_rays(example: Example, pixels: Tensor, weighting: Weighting | None) -> Rays:
    """Witnesses of target pixels [R, 2] and their learned weights, or the analytic ones."""
    settings = EvidenceSettings(colour_scale=None) if example.kind == "novel" else EvidenceSettings()
    views, target, votes = example.views, example.target, example.kind == "votes"
    curves: Curves | None = ForVotes(weighting) if votes and weighting is not None else weighting
    evidence = gather_evidence(views, example.depths, target, example.sources, pixels, settings, curves)
    view, landed, weight = example.sources[evidence.slot], evidence.pixels, evidence.weight
    if votes or example.kind == "label":
        own = torch.ones_like(weight[0]) * (1.0 if votes else own_factor(weighting, weight.sum(0)))
        weight = torch.cat([weight, own[None]])
        view = torch.cat([view, view.new_tensor([target])])
        landed = torch.cat([landed, pixels[None].to(landed.dtype)])
    return Rays(view, landed, weight)


def lift_rays(weighting: Weighting, rays: Rays, values: Tensor) -> Tensor:
    """Corrected mean [C, R] of the witnesses' values [E, C, R]."""
    return correct_features(values, rays.weight, CorrectorSettings(), weighting)[0]
