"""`letterbox(SPEC; side=512)`: an operator that sees every view resized into one size, on an exact grid.

For networks that want one input size. The image is resized to whole pixels, which changes its scale a little and
differently along each axis; results are fetched back with exactly these scales, bilinearly, so that nothing moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pipeline.operators.geometry_valued import moves_between_views
from pipeline.operators.grid import grid_size
from pipeline.protocols import Operator
from schemas.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from schemas.camera import Camera
    from schemas.scene import FrameBatch

VERSION = 1
"""Version of what encode computes; part of the fingerprint."""


class Letterbox:
    """Another operator's predictions of images that are resized into a square or another fixed size.

    Features come at the cell size that is nearest to the operator's own, seen in the image, at least `stride` where it
    is given. Any other kind is decoded at that size and lifted as finished predictions at image size.

    Args:
        operator: the other one.
        side: pixels of the square, or [height, width].
        policy: `letterbox` keeps the aspect ratio and pads right and bottom by the nearest pixel, `stretch` fills it.
        stride: pixels a cell of features: needed for kind features.
    """

    takes_operators = True

    def __init__(
        self,
        operator: Operator,
        *,
        side: int | Sequence[int],
        policy: Literal["letterbox", "stretch"] = "letterbox",
        stride: int | None = None,
    ) -> None:
        if not hasattr(operator, "kind"):
            raise ConfigError(f"letterbox is made of an operator, found {operator!r}", remedy="letterbox(SPEC; side=N)")
        if moves_between_views(operator):
            raise ConfigError(f"letterbox({operator.name}): values in space", remedy="depth(letterbox(SPEC; side=N))")
        box = (side, side) if isinstance(side, int) else tuple(side)
        if policy not in ("letterbox", "stretch") or len(box) != 2 or any(type(n) is not int or n < 1 for n in box):
            raise ConfigError(f"letterbox: policy {policy!r}, side {side!r}: expected letterbox or stretch, and pixels")
        self._operator, self._box, self._policy = operator, (box[0], box[1]), policy
        self._told = box[0] if box[0] == box[1] else box
        self.members = (operator,)
        self.name, self.kind, self.label_set = f"letterbox({operator.name})", operator.kind, operator.label_set
        self.stride = (stride or operator.stride) if operator.kind == "features" else 1

    def encode(self, batch: FrameBatch[Tensor]) -> Tensor:
        """Features [B, C, h, w], or finished predictions [B, C, H, W], on the grid of the images."""
        size = (batch.images.shape[-2], batch.images.shape[-1])
        inner = self._content(size)
        shown = replace(batch, images=self._boxed(batch.images, inner), cameras=self._cameras(batch.cameras, inner))
        found = self._operator.encode(shown)
        if self.kind == "features":
            return fetched(found.float(), self._operator.stride, inner, size, self.stride)
        decoded = self._operator.decode(found, self._box).float()
        return fetched(decoded, 1, inner, size, 1)

    def decode(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """The operator's features decoded, or the predictions as they are."""
        return self._operator.decode(features, size) if self.kind == "features" else features[..., : size[0], : size[1]]

    def fingerprint(self) -> str:
        """The operator's, and how it is resized."""
        return f"letterbox:{VERSION}:{self._told}:{self._policy}:{self.stride}:{self._operator.fingerprint()}"

    def _content(self, size: tuple[int, int]) -> tuple[int, int]:
        """Size of the resized image in the box."""
        (height, width), (tall, wide) = size, self._box
        if self._policy == "stretch":
            return tall, wide
        if height * wide >= width * tall:
            return tall, max(1, round(width * tall / height))
        return max(1, round(height * wide / width)), wide

    def _boxed(self, images: Tensor, inner: tuple[int, int]) -> Tensor:
        from torch.nn.functional import pad

        margins = (0, self._box[1] - inner[1], 0, self._box[0] - inner[0])
        return pad(resized(images, inner), margins, mode="replicate").clamp(0, 1)

    def _cameras(self, cameras: tuple[Camera, ...], inner: tuple[int, int]) -> tuple[Camera, ...]:
        content = [camera.resized(*inner) for camera in cameras]
        return tuple(replace(camera, height=self._box[0], width=self._box[1]) for camera in content)


def resized(images: Tensor, inner: tuple[int, int]) -> Tensor:
    """Images [B, 3, H, W] at another size, without aliases and without moving anything."""
    from torch.nn.functional import interpolate

    return interpolate(smoothed(images, inner), size=inner, mode="bilinear", align_corners=False)


def smoothed(images: Tensor, inner: tuple[int, int]) -> Tensor:
    """Images [B, 3, H, W] without what a smaller size cannot show: Gaussian, so symmetric, which moves nothing.

    The antialiasing of torch's `interpolate` weighs neighbours unevenly and moves edges by hundredths of a pixel.
    """
    import torch
    from torch.nn.functional import conv2d, pad

    for axis, content in zip((-2, -1), inner, strict=True):
        reduced = images.shape[axis] / content
        radius = round(1.5 * reduced)
        if reduced <= 1:
            continue
        offsets = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
        kernel = torch.exp(-0.5 * (offsets / (0.5 * (reduced**2 - 1) ** 0.5)) ** 2)
        shape = (1, 1, -1, 1) if axis == -2 else (1, 1, 1, -1)
        kernel = (kernel / kernel.sum()).view(shape).expand(images.shape[1], -1, -1, -1)
        margin = (0, 0, radius, radius) if axis == -2 else (radius, radius, 0, 0)
        images = conv2d(pad(images, margin, mode="replicate"), kernel, groups=images.shape[1])
    return images


def fetched(maps: Tensor, stride: float, inner: tuple[int, int], size: tuple[int, int], cell: int) -> Tensor:
    """What maps of a resized image say at the cells of the image itself, bilinearly.

    Args:
        maps: [B, C, h', w'], cells `stride` pixels wide, of an image of which `inner` = (height, width) is content.
        size: (H, W) of the image itself; `cell`: pixels a cell there.

    Returns:
        [B, C, h, w].
    """
    import torch
    from torch.nn.functional import grid_sample

    axes = []
    for cells, content, whole, theirs in zip(grid_size(size, cell), inner, size, maps.shape[-2:], strict=True):
        centres = (torch.arange(cells, device=maps.device, dtype=torch.float64) + 0.5) * cell
        there = (centres * content / whole).clamp(max=content - 0.5)
        axes.append((2 * there / (theirs * stride) - 1).to(maps.dtype))
    y, x = torch.meshgrid(*axes, indexing="ij")
    grid = torch.stack([x, y], -1)[None].expand(len(maps), -1, -1, -1)
    return grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)
