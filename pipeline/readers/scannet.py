"""ScanNet's exported folders: `color/ depth/ pose/ intrinsic/` and, with ground truth, `label-filt/` or `label/`.

Poses are camera-to-world with OpenCV axes. Depth is in millimetres and registered to colour, but has its own
size and intrinsics. Pixel centres are at integers in the files; 0.5 is added here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from pipeline.assets import join, read_bytes, read_many
from pipeline.readers.folders import Folder, asset_in, find_scenes, label_folder, list_folder
from pipeline.readers.frames import FrameCollector, first_size, parse_matrix
from schemas.camera import Camera, Matrix, centred_intrinsics, check_intrinsics
from schemas.errors import DatasetError, FrameError, Reason
from schemas.scene import Asset, Frame, Scene, SceneRef

IMAGE_SUFFIXES = frozenset({"jpg", "jpeg", "png"})
DEPTH_SCALE = 1000.0


class ScannetReader:
    """Scenes in ScanNet's exported layout: one, or a folder of them."""

    name = "scannet"

    def recognises(self, uri: str) -> bool:
        """Whether the folder, or a folder in it, holds `color/` and `pose/`."""
        return bool(self.list_scenes(uri))

    def list_scenes(self, uri: str) -> list[SceneRef]:
        """Every scene, in natural order of names."""
        return find_scenes(uri, self.name, _scene_in)

    def load(self, ref: SceneRef) -> Scene:
        """Frames in natural order of their file stems, which are their ids.

        Raises DatasetError where the scene has no readable image or no usable intrinsics.
        """
        layout = _read_layout(ref)
        images = {file: stem for file, stem in _stems(layout.color).items() if _is_image(file)}
        poses = _read_poses(layout, images.values())
        frames = FrameCollector(ref.id)
        for file, frame_id in images.items():
            frames.add(frame_id, file, partial(_build, layout, poses, frame_id, file), key=_number(frame_id))
        for file, frame_id in _stems(layout.pose).items():
            if file.endswith(".txt") and frame_id not in poses:
                frames.set_aside(frame_id, _no_image(layout, file))
        return frames.scene()


@dataclass(frozen=True, slots=True)
class _View:
    """What the images of a kind share: K [3, 3] with pixel centres at +0.5, and (height, width)."""

    K: Matrix
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Layout:
    color: Folder
    pose: Folder
    depth: Folder | None
    label: Folder | None
    color_view: _View
    depth_view: _View | None


def _scene_in(folder: Folder) -> str | None:
    return folder.uri if {"color", "pose"} <= set(folder.folders) else None


def _read_layout(ref: SceneRef) -> _Layout:
    scene = list_folder(ref.uri)
    color, pose = (list_folder(join(scene.uri, name)) for name in ("color", "pose"))
    depth = list_folder(join(scene.uri, "depth")) if "depth" in scene.folders else None
    color_view = _read_view(ref, color, "intrinsic_color.txt")
    if color_view is None:
        raise DatasetError(
            f"no image in {color.uri} can be read ({len(color.files)} files)",
            scene=ref.id,
            remedy="expected JPEG or PNG files named 0.jpg, 1.jpg, ...; export the scene again",
        )
    return _Layout(
        color=color,
        pose=pose,
        depth=depth,
        label=label_folder(scene),
        color_view=color_view,
        depth_view=_read_view(ref, depth, "intrinsic_depth.txt") if depth else None,
    )


def _read_view(ref: SceneRef, images: Folder, file: str) -> _View | None:
    """Intrinsics and size of a kind of images; None where no image's header can be read."""
    size = first_size(images.asset(name) for name, length in images.files.items() if length != 0)
    return _View(_read_intrinsics(ref, file, size), size) if size else None


def _read_intrinsics(ref: SceneRef, file: str, size: tuple[int, int]) -> Matrix:
    uri = join(ref.uri, "intrinsic", file)
    try:
        K = parse_matrix(read_bytes(Asset(uri)))[:3, :3]
        check_intrinsics(K, *size)
    except (FrameError, ValueError) as error:
        problem = error.message if isinstance(error, FrameError) else str(error)
        raise DatasetError(
            f"no intrinsics can be read from {uri}: {problem}",
            scene=ref.id,
            remedy="expected a 4x4 matrix as text; ScanNet's SensReader writes it with --export_intrinsics",
        ) from None
    return centred_intrinsics(K)


def _read_poses(layout: _Layout, frame_ids: Iterable[str]) -> dict[str, bytes | Exception]:
    """Contents of the pose files that an image needs, by frame id."""
    ids = [i for i in dict.fromkeys(frame_ids) if f"{i}.txt" in layout.pose.files]
    return dict(zip(ids, read_many([join(layout.pose.uri, f"{i}.txt") for i in ids]), strict=True))


def _build(layout: _Layout, poses: Mapping[str, bytes | Exception], frame_id: str, file: str) -> Frame:
    pose = _pose(layout, poses, frame_id)
    color_view, depth_view = layout.color_view, layout.depth_view
    depth_size = depth_view.size if depth_view else None
    depth = asset_in(layout.depth, f"{frame_id}.png", scale=DEPTH_SCALE, shape=depth_size)
    return Frame(
        id=frame_id,
        camera=Camera(color_view.K, pose, *color_view.size),
        image=layout.color.asset(file),
        depth=depth,
        depth_camera=Camera(depth_view.K, pose, *depth_view.size) if depth and depth_view else None,
        label=asset_in(layout.label, f"{frame_id}.png"),
    )


def _pose(layout: _Layout, poses: Mapping[str, bytes | Exception], frame_id: str) -> Matrix:
    uri = join(layout.pose.uri, f"{frame_id}.txt")
    if frame_id not in poses:
        raise FrameError(Reason.POSE_MISSING, f"pose {uri} does not exist", remedy="export the poses again")
    try:
        return parse_matrix(poses[frame_id])
    except ValueError as error:
        raise FrameError(
            Reason.POSE_UNREADABLE, f"pose {uri} is not a 4x4 matrix: {error}", remedy="export the poses again"
        ) from None


def _no_image(layout: _Layout, file: str) -> FrameError:
    return FrameError(
        Reason.IMAGE_MISSING,
        f"pose {file} has no image in {layout.color.uri}",
        remedy="restore the image or remove the pose",
    )


def _stems(folder: Folder) -> dict[str, str]:
    """File name -> file name without its suffix."""
    return {file: file.rpartition(".")[0] for file in folder.files}


def _is_image(file: str) -> bool:
    return file.rpartition(".")[2].lower() in IMAGE_SUFFIXES


def _number(stem: str) -> str:
    """0 and 000 are the same frame."""
    return stem.lstrip("0") or "0" if stem.isdecimal() else stem
