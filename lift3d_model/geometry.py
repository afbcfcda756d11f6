"""Pinhole geometry on tensors: rays, projection, view-to-view maps. The only place that knows the pixel convention.

Conventions: OpenCV camera axes (x right, y down, z forward), `world_from_cam`, pixel centres at +0.5, depth is z-depth.
Shapes: S source views, N pixels, P samples a ray, H W pixels, h w feature cells.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pixel_centres(height: int, width: int, stride: float = 1.0, device: torch.device | None = None) -> Tensor:
    """Centres of the cells of a height x width grid whose cells are `stride` image pixels wide.

    Returns:
        [height * width, 2] float64 (x, y) in image pixels; cell (i, j) is centred on ((j + 0.5) s, (i + 0.5) s).
    """
    y = (torch.arange(height, dtype=torch.float64, device=device) + 0.5) * stride
    x = (torch.arange(width, dtype=torch.float64, device=device) + 0.5) * stride
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1).reshape(-1, 2)


def homogeneous(points: Tensor) -> Tensor:
    """[..., D] -> [..., D + 1] with a last coordinate of one."""
    return torch.cat([points, torch.ones_like(points[..., :1])], dim=-1)


def rigid_inverse(world_from_cam: Tensor) -> Tensor:
    """[..., 4, 4] rigid motion -> its inverse, exact for a rotation (no general matrix inversion)."""
    rotation = world_from_cam[..., :3, :3].transpose(-1, -2)
    inverse = torch.zeros_like(world_from_cam)
    inverse[..., :3, :3] = rotation
    inverse[..., :3, 3:] = -rotation @ world_from_cam[..., :3, 3:]
    inverse[..., 3, 3] = 1.0
    return inverse


def unproject(pixels: Tensor, depth: Tensor, K: Tensor, world_from_cam: Tensor) -> Tensor:
    """Pixels [..., N, 2] at z-depth [..., N] -> world points [..., N, 3]."""
    rays = homogeneous(pixels) @ torch.linalg.inv(K).transpose(-1, -2)
    points: Tensor = rays * depth[..., None]
    return points @ world_from_cam[..., :3, :3].transpose(-1, -2) + world_from_cam[..., None, :3, 3]


def project(points: Tensor, K: Tensor, world_from_cam: Tensor) -> tuple[Tensor, Tensor]:
    """World points [..., N, 3] -> pixels [..., N, 2] and z-depth [..., N].

    Pixels of points at or behind the camera plane are meaningless; their depth (<= 0) tells.
    """
    cam = rigid_inverse(world_from_cam)
    local = points @ cam[..., :3, :3].transpose(-1, -2) + cam[..., None, :3, 3]
    image = local @ K.transpose(-1, -2)
    depth = local[..., 2]
    return image[..., :2] / _away_from_zero(depth)[..., None], depth


def view_to_view(K: Tensor, world_from_cam: Tensor, target: int, sources: Tensor) -> tuple[Tensor, Tensor]:
    """The map from target pixels and depths to source pixels, as an affine function of depth.

    A target pixel u at depth z lands in source s at the homogeneous pixel z A_s (u, 1) + b_s, whose third entry is
    the depth there. Computed in float64, since the world's origin may be far away.

    Args:
        K: [V, 3, 3]; world_from_cam: [V, 4, 4]; sources: [S] view indices.

    Returns:
        A: [S, 3, 3], b: [S, 3], float64.
    """
    source_from_target = rigid_inverse(world_from_cam[sources]) @ world_from_cam[target]
    A = K[sources] @ source_from_target[:, :3, :3] @ torch.linalg.inv(K[target])
    b = (K[sources] @ source_from_target[:, :3, 3:])[..., 0]
    return A, b


def land(A: Tensor, b: Tensor, pixels: Tensor, depth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Apply `view_to_view` for one source: where pixels land at several depths each, coordinates apart.

    Args:
        A: [3, 3]; b: [3]; pixels: [2, R] float32; depth: [P, R].

    Returns:
        x, y in the source and z-depth there: [P, R] float32 each; a depth <= 0 is behind the source. Sums are written
        out, so that a pixel lands in the same place, to the bit, whichever pixels come with it.
    """
    u, v = pixels
    rows, offset = A.tolist(), b.tolist()
    x, y, z = ((u * p).add_(v, alpha=q).add_(r) * depth + shift for (p, q, r), shift in zip(rows, offset, strict=True))
    nearness = _away_from_zero(z).reciprocal_()
    return x.mul_(nearness), y.mul_(nearness), z


def in_image(pixels: Tensor, depth: Tensor, sizes: Tensor) -> Tensor:
    """Whether pixels [S, ..., 2] at depths [S, ...] are in front of their view and inside its image.

    Args:
        sizes: [S, 2] (height, width) of each view.
    """
    height, width = (sizes[:, k].view(-1, *[1] * (depth.dim() - 1)) for k in (0, 1))
    x, y = pixels[..., 0], pixels[..., 1]
    return (depth > 0) & (x >= 0) & (y >= 0) & (x < width) & (y < height)


def scaled_intrinsics(K: Tensor, scale_x: float, scale_y: float) -> Tensor:
    """Intrinsics [..., 3, 3] of images resized by (scale_x, scale_y); exact since pixel centres are at +0.5."""
    factors = K.new_tensor([scale_x, scale_y, 1.0])
    return K * factors[:, None]


def _away_from_zero(depth: Tensor) -> Tensor:
    return torch.where(depth.abs() < 1e-9, torch.full_like(depth, 1e-9), depth)
