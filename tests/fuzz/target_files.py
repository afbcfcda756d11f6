"""Single files: pictures, predictions, checkpoints, configuration."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from mutators import damage_bytes, damage_json, damage_png, damage_text, png_chunks, tangled
from targets import Target, load_helpers

from pipeline.assets import decode_depth, decode_ids, decode_image, read_size
from pipeline.operators.contract import check_encoded
from pipeline.operators.precomputed import Precomputed
from pipeline.readers.labels import ground_truth
from schemas.camera import Camera
from schemas.config import LabelingConfig, LiftConfig, ReaderConfig
from schemas.errors import Lift3DError
from schemas.scene import Asset, Frame, FrameBatch

make = load_helpers("readers")
HEIGHT, WIDTH = make.COLOR_SIZE
CAMERA = Camera(np.array([[30.0, 0, 16], [0, 30, 12], [0, 0, 1]]), np.eye(4), HEIGHT, WIDTH)


def image(folder: Path) -> Target:
    """A colour image, and its size read from the head alone."""
    view = make.make_views(1).frames[0]
    alpha = np.dstack([view.image, view.image[..., :1]])
    progressive = cv2.imencode(".jpg", view.image, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    pictures = [(view.image, ".png"), (view.image, ".jpg"), (alpha, ".png"), (view.label, ".png")]
    seeds = (*(make.encode(*picture) for picture in pictures), progressive)

    def run(data: bytes) -> None:
        asset = _written(folder / "image", data)
        stated = _answer(lambda: read_size(asset))
        pixels = decode_image(asset, CAMERA)
        assert pixels.shape == (HEIGHT, WIDTH, 3) and pixels.dtype == np.uint8, f"{pixels.shape} {pixels.dtype}"
        assert stated == (HEIGHT, WIDTH), f"decoded although its header says {stated}"

    return Target("image", seeds, damage_png, run)


def depth_png(folder: Path) -> Target:
    """A depth map as PNG, with and without a size that it must have."""
    depth = make.make_views(1).frames[0].depth_mm

    def run(data: bytes) -> None:
        free = _written(folder / "depth", data, scale=1000.0)
        bound = Asset(free.uri, scale=1000.0, shape=make.DEPTH_SIZE)
        _answer(lambda: _check_depth(decode_depth(free)))
        metres = decode_depth(bound)
        assert metres.shape == make.DEPTH_SIZE
        _check_depth(metres)

    return Target("depth_png", (make.encode(depth, ".png"), make.encode(depth // 9, ".png")), damage_png, run)


def label_png(folder: Path) -> Target:
    """Ground truth as PNG."""
    label = make.make_views(1).frames[0].label
    paletted = io.BytesIO()
    _paletted(label).save(paletted, "PNG")
    seeds = (make.encode(label, ".png"), make.encode(label.astype(np.uint8), ".png"), paletted.getvalue())

    def run(data: bytes) -> None:
        asset = _written(folder / "label", data)
        _answer(lambda: _check_ids(decode_ids(asset), data))
        ids = ground_truth(Frame("0", CAMERA, asset, label=asset), ReaderConfig())
        assert ids.ndim == 2 and ids.size and ids.max() <= 40, "ids that NYU40 does not have"

    return Target("label_png", seeds, damage_png, run)


def prediction_png(folder: Path) -> Target:
    """A precomputed label map."""
    label = make.make_views(1).frames[0].label
    seeds = (make.encode(label, ".png"), make.encode(label.astype(np.uint8)[:5, :7], ".png"))
    return Target("prediction_png", seeds, damage_png, _predicting(folder, ".png", seeds[0], label_set="nyu40"))


def prediction_npy(folder: Path) -> Target:
    """A precomputed feature map."""
    seeds = []
    for dtype in (np.float32, np.float16, np.uint8, np.int64):
        stream = io.BytesIO()
        np.save(stream, np.arange(4 * HEIGHT * WIDTH).reshape(4, HEIGHT, WIDTH).astype(dtype) % 50)
        seeds.append(stream.getvalue())

    def mutate(data: bytes, corpus: list[bytes], random: object) -> bytes:
        if random.random() < 0.5:
            return damage_bytes(data[:128], [data[:128]], random) + data[128:]
        if random.random() < 0.5:
            shape = tuple(
                random.choice((0, 1, 3, 4, -1, 24, 32, 2**20, 2**31, 2**62)) for _ in range(random.randint(0, 5))
            )
            kind = random.choice(
                ("<f4", "<f8", "|O", "<c16", "|S9", "<U4", "<m8[s]", "|V8", "<f2", "|b1", ">f4", "<f99")
            )
            header = repr({"descr": kind, "fortran_order": random.random() < 0.5, "shape": shape}).encode()
            return b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header + b"\n" + data[128:]
        return damage_bytes(data, corpus, random)

    return Target("prediction_npy", tuple(seeds), mutate, _predicting(folder, ".npy", seeds[0]))


def checkpoint(folder: Path) -> Target:
    """A checkpoint of the lift."""
    from lift3d_model.checkpoint import Checkpoint
    from lift3d_model.weighting import Weighting
    from pipeline.lift_weights import load_weights

    tensors = {f"weighting.{name}": value for name, value in Weighting().state_dict().items()}
    seed = Checkpoint(tensors, {"trained": True}).to_bytes()

    def mutate(data: bytes, corpus: list[bytes], random: object) -> bytes:
        length = int.from_bytes(data[:8], "little")
        if random.random() < 0.4 or length > len(data):
            return damage_bytes(data, corpus, random)
        header = damage_json(data[8 : 8 + length], corpus, random)
        return len(header).to_bytes(8, "little") + header + data[8 + length :]

    def run(data: bytes) -> None:
        address = _written(folder / "weights.safetensors", data).uri
        found, digest = load_weights(LiftConfig(weights=address))
        assert found is not None and digest and len(digest) == 64
        assert isinstance(found.config, dict), "settings that are no object"
        assert all(torch.isfinite(tensor).all() for tensor in found.tensors.values()), "weights with NaN"

    return Target("checkpoint", (seed,), mutate, run)


def config(folder: Path) -> Target:
    """A configuration file."""
    import json

    import yaml

    from jobs.settings import labeling_config
    from schemas.config import known_paths

    document = LabelingConfig(source="a", store="b").model_dump(mode="json")
    document["operator"]["kwargs"] = {"label_set": "nyu40", "stride": 2}
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{b}: &{b} [*{a},*{a},*{a},*{a},*{a},*{a},*{a}]\n" for a, b in zip("abcdefghi", "bcdefghij", strict=True)
    )
    texts = (json.dumps(document), yaml.safe_dump(document), "source: a\nstore: b\nlift: {near: 0.5, far: 9}\n")

    def mutate(data: bytes, corpus: list[bytes], random: object) -> bytes:
        action = random.random()
        if action < 0.02:
            return bomb.encode() + data
        if action < 0.35:
            return damage_text(data, corpus, random)
        try:
            found = json.loads(data)
        except ValueError:
            return damage_bytes(data, corpus, random)
        changed = tangled(found, random)
        if random.random() < 0.3:
            return damage_json(data, corpus, random)
        return (json.dumps(changed) if random.random() < 0.5 else yaml.safe_dump(changed)).encode("utf-8", "replace")

    def run(data: bytes) -> None:
        file = folder / "config.yaml"
        file.write_bytes(data)
        setting = [f"{known_paths()[len(data) % len(known_paths())]}={data[:60].decode('utf-8', 'replace')}"]
        _answer(lambda: labeling_config(file, setting, {}))
        found = labeling_config(file, None, {"source": "x", "store": "y"})
        assert LabelingConfig.model_validate_json(found.model_dump_json()) == found, (
            "a config that does not survive JSON"
        )
        assert found.lift.near is None or 0 < found.lift.near < (found.lift.far or np.inf)

    return Target("config", tuple(text.encode() for text in texts), mutate, run)


def _written(path: Path, data: bytes, **details: float) -> Asset:
    path.write_bytes(data)
    return Asset(str(path), **details)


def _answer(action: Callable[[], object]) -> object:
    """The action's value; None where it refuses with a remedy."""
    try:
        return action()
    except Lift3DError as error:
        assert error.remedy, f"no remedy: {error}"
        return None


def _check_depth(depth: np.ndarray) -> None:
    assert depth.ndim == 2 and depth.size and depth.dtype == np.float32
    assert np.isfinite(depth).all() and (depth >= 0).all()


def _check_ids(ids: np.ndarray, data: bytes) -> None:
    assert ids.ndim == 2 and ids.dtype == np.uint16
    if data.startswith(b"\x89PNG"):
        width, height = np.frombuffer(png_chunks(data)[0][1][:8], ">u4")
        assert ids.shape == (height, width), f"{ids.shape} from a header of {height} x {width}"


def _paletted(label: np.ndarray):
    from PIL import Image

    picture = Image.fromarray(label.astype(np.uint8), mode="P")
    picture.putpalette(list(range(256)) * 3)
    return picture


def _predicting(folder: Path, suffix: str, sound: bytes, **options: str) -> Callable[[bytes], None]:
    """Encode one frame by `precomputed`, as a run would."""
    (folder / "room").mkdir(parents=True)
    file = folder / "room" / f"0{suffix}"
    file.write_bytes(sound)
    operator = Precomputed(str(folder), **options)
    batch = FrameBatch(torch.zeros(1, 3, HEIGHT, WIDTH), "room", ("0",), (CAMERA,))

    def run(data: bytes) -> None:
        file.write_bytes(data)
        features = operator.encode(batch)
        check_encoded(operator, features, batch)
        assert torch.isfinite(features).all() and features.shape[-2:] == (HEIGHT, WIDTH)
        if options:
            assert ((features == 0) | (features == 1)).all() and (features.sum(1) <= 1).all(), "not one class a pixel"

    return run
