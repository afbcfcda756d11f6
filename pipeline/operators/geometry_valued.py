"""Values that depend on where they are seen from, as ones that do not: what may be averaged over views.

A depth or a normal in camera axes is another number in every view. Two optional methods of an operator say how to get
rid of the camera before values of several views are aggregated, and how to see the result from the target again:

    to_world(features [B, C, h, w], cameras) -> [B, C', h, w]        to_camera([B, C', h, w], cameras) -> [B, C, h, w]

`depth(SPEC)` and `normals(SPEC)` add them to any operator that predicts depth or normals view by view.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pipeline.protocols import Operator
from schemas.camera import Camera
from schemas.errors import ConfigError, ContractError
from schemas.store import Kind

if TYPE_CHECKING:
    from torch import Tensor

    from schemas.scene import FrameBatch

VERSION = 1
"""Version of what is computed here; part of fingerprints."""
AXES = {"opencv": (1.0, 1.0, 1.0), "opengl": (1.0, -1.0, -1.0)}
"""Signs that turn camera axes into OpenCV's: x right, y down, z forward."""


def moves_between_views(operator: Operator) -> bool:
    """Whether an operator's values have to be taken out of their camera before they are aggregated."""
    return callable(getattr(operator, "to_world", None)) and callable(getattr(operator, "to_camera", None))


def to_world(operator: Operator, features: Tensor, camera: Camera) -> Tensor:
    """[C, h, w] of one view as values that do not depend on it; as they are where the operator has no such method."""
    return _moved(operator, "to_world", features[None], [camera])[0]


def to_camera(operator: Operator, features: Tensor, camera: Camera) -> Tensor:
    """[B, C, h, w] of no view as one camera sees them; as they are where the operator has no such method."""
    return _moved(operator, "to_camera", features, [camera] * len(features))


class Depth:
    """`depth(SPEC)`: z-depth of an operator of kind scalar, aggregated as points in space.

    A view's depths become points x, y, z and a one, zeros where depth is 0 (unknown). Averages of these four numbers,
    divided by the last, are averages of the known points alone; their z in the target's camera is its depth.

    Args:
        operator: predicts z-depth in scene units. Depth up to scale, or inverse depth, has to be made metric first.
    """

    kind: Kind = "scalar"
    label_set = None
    stride = 1
    takes_operators = True

    def __init__(self, operator: Operator) -> None:
        _check(operator, "depth", "scalar", "")
        if _is_relative(operator):
            raise ConfigError(
                f"depth({operator.name}): expected metric depth, found inverse depth up to scale and shift",
                remedy="take a model of metric depth, or label with the operator itself",
            )
        self._operator, self.members = operator, (operator,)
        self.name = f"depth({operator.name})"

    def encode(self, batch: FrameBatch[Tensor]) -> Tensor:
        """Depth [B, 1, H, W], 0 = unknown."""
        return _finished(self._operator, batch).clamp_min(0)

    def to_world(self, features: Tensor, cameras: Sequence[Camera]) -> Tensor:
        """Depth [B, 1, H, W] -> points and ones [B, 4, H, W]."""
        return _stacked([_points(depth[0], camera) for depth, camera in zip(features, cameras, strict=True)])

    def to_camera(self, features: Tensor, cameras: Sequence[Camera]) -> Tensor:
        """Weighted points and weights [B, 4, H, W] -> depth [B, 1, H, W]."""
        return _stacked([_depth(points, camera) for points, camera in zip(features, cameras, strict=True)])

    def decode(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Depth as it is."""
        return features[..., : size[0], : size[1]]

    def fingerprint(self) -> str:
        """The operator's."""
        return f"depth:{VERSION}:{self._operator.fingerprint()}"


class Normals:
    """`normals(SPEC)`: unit normals of an operator of kind features, aggregated in world axes, unit length again after.

    Args:
        operator: three channels, the normal in camera axes, zeros where it is unknown.
        axes: `opencv` (x right, y down, z forward) or `opengl` (x right, y up, z backward).
    """

    kind: Kind = "features"
    label_set = None
    takes_operators = True

    def __init__(self, operator: Operator, *, axes: Literal["opencv", "opengl"] = "opencv") -> None:
        _check(operator, "normals", "features", ": three channels, a normal")
        if axes not in AXES:
            raise ConfigError(f"normals: axes is {axes!r}, expected {' or '.join(AXES)}")
        self._operator, self.members, self._axes = operator, (operator,), axes
        self.name, self.stride = f"normals({operator.name})", operator.stride

    def encode(self, batch: FrameBatch[Tensor]) -> Tensor:
        """Unit normals [B, 3, h, w] in OpenCV's camera axes."""
        found = self._operator.encode(batch)
        if found.shape[1] != 3:
            raise ContractError(f"{self.name}: found {found.shape[1]} channels, expected the 3 of a normal")
        return _unit(found * found.new_tensor(AXES[self._axes])[:, None, None])

    def to_world(self, features: Tensor, cameras: Sequence[Camera]) -> Tensor:
        """Normals [B, 3, h, w], rotated from camera into world axes."""
        return _stacked([_rotated(n, camera, back=False) for n, camera in zip(features, cameras, strict=True)])

    def to_camera(self, features: Tensor, cameras: Sequence[Camera]) -> Tensor:
        """Averages [B, 3, h, w] in world axes -> unit normals in camera axes."""
        return _unit(_stacked([_rotated(n, camera, back=True) for n, camera in zip(features, cameras, strict=True)]))

    def decode(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Normals in OpenCV's camera axes."""
        return features

    def fingerprint(self) -> str:
        """The operator's, and its axes."""
        return f"normals:{VERSION}:{self._axes}:{self._operator.fingerprint()}"


def _check(operator: Any, name: str, kind: Kind, what: str) -> None:
    if not hasattr(operator, "kind"):
        raise ConfigError(f"{name} is made of an operator, found {operator!r}", remedy=f"{name}(SPEC)")
    if operator.kind != kind:
        raise ConfigError(f"{name}({operator.name}): expected an operator of kind {kind}{what}, found {operator.kind}")


def _is_relative(operator: Any) -> bool:
    """Whether an operator, or any that it is made of, predicts depth up to scale and shift."""
    return bool(getattr(operator, "relative", False)) or any(map(_is_relative, getattr(operator, "members", ())))


def _finished(operator: Operator, batch: FrameBatch[Tensor]) -> Tensor:
    return operator.decode(operator.encode(batch), (batch.images.shape[-2], batch.images.shape[-1])).float()


def _moved(operator: Operator, method: str, features: Tensor, cameras: Sequence[Camera]) -> Tensor:
    if not moves_between_views(operator):
        return features
    moved = getattr(operator, method)(features, cameras)
    if getattr(moved, "ndim", 0) != 4 or moved.shape[0] != len(features) or moved.shape[2:] != features.shape[2:]:
        expected = f"[{len(features)}, C, {features.shape[2]}, {features.shape[3]}]"
        found = list(moved.shape) if hasattr(moved, "shape") else type(moved).__name__
        raise ContractError(f"operator {operator.name!r}: {method} returned {found}, expected {expected}")
    result: Tensor = moved.float()
    return result


def _points(depth: Tensor, camera: Camera) -> Tensor:
    """[H, W] -> [4, H, W]: the world point of every pixel and a one, zeros where depth is unknown."""
    import torch

    height, width = depth.shape
    y, x = torch.meshgrid(_centres(height, depth), _centres(width, depth), indexing="ij")
    K_inverse = depth.new_tensor(camera.K).inverse()
    pose = depth.new_tensor(camera.world_from_cam)
    rays = torch.einsum("ij,jhw->ihw", K_inverse, torch.stack([x, y, torch.ones_like(x)]))
    points = torch.einsum("ij,jhw->ihw", pose[:3, :3], rays * depth) + pose[:3, 3, None, None]
    return torch.cat([points, torch.ones_like(points[:1])]) * (depth > 0)


def _depth(points: Tensor, camera: Camera) -> Tensor:
    """[4, H, W] weighted sums of points, and weights -> [1, H, W] z in the camera, 0 where nothing is known."""
    import torch

    row = points.new_tensor(camera.cam_from_world)[2]
    z = torch.einsum("j,jhw->hw", row, points) / points[3].clamp_min(1e-6)
    return torch.where(points[3] > 1e-6, z.clamp_min(0), 0)[None]


def _rotated(normals: Tensor, camera: Camera, *, back: bool) -> Tensor:
    import torch

    rotation = normals.new_tensor(camera.world_from_cam)[:3, :3]
    return torch.einsum("ij,jhw->ihw", rotation.T if back else rotation, normals)


def _unit(vectors: Tensor) -> Tensor:
    """[B, 3, h, w] of length one; zeros stay zeros."""
    return vectors / vectors.norm(dim=1, keepdim=True).clamp_min(1e-6)


def _centres(count: int, like: Tensor) -> Tensor:
    import torch

    return torch.arange(count, dtype=like.dtype, device=like.device) + 0.5


def _stacked(maps: list[Tensor]) -> Tensor:
    import torch

    return torch.stack(maps)
