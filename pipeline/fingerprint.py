"""What a label depends on, as one hash a frame: two labels with one fingerprint are the same label.

In it: the contract's version, the operator and its settings, the lift's settings and checkpoint, and the cameras and
contents of every view that is looked at. Not in it: paths, how scenes are cut into chunks, batch sizes, the engine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Literal

from schemas.config import LiftConfig
from schemas.scene import Asset, Frame

CONTRACT_VERSION = 8
"""Raised whenever the same input and settings give another label than before."""

PARTS = ("contract", "operator", "settings", "checkpoint", "camera", "image", "depth", "sources")
"""What `frame_parts` tells apart."""

Geometry = Literal["none", "depth", "rgb"]


def geometry_of(frame: Frame, lift: LiftConfig) -> Geometry:
    """Where a view's depth comes from: its own depth map, a sweep over its source views, or nowhere."""
    if lift.method == "auto":
        return "depth" if frame.depth is not None else "rgb"
    return lift.method


def model_fingerprint(lift: LiftConfig, operator_fingerprint: str, weights_sha256: str | None = None) -> str:
    """The operator's fingerprint together with that of the lift's checkpoint, where there is one and it is used."""
    used = weights_sha256 if lift.method != "none" else None
    return _hash("model", operator_fingerprint, used)


def view_digest(frame: Frame, geometry: Geometry) -> str:
    """A view's own content: id, camera, image and, where it is used, depth map."""
    depth = frame.depth if geometry == "depth" else None
    return _hash(
        geometry,
        frame.id,
        frame.camera.to_json(),
        _content(frame.image),
        depth and _content(depth),
        depth and frame.depth_camera and frame.depth_camera.to_json(),
    )


def frame_parts(
    frame: Frame, sources: Sequence[str], lift: LiftConfig, origin: Mapping[str, Any], *, sweeps: bool
) -> str:
    """The `PARTS` of a frame's fingerprint, each as a short digest: what tells later why a label is out of date.

    Args:
        frame, lift, sweeps: as for `frame_fingerprint`.
        sources: ids of its source views, best first; what is in them is not among the parts.
        origin: `operator` and `checkpoint`, as far as known.
    """
    geometry = geometry_of(frame, lift)
    depth = frame.depth if geometry == "depth" else None
    values = {
        "contract": CONTRACT_VERSION,
        "operator": origin.get("operator"),
        "checkpoint": origin.get("checkpoint") if lift.method != "none" else None,
        "settings": [geometry, _settings(lift, sweeps)],
        "camera": frame.camera.to_json(),
        "image": _content(frame.image),
        "depth": depth and [_content(depth), frame.depth_camera and frame.depth_camera.to_json()],
        "sources": list(sources),
    }
    return "-".join(_hash(values[part])[:8] for part in PARTS)


def trial_mark(model: str, frame: Frame, lift: LiftConfig) -> str:
    """Digest of what decides whether a view can be worked on: its content, and `model_fingerprint`."""
    return _hash("trial", model, view_digest(frame, geometry_of(frame, lift)))


def view_digests(frames: Sequence[Frame], sources: Sequence[Sequence[int]], lift: LiftConfig) -> list[str]:
    """One digest a view, of everything that its depth depends on.

    Args:
        frames: V views of a scene.
        sources: V lists of indices of source views.
        lift: decides which depth is used.

    A view whose depth is swept from RGB depends on its source views too, in their order.
    """
    geometries = [geometry_of(frame, lift) for frame in frames]
    own = [view_digest(frame, geometry) for frame, geometry in zip(frames, geometries, strict=True)]
    return [
        _hash("swept", own[v], [own[s] for s in sources[v]]) if geometries[v] == "rgb" else own[v]
        for v in range(len(frames))
    ]


def corrected_digest(own: str, sources: Sequence[str]) -> str:
    """Digest of a view as a source whose prediction is first corrected by that of its own sources, in their order."""
    return _hash("corrected", own, list(sources))


def frame_fingerprint(model: str, lift: LiftConfig, target: str, sources: Sequence[str], *, sweeps: bool) -> str:
    """Fingerprint of one label.

    Args:
        model: `model_fingerprint`.
        lift: the settings; only those that matter for this label are used.
        target, sources: `view_digests` of the target and digests of its source views, best first.
        sweeps: whether the depth of any of these views is swept from RGB.
    """
    return _hash("label", CONTRACT_VERSION, model, _settings(lift, sweeps), target, list(sources))


def work_digest(what: str, *parts: Any) -> str:
    """Digest of something that is worked out on the way to labels, by what it is and all that it depends on."""
    return _hash("work", CONTRACT_VERSION, what, *parts)


def _settings(lift: LiftConfig, sweeps: bool) -> dict[str, Any]:
    if lift.method == "none":
        return {"method": "none"}
    used: dict[str, Any] = {"mode": lift.mode, "samples": lift.samples}
    if lift.mode == "label":
        used |= {"self_weight": lift.self_weight}
    if sweeps:
        used |= {"near": lift.near, "far": lift.far, "planes": lift.planes}
    return used


def _content(asset: Asset) -> list[Any]:
    """What tells an asset's content apart: its digest or, without one, its size. Its address does not belong here."""
    told = [asset.digest] if asset.digest else [asset.size, asset.length]
    return [asset.codec, *told, asset.shape, asset.scale]


def _hash(*parts: Any) -> str:
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
