"""One chunk's lifting: every target's prediction with its confidence, on the geometry that all of them share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.agreement import operator_confidence, similarity
from pipeline.chunk_geometry import ChunkGeometry
from pipeline.fingerprint import geometry_of
from pipeline.known import Known
from pipeline.loading import LoadedView
from pipeline.operators.geometry_valued import moves_between_views, to_camera, to_world
from pipeline.operators.grid import grid_size, upsample
from pipeline.predicting import Encoded, class_ids, decode_view
from pipeline.protocols import Operator
from schemas.config import LiftConfig
from schemas.scene import Chunk
from schemas.store import Kind

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from lift3d_model import Depths, Lift3D, Lifted, LiftSettings, Views
    from lift3d_model.density import Sweep
    from lift3d_model.evidence import Evidence


@dataclass(frozen=True, slots=True)
class Outcome:
    """A target's finished prediction.

    Attributes:
        raw: what the operator alone predicts, None where it saw nothing of the target (novel view).
        finished: the lifted prediction in the same form: class indices [1, H, W] (-1 = none) | features [C, h, w] |
            RGB | scalar.
        known: [H, W] whether there is any evidence.
        confidence: [H, W] in [0, 1], 0 where there is none.
        consistency: mean share of the sources' evidence that agrees, None without sources.
        sources: frame ids of the views that were asked, best first.
        lift_mode: `<geometry>-<mode>` or none.
    """

    raw: Tensor | None
    finished: Tensor
    known: Tensor
    confidence: Tensor
    consistency: float | None
    sources: tuple[str, ...]
    lift_mode: str


def lift_settings(lift: LiftConfig) -> LiftSettings:
    """The model's settings from the config."""
    from lift3d_model import LiftSettings
    from lift3d_model.corrector import NOVEL_VIEW, CorrectorSettings
    from lift3d_model.density import SweepSettings
    from lift3d_model.evidence import EvidenceSettings
    from lift3d_model.propagation import PropagationSettings

    novel = lift.mode == "novel"
    evidence = EvidenceSettings(samples=lift.samples)
    blind = EvidenceSettings(samples=lift.samples, colour_scale=None)
    propagation = PropagationSettings(colour_scale=None) if novel else PropagationSettings()
    return LiftSettings(
        self_weight=0.0 if novel else lift.self_weight,
        sweep=SweepSettings(planes=lift.planes, near=lift.near, far=lift.far),
        evidence=blind if novel else evidence,
        corrector=NOVEL_VIEW if novel else CorrectorSettings(),
        propagation=propagation,
    )


def corrects_sources(kind: Kind, lift: LiftConfig) -> bool:
    """Whether sources' own sources matter for a label: class maps are corrected in their own view first."""
    return kind == "classes" and lift.method != "none" and lift.mode == "label"


class ChunkLift:
    """The views of one chunk on a device, with their depths: what every target of the chunk is lifted from.

    Args:
        views: the chunk's usable views; `encoded` has an entry for each, by frame id.
        known: what earlier chunks worked out of these views; views that it spares may be missing.
    """

    def __init__(
        self,
        model: Lift3D,
        operator: Operator,
        lift: LiftConfig,
        chunk: Chunk,
        views: Sequence[LoadedView],
        encoded: Mapping[str, Encoded],
        device: torch.device,
        known: Known | None = None,
    ) -> None:
        self._model, self._operator, self._lift = model, operator, lift
        self._known = known or Known(corrects_sources(operator.kind, lift))
        self._geometry = ChunkGeometry(model, lift, chunk, views, self._known, device)
        self._loaded, self._sources = views, self._geometry.sources
        self._encoded = [encoded[view.frame.id] for view in views]
        self._position = {view.frame.id: v for v, view in enumerate(views)}
        self._finished: dict[int, Tensor] = {}
        self._corrected: dict[int, Tensor] = {}
        self._own_votes: dict[int, float] = {}

    @property
    def _views(self) -> Views:
        return self._geometry.views

    def outcome(self, frame: str) -> Outcome:
        """The finished prediction of one target."""
        target = self._position[frame]
        if self._lift.method == "none":
            return self._unlifted(target)
        lifted, finished, stride = self._lifted_ids(target) if self._is_class_map(target) else self._lifted(target)
        agreeing = self._similarity(lifted, finished, target, stride)
        confidence, consistency = lifted.agreement(agreeing)
        return Outcome(
            raw=self._own(target) if self._lift.mode == "label" else None,
            finished=finished,
            known=self._to_pixels(lifted.support, lifted, target, stride) > 0,
            confidence=self._to_pixels(confidence, lifted, target, stride),
            consistency=consistency,
            sources=tuple(self._loaded[s].frame.id for s in self._sources[target]),
            lift_mode=f"{geometry_of(self._loaded[target].frame, self._lift)}-{self._lift.mode}",
        )

    def correct(self, frames: Iterable[str]) -> None:
        """Correct the class maps of views, for chunks that look at them (`corrected_now`)."""
        for frame in frames:
            if frame in self._position:
                self._source_ids(self._position[frame])

    def corrected_now(self) -> dict[str, Tensor]:
        """Class maps [H, W] that were corrected here, by frame id."""
        maps = {
            self._loaded[v].frame.id: ids[: self._size(v)[0], : self._size(v)[1]] for v, ids in self._corrected.items()
        }
        return {frame: ids for frame, ids in maps.items() if frame not in self._known.corrected}

    def swept_now(self) -> dict[str, Sweep]:
        """Views that were swept here, by frame id."""
        return self._geometry.swept_now()

    def _unlifted(self, target: int) -> Outcome:
        """The raw 2D prediction (the baseline), as confident as the operator is."""
        import torch

        raw = self._decoded(target)
        confidence = operator_confidence(raw, self._operator.kind, self._size(target))
        finished = class_ids(raw)[None] if self._operator.kind == "classes" else raw
        known = finished[0] >= 0 if self._operator.kind == "classes" else torch.ones_like(confidence) > 0
        return Outcome(finished, finished, known, confidence * known, None, (), "none")

    def _is_class_map(self, target: int) -> bool:
        return self._encoded[target].ids is not None

    def _lifted_ids(self, target: int) -> tuple[Lifted, Tensor, int]:
        """Class indices at full resolution, from the sources' corrected class maps."""
        sources = self._sources[target]
        maps = _stack([self._source_ids(v) for v in (*sources, target)])
        depths = self._geometry.depths(target)
        witnesses = self._weighed_witnesses(target, depths)
        alike = self._geometry.likeness(target, depths)
        lifted = self._model.lift_ids(self._views, depths, maps, target, sources, self._classes(), witnesses, alike)
        height, width = self._size(target)
        return lifted, lifted.ids[None, :height, :width], 1

    def _source_ids(self, v: int) -> Tensor:
        """A view's class map, padded and, in label mode, corrected by what its own sources say; made once.

        A novel view's sources stay as they are: what would correct them includes the view that nobody may look at.
        """
        if not corrects_sources(self._operator.kind, self._lift):
            return self._raw_ids(v)
        if v not in self._corrected:
            before = self._known.corrected.get(self._loaded[v].frame.id)
            self._corrected[v] = self._corrected_ids(v) if before is None else self._padded(before)
        return self._corrected[v]

    def _corrected_ids(self, v: int) -> Tensor:
        sources = self._sources[v]
        maps, depths = _stack([self._raw_ids(s) for s in (*sources, v)]), self._geometry.depths(v)
        witnesses, alike = self._weighed_witnesses(v, depths), self._geometry.likeness(v, depths)
        return self._model.corrected_ids(self._views, depths, maps, v, sources, self._classes(), witnesses, alike)

    def _raw_ids(self, v: int) -> Tensor:
        ids = self._encoded[v].ids
        assert ids is not None
        return self._padded(ids)

    def _padded(self, ids: Tensor) -> Tensor:
        from lift3d_model.sampling import pad_to

        height, width = self._views.images.shape[-2:]
        return pad_to(ids.to(self._views.device), height, width, -1)

    def _lifted(self, target: int) -> tuple[Lifted, Tensor, int]:
        """Features at their own resolution, decoded."""
        from lift3d_model.sampling import stack_padded

        sources, stride, size = self._sources[target], self._operator.stride, self._size(target)
        features = stack_padded([self._common(v) for v in (*sources, target)])
        depths = self._geometry.depths(target)
        witnesses = self._geometry.cell_witnesses(target, depths, (features.shape[-2], features.shape[-1]), stride)
        lifted = self._model.lift_features(self._views, depths, features, stride, target, sources, witnesses)
        h, w = grid_size(size, stride)
        seen = to_camera(self._operator, lifted.values[None], self._loaded[target].frame.camera)[0]
        return lifted, decode_view(self._operator, seen[:, :h, :w], size), stride

    def _weighed_witnesses(self, v: int, depths: Depths) -> Evidence:
        """A view's witnesses, its own class weighed by how far its sources' predictions agree with it."""
        witnesses, sources = self._geometry.pixel_witnesses(v, depths), self._sources[v]
        if v not in self._own_votes:
            maps = _stack([self._raw_ids(s) for s in (*sources, v)])
            self._own_votes[v] = self._model.own_votes(self._views, depths, witnesses, maps, v, sources)
        return witnesses.louder(len(sources), self._own_votes[v])

    def _similarity(self, lifted: Lifted, finished: Tensor, target: int, stride: int) -> Tensor:
        """[E, R]: how far each witness's own prediction is the finished one."""
        if not len(lifted.witnesses.slot):
            return lifted.weight
        if self._operator.kind == "features" or moves_between_views(self._operator):
            from lift3d_model.sampling import sample_bilinear, stack_padded

            features = stack_padded([self._common(v) for v in (*self._sources[target], target)])
            theirs = sample_bilinear(features[lifted.witnesses.slot], lifted.witnesses.located, stride)
            grid, camera = lifted.values.shape[-2:], self._loaded[target].frame.camera
            seen = to_camera(self._operator, theirs.unflatten(2, grid), camera).flatten(2)
            return similarity(seen, to_camera(self._operator, lifted.values[None], camera)[0].flatten(1), "features")
        from lift3d_model.evidence import home_index
        from lift3d_model.geometry import pixel_centres
        from lift3d_model.sampling import pad_to

        height, width = self._views.images.shape[-2:]
        grid = lifted.values.shape[-2:]
        home = home_index(self._views, target, pixel_centres(grid[0], grid[1], stride, finished.device))
        kind = self._operator.kind
        maps = [pad_to(self._own(v), height, width).flatten(1) for v in (*self._sources[target], target)]
        final = pad_to(finished, height, width).flatten(1)[:, home]
        pairs = zip(lifted.witnesses.slot.tolist(), lifted.witnesses.index, strict=True)
        return _stack([similarity(maps[slot].index_select(1, index)[None], final, kind)[0] for slot, index in pairs])

    def _own(self, v: int) -> Tensor:
        """A view's own prediction in its finished form, made once."""
        ids = self._encoded[v].ids
        if ids is not None:
            return ids[None]
        if v not in self._finished:
            self._finished[v] = self._decoded(v)
        return self._finished[v]

    def _decoded(self, v: int) -> Tensor:
        return decode_view(self._operator, self._features(v), self._size(v))

    def _common(self, v: int) -> Tensor:
        """A view's features as values that do not depend on where it was taken."""
        return to_world(self._operator, self._features(v), self._loaded[v].frame.camera)

    def _features(self, v: int) -> Tensor:
        features = self._encoded[v].features
        assert features is not None
        return features

    def _classes(self) -> int:
        labels = self._operator.label_set
        return len(labels.ids) if labels else 0

    def _size(self, v: int) -> tuple[int, int]:
        camera = self._loaded[v].frame.camera
        return camera.height, camera.width

    def _to_pixels(self, values: Tensor, lifted: Lifted, target: int, stride: int) -> Tensor:
        """[R] on the lifted grid -> [H, W] of the target's image."""
        size = self._size(target)
        h, w = grid_size(size, stride)
        grid = values.view(lifted.values.shape[-2:])[:h, :w]
        return upsample(grid[None, None], stride, size)[0, 0]


def _stack(tensors: list[Tensor]) -> Tensor:
    import torch

    return torch.stack(tensors)
