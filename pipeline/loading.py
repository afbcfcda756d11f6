"""From a chunk's addresses to tensors on a device: decoded images, cameras and sensor depth, bad views set aside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.assets import decode_depth, decode_image
from pipeline.fingerprint import geometry_of
from schemas.camera import Camera
from schemas.config import LiftConfig
from schemas.errors import FrameError, Reason
from schemas.scene import Frame

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from lift3d_model.views import Views


@dataclass(frozen=True, slots=True)
class LoadedView:
    """One decoded view.

    Attributes:
        image: [H, W, 3] uint8 RGB; depth: [H, W] float32 on the image's grid, None = to be found from RGB.
    """

    frame: Frame
    image: NDArray[np.uint8]
    depth: NDArray[np.float32] | None


def load_view(frame: Frame, lift: LiftConfig) -> LoadedView:
    """Decode a frame's image and, where the lift uses it, its depth. Raises `FrameError`."""
    image = decode_image(frame.image, frame.camera)
    depth = _load_depth(frame) if geometry_of(frame, lift) == "depth" else None
    return LoadedView(frame, image, depth)


def as_images(views: Sequence[LoadedView], device: torch.device) -> list[Tensor]:
    """[3, H, W] float RGB in [0, 1] of each view."""
    import torch

    return [torch.from_numpy(view.image).to(device).permute(2, 0, 1).float() / 255 for view in views]


def as_tensors(views: Sequence[LoadedView], device: torch.device) -> tuple[Views, Tensor]:
    """The views as one batch (padded to a common size) and their sensor depth [V, H, W], 0 = none."""
    import torch

    from lift3d_model.sampling import stack_padded
    from lift3d_model.views import Views

    cameras = [view.frame.camera for view in views]
    batch = Views(
        images=stack_padded(as_images(views, device)),
        K=torch.from_numpy(np.stack([camera.K for camera in cameras])).to(device),
        world_from_cam=torch.from_numpy(np.stack([camera.world_from_cam for camera in cameras])).to(device),
        sizes=torch.tensor([[camera.height, camera.width] for camera in cameras], device=device),
    )
    empty = [np.zeros((camera.height, camera.width), np.float32) for camera in cameras]
    depths = [zeros if view.depth is None else view.depth for view, zeros in zip(views, empty, strict=True)]
    return batch, stack_padded([torch.from_numpy(depth).to(device) for depth in depths])


def _load_depth(frame: Frame) -> NDArray[np.float32]:
    """Sensor depth [H, W] on the colour image's pixel grid."""
    if frame.depth is None:
        raise FrameError(
            Reason.DEPTH_MISSING,
            "the frame has no depth map, and lift.method is depth",
            remedy="use --lift auto, which finds depth from RGB where a frame has none",
        )
    depth = decode_depth(frame.depth)
    camera = frame.depth_camera or frame.camera.resized(*depth.shape)
    if depth.shape != (camera.height, camera.width):
        raise FrameError(
            Reason.DEPTH_SIZE_MISMATCH,
            f"depth map {frame.depth.uri} is {depth.shape[1]}x{depth.shape[0]}, its camera's images are "
            f"{camera.width}x{camera.height}",
            remedy="check that depth intrinsics and depth maps belong together",
        )
    return register_depth(depth, camera, frame.camera)


def register_depth(depth: NDArray[np.float32], camera: Camera, colour: Camera) -> NDArray[np.float32]:
    """Depth [h, w] of a camera with the same pose, resampled (nearest) to the colour camera's pixels [H, W].

    The two grids meet through normalised rays, since their aspect ratios may differ (ScanNet: 1296 x 968, 640 x 480).
    """
    rays_x = (np.arange(colour.width) + 0.5 - colour.K[0, 2]) / colour.K[0, 0]
    rays_y = (np.arange(colour.height) + 0.5 - colour.K[1, 2]) / colour.K[1, 1]
    x = np.floor(rays_x * camera.K[0, 0] + camera.K[0, 2]).astype(int)
    y = np.floor(rays_y * camera.K[1, 1] + camera.K[1, 2]).astype(int)
    inside = ((y >= 0) & (y < camera.height))[:, None] & ((x >= 0) & (x < camera.width))
    picked = depth[np.ix_(y.clip(0, camera.height - 1), x.clip(0, camera.width - 1))]
    return np.where(inside, picked, np.float32(0))
