"""One chunk's lifting: geometry once, then every target's prediction with its confidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.agreement import comparable, operator_confidence, similarity
from pipeline.fingerprint import geometry_of
from pipeline.loading import LoadedView, as_tensors
from pipeline.operators.grid import grid_size, upsample
from pipeline.predicting import Encoded, decode_view, one_hot
from pipeline.protocols import Operator
from schemas.config import LiftConfig
from schemas.scene import Chunk

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from lift3d_model import Depths, Lift3D, Lifted, LiftSettings


@dataclass(frozen=True, slots=True)
class Outcome:
    """A target's finished prediction.

    Attributes:
        raw: what the operator alone predicts, None where it saw nothing of the target (novel view).
        decoded: the lifted prediction in the same form: scores [K, H, W] | features [C, h, w] | RGB | scalar.
        known: [H, W] whether there is any evidence.
        confidence: [H, W] in [0, 1], 0 where there is none.
        consistency: mean share of the sources' evidence that agrees, None without sources.
        sources: frame ids of the views that were asked, best first.
        lift_mode: `<geometry>-<mode>` or none.
    """

    raw: Tensor | None
    decoded: Tensor
    known: Tensor
    confidence: Tensor
    consistency: float | None
    sources: tuple[str, ...]
    lift_mode: str


def lift_settings(lift: LiftConfig) -> LiftSettings:
    """The model's settings from the config."""
    from lift3d_model import LiftSettings
    from lift3d_model.density import SweepSettings
    from lift3d_model.evidence import EvidenceSettings

    novel = lift.mode == "novel"
    evidence = EvidenceSettings(samples=lift.samples)
    blind = EvidenceSettings(samples=lift.samples, colour_scale=None)
    return LiftSettings(
        self_weight=0.0 if novel else lift.self_weight,
        sweep=SweepSettings(planes=lift.planes, near=lift.near, far=lift.far),
        evidence=blind if novel else evidence,
    )


class ChunkLift:
    """The views of one chunk on a device, with their depths: what every target of the chunk is lifted from.

    Args:
        views: the chunk's usable views; `encoded` has an entry for each, by frame id.
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
    ) -> None:
        self._model, self._operator, self._lift = model, operator, lift
        self._loaded = views
        self._encoded = [encoded[view.frame.id] for view in views]
        self._position = {view.frame.id: v for v, view in enumerate(views)}
        self._sources = _among(chunk, self._position)
        self._comparable: dict[int, Tensor] = {}
        if lift.method != "none" and views:
            self._views, sensor = as_tensors(views, device)
            targets = [self._position[frame] for frame in chunk.target_ids if frame in self._position]
            needed = sorted({v for target in targets for v in (target, *self._sources[target])})
            measured = [geometry_of(view.frame, lift) == "depth" for view in views]
            self._depths = model.depths(self._views, sensor, measured, self._sources, needed)

    def outcome(self, frame: str) -> Outcome:
        """The finished prediction of one target."""
        target = self._position[frame]
        if self._lift.method == "none":
            return self._unlifted(target)
        sources = self._sources[target]
        stride = self._stride(target)
        lifted = self._lifted(target, stride)
        size = self._size(target)
        h, w = grid_size(size, stride)
        decoded = decode_view(self._operator, lifted.values[:, :h, :w], size)
        agreeing = self._similarity(lifted, decoded, target, stride)
        confidence, consistency = lifted.agreement(agreeing)
        return Outcome(
            raw=self._decoded(target) if self._lift.mode == "label" else None,
            decoded=decoded,
            known=self._to_pixels(lifted.support, lifted, target, stride) > 0,
            confidence=self._to_pixels(confidence, lifted, target, stride),
            consistency=consistency,
            sources=tuple(self._loaded[s].frame.id for s in sources),
            lift_mode=f"{geometry_of(self._loaded[target].frame, self._lift)}-{self._lift.mode}",
        )

    def _unlifted(self, target: int) -> Outcome:
        """The raw 2D prediction (the baseline), as confident as the operator is."""
        import torch

        raw = self._decoded(target)
        confidence = operator_confidence(raw, self._operator.kind, self._size(target))
        known = raw.abs().sum(0) > 0 if self._operator.kind == "classes" else torch.ones_like(confidence) > 0
        return Outcome(raw, raw, known, confidence * known, None, (), "none")

    def _stride(self, target: int) -> int:
        """1 where the target and all of its sources are hard class maps, else the operator's stride."""
        return 1 if self._is_hard(target) else self._operator.stride

    def _is_hard(self, target: int) -> bool:
        return all(self._encoded[v].ids is not None for v in (target, *self._sources[target]))

    def _lifted(self, target: int, stride: int) -> Lifted:
        from lift3d_model.sampling import pad_to, stack_padded

        sources = self._sources[target]
        order = (*sources, target)
        depths = self._target_depths(target)
        if self._is_hard(target):
            height, width = self._views.images.shape[-2:]
            padded = [pad_to(ids, height, width, -1) for v in order if (ids := self._encoded[v].ids) is not None]
            return self._model.lift_ids(self._views, depths, _stack(padded), target, sources, self._classes())
        features = stack_padded([self._features(v) for v in order])
        classes = self._operator.kind == "classes"
        return self._model.lift_features(self._views, depths, features, stride, target, sources, classes=classes)

    def _target_depths(self, target: int) -> Depths:
        """The chunk's depths as this target sees them: swept depth has to be confirmed, a novel view's is rendered."""
        sources = self._sources[target]
        if self._lift.mode == "novel":
            return self._model.rendered(self._depths, self._views, target, sources)
        if geometry_of(self._loaded[target].frame, self._lift) == "rgb":
            return self._model.confirmed(self._depths, self._views, target, sources)
        return self._depths

    def _similarity(self, lifted: Lifted, decoded: Tensor, target: int, stride: int) -> Tensor:
        """[E, R]: how far each witness's own prediction is the finished one."""
        if not len(lifted.witnesses.slot):
            return lifted.weight
        if self._operator.kind == "features":
            from lift3d_model.sampling import sample_bilinear, stack_padded

            features = stack_padded([self._features(v) for v in (*self._sources[target], target)])
            theirs = sample_bilinear(features[lifted.witnesses.slot], lifted.witnesses.pixels, stride)
            return similarity(theirs, lifted.values.flatten(1), "features")
        from lift3d_model.evidence import home_index
        from lift3d_model.geometry import pixel_centres
        from lift3d_model.sampling import pad_to

        height, width = self._views.images.shape[-2:]
        grid = lifted.values.shape[-2:]
        home = home_index(self._views, target, pixel_centres(grid[0], grid[1], stride, decoded.device))
        kind = self._operator.kind
        maps = [pad_to(self._own(v), height, width).flatten(1) for v in (*self._sources[target], target)]
        final = pad_to(comparable(decoded, kind), height, width).flatten(1)[:, home]
        pairs = zip(lifted.witnesses.slot.tolist(), lifted.witnesses.index, strict=True)
        return _stack([similarity(maps[slot][:, index][None], final, kind)[0] for slot, index in pairs])

    def _own(self, v: int) -> Tensor:
        """A view's own prediction in the form that is compared, made once."""
        if v not in self._comparable:
            self._comparable[v] = comparable(self._decoded(v), self._operator.kind)
        return self._comparable[v]

    def _decoded(self, v: int) -> Tensor:
        return decode_view(self._operator, self._features(v), self._size(v))

    def _features(self, v: int) -> Tensor:
        encoded = self._encoded[v]
        if encoded.features is not None:
            return encoded.features
        assert encoded.ids is not None
        return one_hot(encoded.ids, self._classes())

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


def _among(chunk: Chunk, position: Mapping[str, int]) -> list[tuple[int, ...]]:
    """For each usable view its usable sources: the chunk's indices into all frames, renumbered."""
    usable = {index: position[frame.id] for index, frame in enumerate(chunk.frames) if frame.id in position}
    return [
        tuple(usable[s] for s in chunk.sources[index] if s in usable)
        for index in sorted(usable, key=usable.__getitem__)
    ]


def _stack(tensors: list[Tensor]) -> Tensor:
    import torch

    return torch.stack(tensors)
