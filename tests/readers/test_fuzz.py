"""300 damaged inputs: each is read, or refused by an error of ours that says where and what to do, within seconds."""

import json
import time

import numpy as np
import pytest

from pipeline.assets import decode_depth, decode_ids, decode_image
from pipeline.readers import load_scene, open_dataset
from schemas.camera import Camera
from schemas.config import LabelingConfig, ReaderConfig, known_paths, override, parse_config
from schemas.errors import FrameError, Lift3DError
from schemas.scene import Asset

SECONDS = 5.0
SCENE = "scene0042_00"
NASTY = (
    *(None, True, -1, 0, 10**30, -(10**400), 1e308, float("nan"), float("inf"), "", "x" * 300, "\0", "\ud800", "../.."),
    *("s3://", "/", "nan", [], [[]], [[[[1]]]], {}, {"a": {}}, [None] * 4, [[1e200] * 4] * 4, [["1"] * 4] * 4),
)
WORDS = ("nan", "inf", "-inf", "1e400", "1_0", "0x1", "1,0", "--", "\x00", "１", "1e200", "", "9" * 400)


def damaged(data, random):
    """Bytes flipped, cut, repeated or overwritten at random."""
    data = bytearray(data)
    for _ in range(random.integers(1, 4)):
        at = int(random.integers(len(data))) if data else 0
        kind = random.integers(5)
        if kind == 0 and data:
            data[at] = int(random.integers(256))
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            data[at : at + 8] = random.integers(0, 256, 8, np.uint8).tobytes()
        elif kind == 3:
            data[at : at + 8] = bytes([int(random.choice([0, 255]))]) * 8
        else:
            data[at:at] = data[at : at + int(random.integers(1, 200))]
    return bytes(data)


def tangled(value, random):
    """JSON data with one value, anywhere, replaced or removed."""
    if isinstance(value, dict | list) and value and random.random() < 0.8:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = keys[int(random.integers(len(keys)))]
        copy = value.copy()
        copy[key] = tangled(value[key], random)
        if random.random() < 0.1:
            del copy[key]
        return copy
    return NASTY[int(random.integers(len(NASTY)))]


def read_all(uri):
    """Read the scene at `uri` and decode every pixel of it."""
    config = ReaderConfig()
    (ref,) = open_dataset(str(uri), config)
    scene = load_scene(ref, config)
    for issue in scene.issues:
        assert issue.frame
        assert issue.message.isprintable(), issue.message
    for frame in scene.frames:
        for decode, arguments in ((decode_image, (frame.image, frame.camera)), (decode_depth, (frame.depth,))):
            if arguments[0]:
                reads_or_refuses(decode, *arguments)


def reads_or_refuses(function, *arguments):
    """Call; a FrameError must say what to do."""
    try:
        function(*arguments)
    except FrameError as error:
        assert error.reason
        assert error.remedy


def survives(function, *arguments, names=""):
    """Whatever happens is an answer of ours, in time."""
    start = time.perf_counter()
    try:
        function(*arguments)
    except Lift3DError as error:
        assert error.remedy, error
        assert names in str(error)
        assert len(str(error)) < 2_000
    assert time.perf_counter() - start < SECONDS


@pytest.mark.parametrize("seed", range(80))
def test_sens(make, tmp_path, seed):
    random = np.random.default_rng(seed)
    data = make.sens_bytes(make.make_views(2, seed), depth_codec=seed % 2)
    header_only = seed % 4 < 3  # most of the file is pixels
    data = damaged(data[:430], random) + data[430:] if header_only else damaged(data, random)
    (tmp_path / f"{SCENE}.sens").write_bytes(data)
    survives(read_all, tmp_path / f"{SCENE}.sens", names=SCENE)


@pytest.mark.parametrize("seed", range(80))
def test_transforms(make, tmp_path, seed):
    random = np.random.default_rng(seed)
    views = make.make_views(2, seed)
    root = make.write_transforms(tmp_path / SCENE, views)
    optional = {"applied_transform": np.eye(4)[:3].tolist(), "applied_scale": 1.0, "camera_model": "PINHOLE", "k1": 0}
    text = json.dumps(tangled({**make.transforms_of(views), **optional}, random))
    (root / "transforms.json").write_bytes(damaged(text.encode(), random) if seed % 4 == 0 else text.encode())
    survives(read_all, root, names=SCENE)


@pytest.mark.parametrize("seed", range(60))
def test_exported_scenes(make, tmp_path, seed):
    random = np.random.default_rng(seed)
    root = make.write_scannet(tmp_path / SCENE, make.make_views(2, seed), suffix=(".jpg", ".png")[seed % 2])
    files = sorted(path for path in root.rglob("*") if path.is_file())
    for file in random.choice(files, 3):
        if file.suffix == ".txt":
            words = file.read_text().split()
            words[int(random.integers(len(words)))] = WORDS[int(random.integers(len(WORDS)))]
            file.write_text(" ".join(words[: int(random.choice([4, 15, 16]))]))
        else:
            file.write_bytes(damaged(file.read_bytes(), random))
    survives(read_all, root, names=SCENE)


@pytest.mark.parametrize("seed", range(40))
def test_pictures(make, tmp_path, seed):
    random = np.random.default_rng(seed)
    view = make.make_views(1, seed).frames[0]
    camera = Camera(np.eye(3), np.eye(4), *make.color_size)
    for picture, suffix in ((view.image, ".jpg"), (view.image, ".png"), (view.depth_mm, ".png"), (view.label, ".png")):
        data = make.encode(picture, suffix)
        (tmp_path / "file").write_bytes(damaged(data[:60], random) + data[60:])
        asset = Asset(str(tmp_path / "file"))
        for function, arguments in ((decode_image, (asset, camera)), (decode_depth, (asset,)), (decode_ids, (asset,))):
            survives(function, *arguments)


@pytest.mark.parametrize("seed", range(40))
def test_configs(seed):
    random = np.random.default_rng(seed)
    sound = LabelingConfig(source="a", store="b").model_dump(mode="json")
    survives(parse_config, tangled(sound, random))
    path = random.choice(known_paths())
    setting = [f"{path}={json.dumps(tangled({}, random))}", f"{path}.x=1", f"{path}x=1", f"{path}={'[' * 9999}", path]
    for text in setting:
        survives(lambda s: parse_config(override(dict(sound), [s])), text)
