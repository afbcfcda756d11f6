"""Lift3D, assembled: Stage I gives every view a depth belief, Stage II lifts any operator's values along the rays.

    RGB, cameras --proposal--> depth beliefs --evidence--> weight of every source pixel for every target ray
    operator's values of the source views --corrector--> g_i + R_i --blending with those weights--> values at the target
    class shares at the target --propagation along its colour and depth edges--> finished class shares

Geometry and weights come from colours and cameras only and serve every operator. Without a checkpoint all weights are
analytic, their constants settings; a checkpoint adds learned factors and a learned depth, and the flow stays the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from lift3d_model.checkpoint import Checkpoint
from lift3d_model.clues import Curves, own_factor
from lift3d_model.corrector import CorrectorSettings, correct_features, own_share, vote
from lift3d_model.density import Sweep, SweepSettings
from lift3d_model.evidence import Evidence, EvidenceSettings, gather_evidence, home_index, is_measured
from lift3d_model.geometry import pixel_centres
from lift3d_model.lifted import Lifted
from lift3d_model.propagation import Guide, PropagationSettings, likeness, propagate
from lift3d_model.proposal import confirm, propose
from lift3d_model.refinement import load_refiners
from lift3d_model.rendering import render_depth
from lift3d_model.sampling import pick, sample_bilinear
from lift3d_model.views import SENSOR_SPREAD, Depths, Views
from lift3d_model.weighting import load_weighting


@dataclass(frozen=True, slots=True)
class LiftSettings:
    """Everything that lifting depends on besides its input.

    Attributes:
        self_weight: weight of the target's own prediction (label mode); 0 is novel-view mode.
    """

    self_weight: float = 1.0
    sweep: SweepSettings = field(default_factory=SweepSettings)
    evidence: EvidenceSettings = field(default_factory=EvidenceSettings)
    corrector: CorrectorSettings = field(default_factory=CorrectorSettings)
    propagation: PropagationSettings = field(default_factory=PropagationSettings)


class Lift3D:
    """The Lift3D model. Stateless apart from its settings and weights; safe to share between threads.

    Args:
        checkpoint: trained weights; None gives the analytic model.
    """

    def __init__(self, settings: LiftSettings | None = None, checkpoint: Checkpoint | None = None) -> None:
        self.settings = settings or LiftSettings()
        self._curves = load_weighting(checkpoint.group("weighting")) if checkpoint else None
        self._refiners = load_refiners(checkpoint.group("refiner")) if checkpoint else None

    def depths(
        self,
        views: Views,
        sensor: Tensor,
        measured: Sequence[bool],
        sources: Sequence[Sequence[int]],
        needed: Sequence[int],
        known: Mapping[int, Sweep] | None = None,
    ) -> Depths:
        """Stage I for the views that need a depth.

        Args:
            sensor: [V, H, W] sensor depth, 0 = none.
            measured: for each view, whether its sensor depth is to be used.
            sources: for each view, its source views, best first.
            needed: views whose depth will be asked for.
            known: sweeps of views that were swept before, from the same sources with the same settings.

        Returns:
            Depth beliefs of all views; those not needed stay unknown.
        """
        return propose(views, sensor, measured, sources, needed, self.settings.sweep, self._refiners, known)

    def confirmed(self, depths: Depths, views: Views, target: int, sources: Sequence[int]) -> Depths:
        """The same depths, the target's corrected by what its sources' show, and trusted as far as they agree."""
        return confirm(depths, views, target, sources, self._refiners)

    def rendered(self, depths: Depths, views: Views, target: int, sources: Sequence[int]) -> Depths:
        """The same depths, the target's replaced by what its sources' depths show from there (novel view)."""
        mode = render_depth(views, depths, target, sources)
        spread, trust = torch.full_like(mode, 2 * SENSOR_SPREAD), (mode > 0).to(mode.dtype)
        return depths.with_belief(target, torch.stack([mode, spread, trust]))

    def pixel_witnesses(self, views: Views, depths: Depths, target: int, sources: Sequence[int]) -> Evidence:
        """Who speaks for each pixel of the target, whatever operator is lifted: the evidence of `lift_ids`."""
        grid = (views.images.shape[-2], views.images.shape[-1])
        return self._witnesses(views, depths, target, sources, grid, 1.0, None, located=False)

    def cell_witnesses(
        self,
        views: Views,
        depths: Depths,
        target: int,
        sources: Sequence[int],
        grid: tuple[int, int],
        stride: float,
    ) -> Evidence:
        """Who speaks for each of the target's (h, w) cells, `stride` image pixels wide: that of `lift_features`."""
        return self._witnesses(views, depths, target, sources, grid, stride, self._curves)

    def likeness(self, views: Views, depths: Depths, target: int) -> Tensor:
        """How alike a target's pixels and their neighbours are (see `propagation`), whatever operator is lifted."""
        return likeness(self._guide(views, depths, target), self.settings.propagation)

    def corrected_ids(
        self,
        views: Views,
        depths: Depths,
        ids: Tensor,
        view: int,
        sources: Sequence[int],
        classes: int,
        witnesses: Evidence | None = None,
        alike: Tensor | None = None,
    ) -> Tensor:
        """A view's class map g_i + R_i as a source for others: what its own sources make of it (see `corrector`).

        Args and raises are those of `lift_ids`.

        Returns:
            [H, W] int16 class indices, -1 = nothing known; the view's own map where the corrector is off.
        """
        if self.settings.corrector.rounds == 0:
            return ids[-1].to(torch.int16)
        settings = self.settings.propagation
        witnesses = witnesses or self.pixel_witnesses(views, depths, view, sources)
        spreading = replace(settings, rounds=settings.source_rounds, tested=True)
        return _lift_ids(ids, witnesses, classes, self._guide(views, depths, view), spreading, alike).ids

    def own_votes(
        self, views: Views, depths: Depths, witnesses: Evidence, ids: Tensor, target: int, sources: Sequence[int]
    ) -> float:
        """How often a target's own class counts, by how far raw predictions agree (`own_share`): 1 or more.

        Where depth is a sensor's it counts once, whatever holes were filled with.

        Args:
            witnesses: `pixel_witnesses` of the target.
            ids: [S + 1, H, W] class indices as they were predicted, the target's last.
        """
        own = witnesses.slot == len(sources)
        height, width = views.sizes[target].tolist()
        _, spread, trust = depths.belief(target)[:, :height, :width]
        if is_measured(spread) or not bool(own.any()):
            return 1.0
        seen = pick(ids, witnesses.slot, witnesses.index)
        asked = witnesses.weight * (seen >= 0) * (seen[own] >= 0) * ~own[:, None]
        agreeing = _mean(seen == seen[own], asked)
        return own_share(agreeing, _mean(trust, torch.ones_like(trust)), self.settings.corrector)

    def lift_ids(
        self,
        views: Views,
        depths: Depths,
        ids: Tensor,
        target: int,
        sources: Sequence[int],
        classes: int,
        witnesses: Evidence | None = None,
        alike: Tensor | None = None,
    ) -> Lifted:
        """Lift hard class ids at full resolution.

        Args:
            ids: [S + 1, H, W] class indices 0..classes-1 (-1 = no prediction) of the sources in order, then the target.
            witnesses: `pixel_witnesses` of the target, where somebody gathered them before.
            alike: its `likeness`, where that was worked out before.

        Returns:
            values [k, H, W]: shares of the k classes that occur.
        """
        witnesses = witnesses or self.pixel_witnesses(views, depths, target, sources)
        guide = self._guide(views, depths, target)
        return _lift_ids(ids, witnesses, classes, guide, self.settings.propagation, alike)

    def _guide(self, views: Views, depths: Depths, target: int) -> Guide:
        """What shares are spread along."""
        height, width = views.sizes[target].tolist()
        mode, spread, _ = depths.belief(target)
        return Guide(views.images[target], mode, spread, (height, width))

    def lift_features(
        self,
        views: Views,
        depths: Depths,
        features: Tensor,
        stride: float,
        target: int,
        sources: Sequence[int],
        witnesses: Evidence | None = None,
    ) -> Lifted:
        """Lift feature maps at their own resolution.

        Args:
            features: [S + 1, C, h, w], cells `stride` image pixels wide, of the sources in order, then the target.
            witnesses: `cell_witnesses` of the target on this grid, where somebody gathered them before.

        Returns:
            values [C, h, w].
        """
        h, w = features.shape[-2:]
        witnesses = witnesses or self.cell_witnesses(views, depths, target, sources, (h, w), stride)
        values = sample_bilinear(features[witnesses.slot], witnesses.located, stride)
        own = (witnesses.slot == len(sources))[:, None]
        factor = own_factor(self._curves, (witnesses.weight * ~own).sum(0))
        weight = torch.where(own, witnesses.weight * factor, witnesses.weight)
        mean, final = correct_features(values, weight, self.settings.corrector, self._curves)
        return Lifted(mean.view(-1, h, w), witnesses, final, len(sources))

    def _witnesses(
        self,
        views: Views,
        depths: Depths,
        target: int,
        sources: Sequence[int],
        grid: tuple[int, int],
        stride: float,
        curves: Curves | None,
        *,
        located: bool = True,
    ) -> Evidence:
        """Base evidence of the sources, damped by the trust in the target's depth, and of the target itself.

        Cells that cover nothing of the target's own image are padding and get none.
        """
        pixels = pixel_centres(*grid, stride, views.device)
        seen = torch.tensor(list(sources), dtype=torch.long, device=views.device)
        settings = self.settings.evidence
        evidence = gather_evidence(views, depths, target, seen, pixels, settings, curves, located=located)
        home = home_index(views, target, pixels)
        covers = (pixels - 0.5 * stride < views.sizes[target].flip(0)).all(1)
        trust = depths.belief(target)[2].flatten().index_select(0, home) * covers
        evidence = replace(evidence, weight=evidence.weight * trust)
        own = self.settings.self_weight
        return evidence if own == 0 else _with_self(evidence, len(sources), pixels, home, own)


def _lift_ids(
    ids: Tensor,
    witnesses: Evidence,
    classes: int,
    guide: Guide,
    spreading: PropagationSettings,
    alike: Tensor | None,
) -> Lifted:
    """`Lift3D.lift_ids` with all that it is worked out from; `spreading`: how shares are spread along the guide."""
    height, width = ids.shape[-2:]
    seen = pick(ids, witnesses.slot, witnesses.index).int().add_(1)
    weight = witnesses.weight * (seen > 0)
    present = torch.bincount(seen.flatten(), minlength=classes + 1)[1:] > 0
    rank = (present.cumsum(0) - 1).clamp_min(0)
    places = torch.cat([rank.new_zeros(1), rank]).index_select(0, seen.flatten()).view_as(seen)
    votes = vote(places, weight, max(int(present.sum()), 1))
    shares = propagate(votes, guide, spreading, alike)
    occurring = present.nonzero()[:, 0] if bool(present.any()) else rank[:1]
    return Lifted(shares.reshape(-1, height, width), witnesses, weight, len(ids) - 1, occurring)


def _mean(values: Tensor, weight: Tensor) -> float:
    """Weighted mean to four digits: sums of single numbers differ in the last ones with the number of threads."""
    total = weight.sum(dtype=torch.float64).clamp_min(1e-9)
    return round(float((values * weight).sum(dtype=torch.float64) / total), 4)


def _with_self(evidence: Evidence, slot: int, pixels: Tensor, home: Tensor, weight: float) -> Evidence:
    """The evidence with the target's own prediction as one more witness."""
    own = torch.full((1, len(home)), weight, device=pixels.device)
    where = evidence.pixels
    return Evidence(
        slot=torch.cat([evidence.slot, evidence.slot.new_tensor([slot])]),
        pixels=None if where is None else torch.cat([where, pixels[None].to(where.dtype)]),
        index=torch.cat([evidence.index, home[None]]),
        weight=torch.cat([evidence.weight, own]),
    )
