"""What is known of a chunk's views from chunks that looked at them before, and what that spares.

A view whose corrected class map is known need not be corrected, so its own sources need not even be read; one whose
sweep is known need not be swept; one whose prediction is known need not be predicted. All of it is looked up before
anything is read, and held: what was there once cannot be gone when it is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pipeline.fingerprint import corrected_digest, geometry_of, view_digests, work_digest
from pipeline.scratch import Scratch, worth_keeping
from pipeline.shared import SharedViews
from schemas.camera import Camera
from schemas.config import LiftConfig
from schemas.scene import Chunk, Frame

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from lift3d_model.density import Sweep
    from pipeline.predicting import Encoded


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a chunk's views, by frame id.

    Attributes:
        corrects: whether class maps are corrected by their sources before others look at them.
        corrected: [H, W] int16 class indices g_i + R_i.
        swept: refined sweeps.
        shared: what the operators of one pass have in common.
    """

    corrects: bool
    corrected: Mapping[str, Tensor] = field(default_factory=dict)
    swept: Mapping[str, Sweep] = field(default_factory=dict)
    shared: SharedViews = field(default_factory=SharedViews)

    def uncorrected(self) -> Known:
        """The same for work that corrects class maps itself: none is corrected before."""
        return replace(self, corrects=False, corrected={})

    def looked_at(self, chunk: Chunk) -> set[int]:
        """Views whose depth is asked for: targets, their sources, and the sources of those yet to be corrected."""
        first = _with_sources(chunk, chunk.targets)
        if not self.corrects:
            return first
        return first | _with_sources(chunk, [v for v in first if chunk.frames[v].id not in self.corrected])

    def loaded(self, chunk: Chunk, lift: LiftConfig) -> set[int]:
        """Views that have to be read: those, and what is yet to be swept for the depth of any of them."""
        looked_at = self.looked_at(chunk)
        unswept = (v for v in looked_at if chunk.frames[v].id not in self.swept)
        return looked_at | {
            s for v in unswept if geometry_of(chunk.frames[v], lift) == "rgb" for s in swept_sources(chunk, v)
        }


def swept_sources(chunk: Chunk, view: int) -> tuple[int, ...]:
    """The source views that a view's sweep looks at: its best ones, whether they turn out to be usable or not."""
    from lift3d_model.proposal import SWEPT_SOURCES

    return chunk.sources[view][:SWEPT_SOURCES]


def _with_sources(chunk: Chunk, views: Iterable[int]) -> set[int]:
    chosen = set(views)
    return chosen | {s for v in chosen for s in chunk.sources[v]}


class ViewMemory:
    """What a worker keeps of the views that it has worked on, for its own later chunks and for other workers'.

    Args:
        scratch: where.
        lift: the run's settings.
        operator: the operator's fingerprint; weights: digest of the lift's checkpoint.
        corrects: see `Known`.
        shared: what other operators of the same pass worked out.
    """

    def __init__(
        self,
        scratch: Scratch,
        lift: LiftConfig,
        operator: str,
        weights: str | None,
        *,
        corrects: bool,
        shared: SharedViews | None = None,
    ) -> None:
        self._scratch, self._lift, self._corrects = scratch, lift, corrects
        self._operator, self._weights = operator, weights
        self._shared = shared or SharedViews()

    def recall(self, chunk: Chunk) -> Known:
        """All that is known of a chunk's views and of use for it."""
        nothing = Known(self._corrects, shared=self._shared)
        if self._lift.method == "none" or not (self._scratch.keeps or self._shared.sweeps):
            return nothing
        first = sorted(_with_sources(chunk, chunk.targets)) if self._corrects and _overlaps(chunk) else []
        keys = self._keys(chunk)
        maps = {v: self._scratch.get("corrected", keys.corrected(v)) for v in first}
        corrected = {chunk.frames[v].id: _tensor(found["ids"]) for v, found in maps.items() if found}
        known = replace(nothing, corrected=corrected)
        asked = [v for v in sorted(known.looked_at(chunk)) if geometry_of(chunk.frames[v], self._lift) == "rgb"]
        sweeps = {chunk.frames[v].id: self._swept(keys.swept(v), chunk.frames[v].camera) for v in asked}
        return replace(known, swept={frame: sweep for frame, sweep in sweeps.items() if sweep})

    def _swept(self, key: str, camera: Camera) -> Sweep | None:
        """A sweep of this pass, or of earlier work."""
        if key in self._shared.sweeps:
            return self._shared.sweeps[key]
        found = self._scratch.get("sweep", key)
        return _sweep(found) if found and _fits(found, camera) else None

    def keep(self, chunk: Chunk, corrected: Mapping[str, Tensor], swept: Mapping[str, Sweep]) -> None:
        """Keep what was worked out for a chunk, by frame id; all views that were read must have been usable.

        Class maps are kept where another chunk may ask for them, sweeps always: a store's geometry is for later runs.
        """
        keys, place = self._keys(chunk), {frame.id: v for v, frame in enumerate(chunk.frames)}
        for frame, ids in corrected.items() if _overlaps(chunk) else ():
            self._scratch.put("corrected", keys.corrected(place[frame]), {"ids": ids.cpu().numpy()})
        for frame, sweep in swept.items():
            self._shared.keep_sweep(keys.swept(place[frame]), sweep)
            self._scratch.put("sweep", keys.swept(place[frame]), _arrays(sweep))

    def encoded(self, scene: str, frame: Frame) -> Encoded | None:
        """What the operator saw in a view, where that was kept."""
        from pipeline.predicting import Encoded

        found = self._scratch.get("encoded", self._encoded_key(scene, frame)) if self._scratch.keeps else None
        if not found:
            return None
        maps = {name: _tensor(values) for name, values in found.items()}
        return Encoded(maps.get("features"), maps.get("ids"))

    def keep_encoded(self, scene: str, frame: Frame, encoded: Encoded, seconds: float) -> None:
        """Keep what the operator saw in a view, if making it took longer than keeping it."""
        maps = {"features": encoded.features, "ids": encoded.ids}
        size = sum(values.nbytes for values in maps.values() if values is not None)
        if not self._scratch.keeps or not worth_keeping(seconds, size):
            return
        arrays = {name: values.cpu().numpy() for name, values in maps.items() if values is not None}
        self._scratch.put("encoded", self._encoded_key(scene, frame), arrays)

    def _encoded_key(self, scene: str, frame: Frame) -> str:
        geometry = geometry_of(frame, self._lift)
        return work_digest("encoded", self._operator, scene, view_digests([frame], [()], self._lift), geometry)

    def _keys(self, chunk: Chunk) -> _Keys:
        sources = [swept_sources(chunk, v) for v in range(len(chunk.frames))]
        seen = view_digests(chunk.frames, sources, self._lift)
        lift = self._lift.model_dump(mode="json", exclude={"sources", "weights"})
        swept = self._lift.model_dump(mode="json", include={"near", "far", "planes"})
        common = (chunk.scene, lift, self._weights)
        return _Keys(chunk, tuple(seen), common, (chunk.scene, swept, self._weights), self._operator)


@dataclass(frozen=True, slots=True)
class _Keys:
    """Digests of all that a chunk's views and what was made of them depend on.

    Attributes:
        seen: one a view: its content, and that of the views that its depth comes from.
        common: scene, settings and checkpoint; sweeping: the same of a sweep, which few settings matter for.
    """

    chunk: Chunk
    seen: tuple[str, ...]
    common: tuple[object, ...]
    sweeping: tuple[object, ...]
    operator: str

    def swept(self, view: int) -> str:
        return work_digest("sweep", self.sweeping, self.seen[view])

    def corrected(self, view: int) -> str:
        sources = [self.seen[s] for s in self.chunk.sources[view]]
        return work_digest("corrected", self.common, self.operator, corrected_digest(self.seen[view], sources))


def _overlaps(chunk: Chunk) -> bool:
    """Whether a chunk looks at views that are not its targets; no other chunk looks at those of one that does not."""
    return len(chunk.targets) < len(chunk.frames)


def _tensor(values: object) -> Tensor:
    import torch

    return torch.as_tensor(values)


def _arrays(sweep: Sweep) -> dict[str, object]:
    import numpy as np

    assert sweep.spread is not None
    maps = {"position": sweep.position, "clues": sweep.clues, "spread": sweep.spread}
    planes = np.array([sweep.first, sweep.step, sweep.sources], np.float64)
    return {"planes": planes, **{name: values.cpu().numpy() for name, values in maps.items()}}


def _fits(found: Mapping[str, NDArray[np.generic]], camera: Camera) -> bool:
    """Whether arrays are a sweep of a view: whoever may write to a store may keep anything there."""
    import numpy as np

    from lift3d_model.density import CLUES, WORKING_PIXELS, shrunk

    size = shrunk(camera.height, camera.width, WORKING_PIXELS)
    shapes = {"planes": (3,), "position": size, "clues": (CLUES, *size), "spread": size}
    return {name: values.shape for name, values in found.items()} == shapes and all(
        values.dtype == (np.float64 if name == "planes" else np.float32) and bool(np.isfinite(values).all())
        for name, values in found.items()
    )


def _sweep(found: Mapping[str, object]) -> Sweep:
    from lift3d_model.density import Sweep

    maps = {name: _tensor(found[name]) for name in ("position", "clues", "spread")}
    first, step, sources = _tensor(found["planes"]).tolist()
    return Sweep(first, step, maps["position"], maps["clues"], int(sources), maps["spread"])
