"""Scenes as data: what readers produce, what is planned and sharded. Addresses and cameras, never pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from schemas.camera import Camera
from schemas.errors import Reason

TensorT = TypeVar("TensorT")


@dataclass(frozen=True, slots=True)
class Asset:
    """Where the bytes of an image are: a file, or a range of a larger file (`.sens`).

    Attributes:
        uri: local path or fsspec URI.
        codec: "image" (anything OpenCV decodes: JPEG, PNG, ...), "zlib_u16" or "raw_u16" (bare depth
            samples of `shape`).
        offset, length: byte range; length None means up to the end of the file.
        size: the file's (or range's) size in bytes where the listing told it.
        digest: of the content, once planning looked at it (`pipeline/digests.py`); part of fingerprints.
        shape: (height, width) of bare samples.
        scale: depth only: stored value / scale = z-depth in scene units (ScanNet: 1000 for millimetres).
    """

    uri: str
    codec: str = "image"
    offset: int = 0
    length: int | None = None
    size: int | None = None
    shape: tuple[int, int] | None = None
    scale: float = 1.0
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """One posed view.

    Attributes:
        id: the frame's name exactly as the dataset writes it ("0", "000012", "images/0001").
        camera: the colour camera at the image's full size.
        image: colour image.
        depth: z-depth along the optical axis, 0 = unknown; None where the dataset has none.
        depth_camera: the depth map's camera; its world_from_cam equals `camera`'s (depth is registered).
        label: ground-truth class ids, where the dataset has them.
    """

    id: str
    camera: Camera
    image: Asset
    depth: Asset | None = None
    depth_camera: Camera | None = None
    label: Asset | None = None


@dataclass(frozen=True, slots=True)
class FrameIssue:
    """A frame that was set aside, and why."""

    frame: str
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class SceneRef:
    """What is listed and sharded: a scene's id and where it is, a few hundred bytes."""

    id: str
    uri: str
    reader: str


@dataclass(frozen=True, slots=True)
class Scene:
    """A scene's usable frames in the dataset's order, and the ones set aside."""

    id: str
    frames: tuple[Frame, ...]
    issues: tuple[FrameIssue, ...] = ()


@dataclass(frozen=True, slots=True)
class FrameBatch(Generic[TensorT]):
    """What an operator's `encode` receives: B images of one scene and one size.

    Attributes:
        images: [B, 3, H, W] float RGB in [0, 1] (a torch tensor on the operator's device).
        scene: the scene's id.
        frames: B frame ids.
        cameras: B cameras of H x W images.
    """

    images: TensorT
    scene: str
    frames: tuple[str, ...]
    cameras: tuple[Camera, ...]


@dataclass(frozen=True, slots=True)
class Chunk:
    """The unit of work: target frames of one scene and every other view that they need.

    Attributes:
        scene: the scene's id.
        name: deterministic name of the chunk within its scene (zero-padded index of its first target).
        frames: all views needed, in the dataset's order.
        targets: indices into `frames` of the views to label.
        sources: for every view of `frames`, indices into `frames` of its source views, best first, itself
            left out. What a view's sources are never depends on how the scene was cut into chunks; a view
            that is only a source's source carries as many as are in `frames`.
        fingerprints: one a target: everything that its label depends on.
        staged: the chunk replaces labels that are visible now, so it is published by the driver.
        parts: one a target, what its fingerprint is made of (`pipeline.fingerprint.PARTS`), where the plan says so.
    """

    scene: str
    name: str
    frames: tuple[Frame, ...]
    targets: tuple[int, ...]
    sources: tuple[tuple[int, ...], ...]
    fingerprints: tuple[str, ...]
    staged: bool = False
    parts: tuple[str, ...] = ()

    @property
    def target_ids(self) -> tuple[str, ...]:
        """Frame ids of the targets."""
        return tuple(self.frames[t].id for t in self.targets)


def frame_to_json(frame: Frame) -> dict[str, Any]:
    """A frame as plain JSON types (for Ray rows)."""
    return {
        "id": frame.id,
        "camera": frame.camera.to_json(),
        "image": _asset_to_json(frame.image),
        "depth": frame.depth and _asset_to_json(frame.depth),
        "depth_camera": frame.depth_camera and frame.depth_camera.to_json(),
        "label": frame.label and _asset_to_json(frame.label),
    }


def frame_from_json(data: dict[str, Any]) -> Frame:
    """Inverse of `frame_to_json`."""
    return Frame(
        id=data["id"],
        camera=Camera.from_json(data["camera"]),
        image=_asset_from_json(data["image"]),
        depth=data["depth"] and _asset_from_json(data["depth"]),
        depth_camera=data["depth_camera"] and Camera.from_json(data["depth_camera"]),
        label=data["label"] and _asset_from_json(data["label"]),
    )


def chunk_to_json(chunk: Chunk) -> dict[str, Any]:
    """A chunk as plain JSON types: the payload of a Ray row."""
    return {
        "scene": chunk.scene,
        "name": chunk.name,
        "frames": [frame_to_json(frame) for frame in chunk.frames],
        "targets": list(chunk.targets),
        "sources": [list(views) for views in chunk.sources],
        "fingerprints": list(chunk.fingerprints),
        "staged": chunk.staged,
        "parts": list(chunk.parts),
    }


def chunk_from_json(data: dict[str, Any]) -> Chunk:
    """Inverse of `chunk_to_json`."""
    return Chunk(
        scene=data["scene"],
        name=data["name"],
        frames=tuple(frame_from_json(frame) for frame in data["frames"]),
        targets=tuple(data["targets"]),
        sources=_tuples(data["sources"]),
        fingerprints=tuple(data["fingerprints"]),
        staged=data["staged"],
        parts=tuple(data["parts"]),
    )


def _tuples(rows: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(row) for row in rows)


def _asset_to_json(asset: Asset) -> dict[str, Any]:
    return {name: getattr(asset, name) for name in Asset.__slots__}


def _asset_from_json(data: dict[str, Any]) -> Asset:
    shape = data["shape"]
    return Asset(**{**data, "shape": shape and (shape[0], shape[1])})
