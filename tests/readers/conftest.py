"""Small generated scenes, and writers for every layout that a reader knows."""

import json
import struct
import zlib
from dataclasses import dataclass, field
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

COLOR_SIZE = (24, 32)
DEPTH_SIZE = (12, 16)
COLOR_K = np.array([[30.0, 0, 15.2], [0, 31.0, 11.7], [0, 0, 1]])
DEPTH_K = np.array([[15.0, 0, 7.4], [0, 15.5, 5.6], [0, 0, 1]])


@dataclass
class View:
    """One frame as files would have it: pixel centres at integers, OpenCV camera-to-world."""

    image: np.ndarray
    depth_mm: np.ndarray
    label: np.ndarray
    pose: np.ndarray


@dataclass
class Views:
    """A scene. `color_K` and `depth_K` have pixel centres at integers."""

    frames: list[View]
    color_K: np.ndarray = field(default_factory=COLOR_K.copy)
    depth_K: np.ndarray = field(default_factory=DEPTH_K.copy)


def rotation(random):
    """A random rotation with determinant 1."""
    q, r = np.linalg.qr(random.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))


def make_views(count=3, seed=0):
    """A scene of `count` random views."""
    random = np.random.default_rng(seed)
    frames = []
    for _ in range(count):
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation(random), random.uniform(-5, 5, 3)
        image = cv2.resize(random.integers(0, 256, (3, 4, 3), np.uint8), COLOR_SIZE[::-1])
        depth = random.integers(0, 5000, DEPTH_SIZE, np.uint16)
        label = random.integers(0, 41, COLOR_SIZE, np.uint16)
        frames.append(View(image, depth, label, pose))
    return Views(frames)


def encode(picture, suffix):
    """File contents of a picture (BGR or one channel)."""
    return cv2.imencode(suffix, picture)[1].tobytes()


def text(matrix):
    """A matrix as ScanNet writes it."""
    return "\n".join(" ".join(f"{value:.6f}" for value in row) for row in matrix) + "\n"


def four(K):
    """[3, 3] -> [4, 4]."""
    matrix = np.eye(4)
    matrix[:3, :3] = K
    return matrix


def write_scannet(root, views, suffix=".jpg", depth=True, labels=True):
    """The exported layout in the folder `root`."""
    for name in ("color", "pose", "intrinsic", *["depth"] * depth, *["label-filt"] * labels):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "intrinsic" / "intrinsic_color.txt").write_text(text(four(views.color_K)))
    (root / "intrinsic" / "intrinsic_depth.txt").write_text(text(four(views.depth_K)))
    for i, view in enumerate(views.frames):
        (root / "color" / f"{i}{suffix}").write_bytes(encode(view.image, suffix))
        (root / "pose" / f"{i}.txt").write_text(text(view.pose))
        if depth:
            (root / "depth" / f"{i}.png").write_bytes(encode(view.depth_mm, ".png"))
        if labels:
            (root / "label-filt" / f"{i}.png").write_bytes(encode(view.label, ".png"))
    return root


def sens_bytes(views, color_codec=2, depth_codec=1, frames=None, name=b"StructureSensor"):
    """A .sens file of version 4; `frames` is what its header claims, where it lies."""
    eye = np.eye(4)
    matrices = np.stack([four(views.color_K), eye, four(views.depth_K), eye]).astype("<f4")
    head = struct.pack("<IQ", 4, len(name)) + name + matrices.tobytes()
    sizes = (*COLOR_SIZE[::-1], *DEPTH_SIZE[::-1])
    head += struct.pack("<ii4IfQ", color_codec, depth_codec, *sizes, 1000.0, frames or len(views.frames))
    return head + b"".join(sens_frame(view, color_codec, depth_codec) for view in views.frames) + struct.pack("<Q", 0)


def sens_frame(view, color_codec=2, depth_codec=1):
    """One frame of a .sens file."""
    color = encode(view.image, {1: ".png", 2: ".jpg"}[color_codec])
    depth = view.depth_mm.astype("<u2").tobytes()
    depth = zlib.compress(depth) if depth_codec == 1 else depth
    pose = view.pose.astype("<f4").tobytes()
    return pose + struct.pack("<4Q", 1, 2, len(color), len(depth)) + color + depth


def write_sens(root, views, **options):
    """`root`/<name of root>.sens."""
    root.mkdir(parents=True, exist_ok=True)
    path = root / f"{root.name}.sens"
    path.write_bytes(sens_bytes(views, **options))
    return path


def transforms_of(views, depth=True):
    """transforms.json as data: OpenGL axes, intrinsics of the colour image."""
    (fx, _, cx), (_, fy, cy), _ = views.color_K.tolist()
    frames = [
        {
            "file_path": f"images/{i:04d}.jpg",
            **({"depth_file_path": f"depth/{i:04d}.png"} if depth else {}),
            "transform_matrix": (view.pose @ np.diag([1.0, -1, -1, 1])).tolist(),
        }
        for i, view in enumerate(views.frames)
    ]
    height, width = COLOR_SIZE
    return {"w": width, "h": height, "fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy, "frames": frames}


def write_transforms(root, views, data=None, depth=True):
    """A nerfstudio scene in the folder `root`; `data` replaces what transforms.json says."""
    for name in ("images", *["depth"] * depth):
        (root / name).mkdir(parents=True, exist_ok=True)
    for i, view in enumerate(views.frames):
        (root / "images" / f"{i:04d}.jpg").write_bytes(encode(view.image, ".jpg"))
        if depth:
            (root / "depth" / f"{i:04d}.png").write_bytes(encode(view.depth_mm, ".png"))
    (root / "transforms.json").write_text(json.dumps(data or transforms_of(views, depth)))
    return root


@pytest.fixture(scope="session")
def make():
    """The functions above."""
    return SimpleNamespace(**{f.__name__: f for f in FUNCTIONS}, color_size=COLOR_SIZE, depth_size=DEPTH_SIZE)


FUNCTIONS = (
    make_views,
    rotation,
    encode,
    text,
    write_scannet,
    sens_bytes,
    sens_frame,
    write_sens,
    transforms_of,
    write_transforms,
)
