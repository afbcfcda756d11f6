"""Lifting single rays with gradients: the model's own evidence and corrector, with curves that are being learned."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lift3d_model.clues import own_factor
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


def weigh_rays(example: Example, pixels: Tensor, weighting: Weighting) -> Rays:
    """Witnesses of target pixels [R, 2] and their learned weights."""
    settings = EvidenceSettings(colour_scale=None) if example.kind == "novel" else EvidenceSettings()
    views, target = example.views, example.target
    evidence = gather_evidence(views, example.depths, target, example.sources, pixels, settings, weighting)
    view, landed, weight = example.sources[evidence.slot], evidence.located, evidence.weight
    if example.kind == "label":
        own = torch.ones_like(weight[0]) * own_factor(weighting, weight.sum(0))
        weight = torch.cat([weight, own[None]])
        view = torch.cat([view, view.new_tensor([target])])
        landed = torch.cat([landed, pixels[None].to(landed.dtype)])
    return Rays(view, landed, weight)


def lift_rays(weighting: Weighting, rays: Rays, values: Tensor) -> Tensor:
    """Corrected mean [C, R] of the witnesses' values [E, C, R]."""
    return correct_features(values, rays.weight, CorrectorSettings(), weighting)[0]
