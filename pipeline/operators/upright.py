"""`upright(SPEC)`: an operator that sees every view turned upright by quarter turns, and its results turned back.

Networks learn from upright photos; a phone or a robot may hold its camera sideways. Which quarter turn is best follows
from the pose. Turning moves pixels and never interpolates, so it is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pipeline.operators.geometry_valued import moves_between_views
from pipeline.operators.grid import pad_to_stride
from pipeline.protocols import Operator
from schemas.camera import Camera
from schemas.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from schemas.scene import FrameBatch

VERSION = 1
"""Version of what encode computes; part of the fingerprint."""
LEAST_TILT = 0.25
"""Views that look along the vertical, whose up is shorter than this in the image, stay as they are."""


class Upright:
    """Another operator's predictions of upright views.

    Features are turned back as they are. Any other kind is decoded while the view is upright, as its decoder might
    care, and lifted as finished predictions.

    Args:
        operator: the other one.
        up: world direction that is up.
        vectors: whether features are vectors in camera axes (normals), whose x and y turn with the image.
    """

    takes_operators = True

    def __init__(self, operator: Operator, *, up: Sequence[float] = (0.0, 0.0, 1.0), vectors: bool = False) -> None:
        if not hasattr(operator, "kind"):
            raise ConfigError(f"upright is made of an operator, found {operator!r}", remedy="upright(SPEC)")
        if moves_between_views(operator):
            raise ConfigError(f"upright({operator.name}) turns values that are in space", remedy="depth(upright(SPEC))")
        direction = np.asarray(up, np.float64)
        if direction.shape != (3,) or not 0 < np.linalg.norm(direction) < np.inf:
            raise ConfigError(f"upright: up is {up!r}, expected three numbers, the world direction that is up")
        self._operator, self._vectors = operator, vectors
        self.members = (operator,)
        self._up = direction / np.linalg.norm(direction)
        self.name, self.kind, self.label_set = f"upright({operator.name})", operator.kind, operator.label_set
        self.stride = operator.stride if operator.kind == "features" else 1

    def encode(self, batch: FrameBatch[Tensor]) -> Tensor:
        """Features [B, C, h, w], or finished predictions [B, C, H, W], in the orientation of the images."""
        import torch

        return torch.cat([self._encoded(batch, one) for one in range(len(batch.frames))])

    def decode(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """The operator's features decoded, or the predictions as they are."""
        if self.kind == "features":
            return self._operator.decode(features, size)
        return features[..., : size[0], : size[1]]

    def fingerprint(self) -> str:
        """The operator's, the direction and the kind of values."""
        return f"upright:{VERSION}:{self._up.tolist()}:{self._vectors}:{self._operator.fingerprint()}"

    def _encoded(self, batch: FrameBatch[Tensor], one: int) -> Tensor:
        camera = batch.cameras[one]
        turns = quarter_turns(camera, self._up)
        # Padding before turning puts the cells of both orientations on the same pixels.
        image = pad_to_stride(batch.images[one : one + 1], self.stride)
        height, width = image.shape[-2:]
        upright = turned(Camera(camera.K, camera.world_from_cam, height, width), turns)
        shown = replace(batch, images=image.rot90(turns, (-2, -1)), frames=(batch.frames[one],), cameras=(upright,))
        found = self._operator.encode(shown)
        if self.kind != "features":
            found = self._operator.decode(found, (upright.height, upright.width))
            size = (camera.height, camera.width)
            return found.rot90(-turns, (-2, -1))[..., : size[0], : size[1]].contiguous()
        back = found.rot90(-turns, (-2, -1))
        return (_turned_vectors(back, turns) if self._vectors else back).contiguous()


def quarter_turns(camera: Camera, up: np.ndarray[tuple[int], np.dtype[np.float64]]) -> int:
    """How many counter-clockwise quarter turns (0 to 3) bring the world direction `up` nearest to the image's top."""
    x, y = (camera.world_from_cam[:3, :3].T @ up)[:2]
    if np.hypot(x, y) < LEAST_TILT:
        return 0
    heights = (-y, x, y, -x)
    return int(np.argmax(np.round(heights, 6)))


def turned(camera: Camera, turns: int) -> Camera:
    """The camera of the image after counter-clockwise quarter turns; it sees the same points."""
    for _ in range(turns % 4):
        K, width = camera.K, camera.width
        new_K = np.array([[K[1, 1], 0, K[1, 2]], [0, K[0, 0], width - K[0, 2]], [0, 0, 1]], np.float64)
        old_from_new = np.array([[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], np.float64)
        camera = Camera(new_K, camera.world_from_cam @ old_from_new, width, camera.height)
    return camera


def _turned_vectors(vectors: Tensor, turns: int) -> Tensor:
    """Vectors whose first channels are x and y of an image turned `turns` times, in the axes of the image itself."""
    import torch

    for _ in range(turns):
        vectors = torch.cat([-vectors[:, 1:2], vectors[:, :1], vectors[:, 2:]], 1)
    return vectors
