"""What the views of one chunk say of each other's surfaces: depths, who speaks for which pixel, how alike pixels are.

None of it depends on what an operator sees in them, so that what one operator of a pass works out serves the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from pipeline.fingerprint import geometry_of
from pipeline.known import Known, swept_sources
from pipeline.loading import LoadedView, as_tensors
from schemas.config import LiftConfig
from schemas.scene import Chunk

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from lift3d_model import Depths, Lift3D
    from lift3d_model.density import Sweep
    from lift3d_model.evidence import Evidence


class ChunkGeometry:
    """The usable views of a chunk on a device, with their depths. Views are called by their place among the usable.

    Args:
        views: the chunk's usable views.
        known: what earlier chunks worked out of them; views that it spares may be missing.

    Attributes:
        views: images and cameras; there is none where nothing is lifted.
        sources: of each view, the usable views that it is lifted from, best first.
    """

    def __init__(
        self,
        model: Lift3D,
        lift: LiftConfig,
        chunk: Chunk,
        views: Sequence[LoadedView],
        known: Known,
        device: torch.device,
    ) -> None:
        self._model, self._lift, self._loaded, self._known = model, lift, views, known
        self._position = {view.frame.id: v for v, view in enumerate(views)}
        self.sources = _among(chunk, self._position, chunk.sources)
        sweeping = _among(chunk, self._position, [swept_sources(chunk, v) for v in range(len(chunk.frames))])
        place = {frame.id: index for index, frame in enumerate(chunk.frames)}
        self._origins = [self._origin(chunk, place[view.frame.id]) for view in views]
        self._completed: dict[int, Tensor] = {}
        if lift.method != "none" and views:
            self.views, sensor = as_tensors(views, device)
            measured = [geometry_of(view.frame, lift) == "depth" for view in views]
            swept = {self._position[frame]: sweep.to(device) for frame, sweep in self._swept_before()}
            self._depths = model.depths(self.views, sensor, measured, sweeping, self._looked_at(chunk), swept)

    def swept_now(self) -> dict[str, Sweep]:
        """Views that were swept here, by frame id."""
        if self._lift.method == "none" or not self._loaded or self._depths.sweeps is None:
            return {}
        found = {self._loaded[v].frame.id: sweep for v, sweep in enumerate(self._depths.sweeps.found) if sweep}
        return {frame: sweep for frame, sweep in found.items() if frame not in self._known.swept}

    def depths(self, target: int) -> Depths:
        """The chunk's depths as a target sees them: completed by its sources', or rendered from them (novel view)."""
        sources = self.sources[target]
        if self._lift.mode == "novel":
            return self._model.rendered(self._depths, self.views, target, sources)
        if target not in self._completed:
            make = partial(self._confirmed, target, sources)
            self._completed[target] = self._known.shared.once(
                "confirmed", self._key(target), make, lambda belief: belief.nbytes
            )
        belief = self._completed[target]
        return self._depths.with_belief(target, belief) if belief.numel() else self._depths

    def _confirmed(self, target: int, sources: Sequence[int]) -> Tensor:
        """[3, H, W]: a target's belief that its sources had a say in; empty where they have none."""
        confirmed = self._model.confirmed(self._depths, self.views, target, sources)
        return self._depths.mode.new_empty(0) if confirmed is self._depths else confirmed.belief(target)

    def pixel_witnesses(self, target: int, depths: Depths) -> Evidence:
        """What speaks for each pixel of a target."""
        gather = partial(self._model.pixel_witnesses, self.views, depths, target, self.sources[target])
        return self._known.shared.once("gathered", self._key(target), gather, _bytes_of)

    def likeness(self, target: int, depths: Depths) -> Tensor:
        """How alike each pixel of a target is to its neighbours."""
        compare = partial(self._model.likeness, self.views, depths, target)
        return self._known.shared.once("compared", self._key(target), compare, lambda alike: alike.nbytes)

    def cell_witnesses(self, target: int, depths: Depths, grid: tuple[int, int], stride: int) -> Evidence:
        """What speaks for each cell of an operator's grid (h, w) on a target."""
        sources = self.sources[target]
        gather = partial(self._model.cell_witnesses, self.views, depths, target, sources, grid, stride)
        return self._known.shared.once("gathered", (self._key(target), grid, stride), gather, _bytes_of)

    def _key(self, target: int) -> tuple[object, ...]:
        """What geometry at a target depends on: the image grid, and each view with those that its depth is swept from.

        A view that one operator has to do without is missing in its geometry, not in another's.
        """
        views = (target, *self.sources[target])
        return self.views.images.shape[-2:], *(self._origins[v] for v in views)

    def _origin(self, chunk: Chunk, index: int) -> tuple[str, ...]:
        """A view's id and, where its depth is swept, those of the views that it is swept from.

        What is known of a sweep was swept from all of them, though they were not read again.
        """
        frame = chunk.frames[index]
        if geometry_of(frame, self._lift) != "rgb":
            return (frame.id,)
        swept = (chunk.frames[s].id for s in swept_sources(chunk, index))
        known = frame.id in self._known.swept
        return frame.id, *(source for source in swept if known or source in self._position)

    def _looked_at(self, chunk: Chunk) -> list[int]:
        """Usable views whose depth will be asked for."""
        frames = (chunk.frames[v].id for v in self._known.looked_at(chunk))
        return sorted(self._position[frame] for frame in frames if frame in self._position)

    def _swept_before(self) -> list[tuple[str, Sweep]]:
        return [(frame, sweep) for frame, sweep in self._known.swept.items() if frame in self._position]


def _among(chunk: Chunk, position: Mapping[str, int], sources: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """For each usable view its usable sources: indices into all of the chunk's frames, renumbered."""
    usable = {index: position[frame.id] for index, frame in enumerate(chunk.frames) if frame.id in position}
    return [tuple(usable[s] for s in sources[index] if s in usable) for index in sorted(usable, key=usable.__getitem__)]


def _bytes_of(evidence: Evidence) -> int:
    parts = (evidence.index, evidence.weight, evidence.pixels)
    return sum(part.nbytes for part in parts if part is not None)
