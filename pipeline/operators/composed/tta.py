"""`tta(SPEC; flips, scales=[...])`: one operator on mirrored and resized copies of a view, averaged on the exact grid.

What is averaged are features, as lifting does. A copy is made of the image padded to whole cells, so mirroring it
mirrors the cells, and a copy of another size covers the same ground: no copy is off by a part of a cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pipeline.operators.composed.members import check_members, check_seen, fingerprint
from pipeline.operators.geometry_valued import moves_between_views
from pipeline.operators.grid import pad_to_stride
from pipeline.protocols import Operator
from schemas.camera import Camera
from schemas.errors import ConfigError
from schemas.store import Kind

if TYPE_CHECKING:
    from torch import Tensor

    from schemas.scene import FrameBatch

VERSION = 1
"""Version of what encode computes; part of the fingerprint."""
SMALLEST, LARGEST = 0.25, 4.0


class Tta:
    """Test-time augmentation of an operator that predicts from pixels.

    Args:
        operator: what is asked.
        flips: ask for the mirrored image (left and right) too.
        scales: sizes of the image relative to its own, each once, 0.25 to 4. Rounded to whole cells.

    The cost is that of len(scales) x (2 with flips, else 1) calls. Cameras of mirrored copies have a mirrored principal
    point; operators whose values depend on the camera (normals in world axes) are refused.
    """

    takes_operators = True
    name = "tta"

    def __init__(self, operator: Operator, *, flips: bool = True, scales: Sequence[float] = (1.0,)) -> None:
        check_members(self.name, [operator])
        check_seen(self.name, operator, "so mirrored images change nothing")
        if moves_between_views(operator):
            raise ConfigError(f"tta: the values of {operator.name!r} depend on the camera, which a mirror has not")
        if not isinstance(flips, bool):
            raise ConfigError(f"tta: flips is {flips!r}, expected true or false")
        self.operator, self.members = operator, (operator,)
        self.stride = operator.stride
        self.kind: Kind = operator.kind
        self.label_set = operator.label_set
        self.flips = flips
        self.scales = _checked(scales)

    def encode(self, batch: FrameBatch[Tensor]) -> Tensor:
        """images [B, 3, H, W] -> the operator's features [B, C, h, w], the mean over all copies."""
        copies = [(scale, flip) for scale in self.scales for flip in ((False, True) if self.flips else (False,))]
        total = self._copy(batch, *copies[0])
        for scale, flip in copies[1:]:
            total = total + self._copy(batch, scale, flip)
        return total / len(copies)

    def decode(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """As the operator decodes."""
        return self.operator.decode(features, size)

    def fingerprint(self) -> str:
        """The operator's, and which copies it sees."""
        return fingerprint(self.name, VERSION, [self.operator], flips=self.flips, scales=self.scales)

    def _copy(self, batch: FrameBatch[Tensor], scale: float, flip: bool) -> Tensor:
        """Features of one copy on the grid of the image itself."""
        from torch.nn.functional import interpolate

        if scale == 1 and not flip:
            return self.operator.encode(batch)
        images = pad_to_stride(batch.images, self.stride)
        h, w = (side // self.stride for side in images.shape[-2:])
        if scale != 1:
            size = tuple(max(1, round(cells * scale)) * self.stride for cells in (h, w))
            images = interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True).clamp(0, 1)
        seen = tuple(_camera(camera, (h * self.stride, w * self.stride), images, flip) for camera in batch.cameras)
        features = self.operator.encode(
            replace(batch, images=images.flip(-1) if flip else images, cameras=seen),
        )
        if flip:
            features = features.flip(-1)
        if scale != 1:
            features = interpolate(features, size=(h, w), mode="bilinear", align_corners=False)
        return features


def _camera(camera: Camera, padded: tuple[int, int], images: Tensor, flip: bool) -> Camera:
    """The camera of a copy of a view that was padded to `padded` = (H, W) pixels."""
    height, width = (int(side) for side in images.shape[-2:])
    K = np.diag([width / padded[1], height / padded[0], 1.0]) @ camera.K
    if flip:
        K[0, 2], K[0, 1] = width - K[0, 2], -K[0, 1]
    return Camera(K, camera.world_from_cam, height, width)


def _checked(scales: Sequence[float]) -> tuple[float, ...]:
    numbers = isinstance(scales, Sequence) and not isinstance(scales, str) and len(scales) > 0
    if not numbers or not all(type(scale) in (int, float) and SMALLEST <= scale <= LARGEST for scale in scales):
        raise ConfigError(
            f"tta: scales is {scales!r:.80}, expected a list of numbers from {SMALLEST:g} to {LARGEST:g}",
            remedy="for example scales=[0.75, 1, 1.25]",
        )
    if len(set(scales)) < len(scales):
        raise ConfigError(f"tta: scales {list(scales)} name one size twice")
    return tuple(sorted(float(scale) for scale in scales))
