"""The two plug-in points, as structural types: no base class to inherit, no import of Ray or torch to satisfy them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from schemas.label_sets import LabelSet
from schemas.scene import FrameBatch, Scene, SceneRef
from schemas.store import Kind

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class Operator(Protocol):
    """A frozen 2D vision model, split where its features are roughly aligned with the image.

    Attributes:
        name: short name, used in messages.
        stride: image pixels a feature cell; cell (i, j) is centred on pixel ((j + 0.5) stride, (i + 0.5) stride).
        kind: what `decode` returns.
        label_set: what class ids mean, where kind is "classes": channel k of the scores is `label_set.ids[k]`.
    """

    name: str
    stride: int
    kind: Kind
    label_set: LabelSet | None

    def encode(self, batch: FrameBatch[Tensor]) -> Tensor:
        """images [B, 3, H, W] in [0, 1] -> features [B, C, h, w], float, finite, any C."""
        ...

    def decode(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Lifted [B, C, h, w] -> class scores [B, K, H, W] | features | RGB [B, 3, H, W] | scalar [B, 1, H, W]."""
        ...

    def fingerprint(self) -> str:
        """Weights and settings in one string; a change invalidates what was labelled with it."""
        ...


@runtime_checkable
class SceneReader(Protocol):
    """A dataset layout."""

    name: str

    def recognises(self, uri: str) -> bool:
        """Whether the folder or file at `uri` is a dataset or scene in this layout."""
        ...

    def list_scenes(self, uri: str) -> list[SceneRef]:
        """Every scene of the dataset (or the one scene) at `uri`, sorted by id. Cheap: no frame is opened."""
        ...

    def load(self, ref: SceneRef) -> Scene:
        """Cameras and asset addresses of a scene. A bad frame becomes an issue and never costs its scene."""
        ...
