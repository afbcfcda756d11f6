"""Learned refinement of a swept depth map: sharp where the image has an edge, smooth where it has none, and how sure.

The network sees the image, the sweep's mode and its clues, and (in the joint pass) what the source views showed. All
depths go in and come out in planes of the view's own sweep, so that unit, origin and orientation of the world change
nothing. Its depth is a softmax choice among the depths of nearby pixels plus a residual: an edge that is a few pixels
off is moved, not blurred.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lift3d_model.density import Sweep
from lift3d_model.fusion import OWN_WEIGHT, Fused
from lift3d_model.sampling import box_mean

CHANNELS = (16, 24, 32, 48)
"""Channels at working resolution, and at a half, a quarter and an eighth of it."""
REACH = ((0, 0), *((dy * r, dx * r) for r in (2, 5) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx))
"""Offsets, in working pixels, of the neighbours whose depth a pixel may take."""
INPUTS = 26
"""Channels of `describe`."""
LEAST_SCALE = 0.002
"""Added to the relative scale, so that no depth is claimed to be exact."""
SOLO_PLANES = 0.7
"""Spread of an unconfirmed sweep in planes."""
CONFIRMATIONS = 2.0
"""Agreeing source views that make a depth fully trusted where no network says so."""
ANALYTIC_TRUST = 0.7
"""That trust: such evidence counts this much of sensor depth's."""
LAPLACE_SPREAD = 1.2
"""Spread of a Laplace density in units of its scale: 70 % of it lie within one, 91 % within two."""


@dataclass(frozen=True, slots=True)
class Refined:
    """A depth map after the network: [h, w] each (or [B, h, w]).

    Attributes:
        position: in planes of the view's sweep.
        spread: relative to the depth.
        trust: in [0, 1], how probably the depth is right within a few per cent.
    """

    position: Tensor
    spread: Tensor
    trust: Tensor


def describe(image: Tensor, swept: Sweep, fused: Fused | None) -> Tensor:
    """The network's input [INPUTS, h, w] from a view's image [3, h, w], its sweep, and what its sources said.

    Channel 0 is the position to start from: the fused one where there is any. The others are of about unit size.
    """
    own = swept.position
    start = own if fused is None else fused.position
    centred = image - image.mean(dim=(1, 2), keepdim=True)
    colours = centred / image.std().clamp_min(0.02)
    relative = (swept.step / swept.inverse(start)).clamp_max(0.3) * 10
    detail = [(start - box_mean(start[None, None], 3)[0, 0]).clamp(-4, 4), (start - start.median()) / 16]
    counts = torch.full_like(own, swept.sources / 8)
    heard = torch.zeros(6, *own.shape, device=own.device) if fused is None else _heard(fused, own)
    clues = swept.clues.clamp(0, 3)
    return torch.cat([start[None], colours, torch.stack([*detail, relative, counts]), clues, heard])


def _heard(fused: Fused, own: Tensor) -> Tensor:
    """[6, h, w]: what the source views said."""
    shift = (fused.position - own).clamp(-8, 8) / 4
    share = fused.support / (fused.shown + 1)
    return torch.stack([shift, fused.support / 4, share, fused.own_support / 4, fused.shown / 8, fused.disagreement])


class Refiner(nn.Module):
    """A small U-Net from `describe` to `Refined`; anything about the scene's unit is told by `relative`."""

    def __init__(self) -> None:
        super().__init__()
        c = CHANNELS
        self.enter = _pair(INPUTS, c[0], 1)
        self.down = nn.ModuleList(_pair(a, b, 2) for a, b in zip(c[:-1], c[1:], strict=True))
        self.up = nn.ModuleList(_conv(a + b, a) for a, b in zip(c[:-1], c[1:], strict=True))
        self.choice = nn.Conv2d(c[0], len(REACH), 1)
        self.rest = nn.Conv2d(c[0], 3, 1)
        with torch.no_grad():
            for layer, channel, start in ((self.choice, 0, 4.0), (self.rest, 1, -4.0)):
                assert layer.bias is not None
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)
                layer.bias[channel] = start

    def forward(self, described: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, INPUTS, h, w] -> position in planes, log relative Laplace scale, logit of trust: [B, h, w] each."""
        start = described[:, :1]
        x = torch.cat([torch.zeros_like(start), described[:, 1:]], dim=1)
        held = [self.enter(x)]
        for layer in self.down:
            held.append(layer(held[-1]))
        x = held.pop()
        for layer in reversed(self.up):
            skip = held.pop()
            x = F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False)
            x = layer(torch.cat([skip, x], dim=1))
        taken = (self.choice(x).softmax(dim=1) * _neighbours(start)).sum(1)
        residual, scale, trust = self.rest(x).unbind(1)
        return taken + residual, scale.clamp(-7, 2), trust

    def refine(self, described: Tensor, swept: Sweep) -> Refined:
        """One view's depth from its description [INPUTS, h, w]."""
        position, scale, trust = (one[0] for one in self(described[None]))
        return Refined(position, LAPLACE_SPREAD * (scale.exp() + LEAST_SCALE), trust.sigmoid())


class Refiners(nn.Module):
    """The two passes: over a view's own sweep, and over what its sources' depths added."""

    def __init__(self) -> None:
        super().__init__()
        self.solo, self.joint = Refiner(), Refiner()


def load_refiners(tensors: Mapping[str, Tensor]) -> Refiners | None:
    """From a checkpoint's `refiner` group; None where it has none. Raises `ValueError` for another model's."""
    if not tensors:
        return None
    refiners = Refiners()
    expected = {name: list(tensor.shape) for name, tensor in refiners.state_dict().items()}
    found = {name: list(tensor.shape) for name, tensor in tensors.items()}
    if found != expected:
        raise ValueError(f"expected refiner tensors {expected}, found {found}")
    refiners.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return refiners.eval().requires_grad_(False)


def analytic(swept: Sweep, fused: Fused | None) -> Refined:
    """What is believed without a network: the fused depth, as certain as the views agree."""
    if fused is None:
        one = torch.ones_like(swept.position)
        return Refined(swept.position, swept.relative(SOLO_PLANES * one), one)
    missing = 1.0 - fused.support / (fused.shown + OWN_WEIGHT)
    planes = fused.disagreement + SOLO_PLANES * (0.3 + 2 * missing)
    confirmed = ((fused.support - OWN_WEIGHT) / CONFIRMATIONS).clamp(0, 1)
    return Refined(fused.position, swept.relative(planes), ANALYTIC_TRUST * confirmed)


def _neighbours(position: Tensor) -> Tensor:
    """[B, 1, h, w] -> [B, len(REACH), h, w]: the values at the offsets of `REACH`, repeated at the border."""
    far = max(abs(dy) for dy, _ in REACH)
    h, w = position.shape[-2:]
    padded = F.pad(position, (far, far, far, far), mode="replicate")[:, 0]
    return torch.stack([padded[:, far + dy : far + dy + h, far + dx : far + dx + w] for dy, dx in REACH], dim=1)


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.LeakyReLU(0.1))


def _pair(inputs: int, outputs: int, stride: int) -> nn.Module:
    return nn.Sequential(_conv(inputs, outputs, stride), _conv(outputs, outputs))
