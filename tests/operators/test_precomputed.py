"""Predictions from files: exact ids in, exact ids out, and a clear word about every file that does not fit."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import fsspec
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.operators import build_operator
from pipeline.operators.contract import check_decoded, check_encoded
from pipeline.operators.prediction_files import UnreadableError, decode_ids, decode_map, resize_nearest
from pipeline.predicting import class_ids, class_indices
from schemas.errors import ConfigError, ContractError, FrameError, OperatorError, Reason
from schemas.label_sets import label_set

NYU40 = {"label_set": "nyu40"}


def write_ids(folder: Path, ids: np.ndarray, frame: str = "0", scene: str = "room") -> Path:
    path = folder / scene / f"{frame}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), ids)
    return path


def write_map(folder: Path, array: np.ndarray, frame: str = "0") -> Path:
    path = folder / "room" / f"{frame}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_ids_survive_encode_and_decode(tmp_path: Path, make_batch: Any, dtype: type) -> None:
    ids = np.random.default_rng(0).integers(0, 41, (10, 18)).astype(dtype)
    write_ids(tmp_path, ids, "images/0001")
    operator = build_operator(f"precomputed:{tmp_path}", NYU40)
    batch = make_batch((1, 10, 18), ("images/0001",))
    features = operator.encode(batch)
    check_encoded(operator, features, batch)
    scores = operator.decode(features, (10, 18))
    check_decoded(operator, scores, (10, 18), 1)
    assert operator.label_set is not None
    found = np.array(operator.label_set.ids)[scores[0].argmax(0).numpy()]
    assert np.array_equal(np.where(scores[0].sum(0).numpy() > 0, found, 0), ids)
    assert set(scores.unique().tolist()) == {0.0, 1.0}


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 9999), st.sampled_from(["nyu40", "scannet20", "ade20k"]), st.sampled_from([np.uint8, np.uint16]))
def test_indices_are_those_of_the_best_score(
    tmp_path_factory: pytest.TempPathFactory, make_batch: Any, seed: int, name: str, dtype: type
) -> None:
    """Of files of any size, with holes."""
    rng, labels = np.random.default_rng(seed), label_set(name)
    folder, size = tmp_path_factory.mktemp("ids"), tuple(rng.integers(1, 15, 2))
    write_ids(folder, rng.choice([*labels.ids, labels.ignore_id], size).astype(dtype))
    operator, batch = build_operator(f"precomputed:{folder}", {"label_set": name}), make_batch((1, 9, 14))
    said = class_indices(operator, batch)
    assert said is not None
    assert torch.equal(said[0], class_ids(operator.decode(operator.encode(batch), (9, 14))[0]))


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12), st.integers(1, 12))
def test_nearest_resize_takes_the_pixel_under_the_centre(h: int, w: int, height: int, width: int) -> None:
    picture = np.arange(h * w).reshape(h, w)
    resized = resize_nearest(picture, (height, width))
    rows = np.floor((np.arange(height) + 0.5) * h / height).astype(int)
    columns = np.floor((np.arange(width) + 0.5) * w / width).astype(int)
    assert np.array_equal(resized, picture[np.ix_(rows, columns)])


def test_predictions_may_be_smaller_than_the_image(tmp_path: Path, make_batch: Any) -> None:
    write_ids(tmp_path, np.array([[1, 2]], np.uint8))
    operator = build_operator(f"precomputed:{tmp_path}", NYU40)
    scores = operator.encode(make_batch((1, 4, 6)))
    assert scores[0, 0, :, :3].eq(1).all() and scores[0, 1, :, 3:].eq(1).all() and scores.sum() == 24


def test_a_stride_averages_one_hot_maps_over_cells(tmp_path: Path, make_batch: Any) -> None:
    write_ids(tmp_path, np.array([[1, 1, 2, 0], [1, 2, 0, 0]], np.uint8))
    operator = build_operator(f"precomputed:{tmp_path}", {**NYU40, "stride": 2})
    batch = make_batch((1, 2, 4))
    assert class_indices(operator, batch) is None
    features = operator.encode(batch)
    check_encoded(operator, features, batch)
    assert features[0, :2, 0].tolist() == [[0.75, 0.0], [0.25, 0.25]]
    check_decoded(operator, operator.decode(features, (2, 4)), (2, 4), 1)


def test_paletted_pngs_mean_their_indices(tmp_path: Path) -> None:
    ids = np.array([[0, 3], [7, 39]], np.uint8)
    picture = Image.fromarray(ids).convert("L")
    paletted = Image.frombytes("P", picture.size, picture.tobytes())
    paletted.putpalette([9, 8, 7] * 256)
    stream = io.BytesIO()
    paletted.save(stream, "PNG")
    assert np.array_equal(decode_ids(stream.getvalue()), ids)


def test_ids_outside_the_label_set_name_file_ids_and_set(tmp_path: Path, make_batch: Any) -> None:
    path = write_ids(tmp_path, np.array([[1, 41], [99, 2]], np.uint8))
    operator = build_operator(f"precomputed:{tmp_path}", NYU40)
    with pytest.raises(ContractError) as caught:
        operator.encode(make_batch((1, 2, 2)))
    assert all(text in str(caught.value) for text in (str(path), "[41, 99]", "'nyu40'", "scene 'room', frame '0'"))


@pytest.mark.parametrize("frame", ["9", "../other/0", "/etc/passwd", "a//b", "..", "a\\b"])
def test_frames_without_a_file_inside_the_folder_are_missing(tmp_path: Path, make_batch: Any, frame: str) -> None:
    write_ids(tmp_path, np.ones((2, 2), np.uint8))
    write_ids(tmp_path, np.ones((2, 2), np.uint8), scene="other")
    operator = build_operator(f"precomputed:{tmp_path}", NYU40)
    with pytest.raises(FrameError) as caught:
        operator.encode(make_batch((1, 2, 2), (frame,)))
    assert (caught.value.reason, caught.value.scene, caught.value.frame) == (Reason.PREDICTION_MISSING, "room", frame)


def bomb() -> bytes:
    header = struct.pack(">IIBBBBB", 200_000, 200_000, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    return b"\x89PNG\r\n\x1a\n" + chunk + b"\0" * 64


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "expected a JPEG or PNG"),
        (b"GIF89a" + b"\0" * 99, "expected a JPEG or PNG"),
        (cv2.imencode(".jpg", np.zeros((4, 4), np.uint8))[1].tobytes(), "JPEG changes"),
        (bomb(), "200000 x 200000"),
        (cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes(), "3 colour channels"),
        (cv2.imencode(".png", np.ones((64, 64), np.uint8))[1].tobytes()[:60], "ends early"),
    ],
)
def test_unreadable_pngs_say_why(tmp_path: Path, make_batch: Any, data: bytes, says: str) -> None:
    write_ids(tmp_path, np.ones((2, 2), np.uint8)).write_bytes(data)
    operator = build_operator(f"precomputed:{tmp_path}", NYU40)
    with pytest.raises(FrameError, match=says) as caught:
        operator.encode(make_batch((1, 2, 2)))
    assert caught.value.reason is Reason.PREDICTION_UNREADABLE


def npy(array: np.ndarray, cut: int = 0) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()[: -cut or None]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (npy(np.zeros((2, 3))), r"shape \[2, 3\]"),
        (npy(np.zeros((2, 3, 4)), cut=8), "promises 192"),
        (npy(np.array([[[None]]], object)), "expected float or integer"),
        (npy(np.zeros((1, 1, 1), complex)), "expected float or integer"),
        (npy(np.zeros((2, 0, 4))), "shape"),
        (npy(np.zeros((1, 1, 1))).replace(b"(1, 1, 1)", b"(9**9,1,)"), "readable"),
        (b"\x93NUMPY", "readable"),
        (b"PK\x03\x04", "readable"),
    ],
)
def test_unreadable_arrays_say_why(data: bytes, says: str) -> None:
    with pytest.raises(UnreadableError, match=says):
        decode_map(data)


def test_feature_maps_pass_through(tmp_path: Path, make_batch: Any) -> None:
    array = np.random.default_rng(1).normal(size=(7, 3, 5)).astype(np.float16)
    write_map(tmp_path, array)
    operator = build_operator(f"precomputed:{tmp_path}", {"stride": 4})
    batch = make_batch((1, 10, 18))
    features = operator.encode(batch)
    check_encoded(operator, features, batch)
    assert operator.kind == "features"
    assert torch.equal(operator.decode(features, (10, 18))[0], torch.from_numpy(array).float())


@pytest.mark.parametrize(("kind", "channels"), [("classes", 40), ("image", 3), ("scalar", 1)])
def test_maps_of_the_other_kinds_are_upsampled(tmp_path: Path, make_batch: Any, kind: str, channels: int) -> None:
    write_map(tmp_path, np.full((channels, 3, 5), 0.5, np.float32))
    kwargs = {"kind": kind, "stride": 4, **(NYU40 if kind == "classes" else {})}
    operator = build_operator(f"precomputed:{tmp_path}", kwargs)
    check_decoded(operator, operator.decode(operator.encode(make_batch((1, 10, 18))), (10, 18)), (10, 18), 1)


def test_maps_with_other_channels_break_the_contract(tmp_path: Path, make_batch: Any) -> None:
    write_map(tmp_path, np.zeros((39, 2, 2), np.float32))
    with pytest.raises(ContractError, match="39 channels, expected 40"):
        build_operator(f"precomputed:{tmp_path}", NYU40).encode(make_batch((1, 2, 2)))


def test_rgb_pictures_lift_as_images(tmp_path: Path, make_batch: Any) -> None:
    bgr = np.zeros((4, 6, 3), np.uint8)
    bgr[..., 2] = 255
    write_ids(tmp_path, bgr)
    operator = build_operator(f"precomputed:{tmp_path}", {"kind": "image"})
    assert operator.encode(make_batch((1, 4, 6)))[0, :, 0, 0].tolist() == [1.0, 0.0, 0.0]


def test_settings_that_do_not_fit_the_files(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"scene\}/\{frame\}.png"):
        build_operator(f"precomputed:{tmp_path}/absent", NYU40)
    write_ids(tmp_path, np.ones((2, 2), np.uint8))
    with pytest.raises(ConfigError, match="nyu40"):
        build_operator(f"precomputed:{tmp_path}")
    with pytest.raises(ConfigError, match="known: .*nyu40"):
        build_operator(f"precomputed:{tmp_path}", {"label_set": "nyu"})
    with pytest.raises(ConfigError, match="classes, image"):
        build_operator(f"precomputed:{tmp_path}", {"kind": "scalar"})
    with pytest.raises(ConfigError, match="no meaning"):
        build_operator(f"precomputed:{tmp_path}", {"kind": "image", **NYU40})
    write_map(tmp_path, np.ones((2, 2, 2)))
    with pytest.raises(ConfigError, match=r"\.png and \.npy"):
        build_operator(f"precomputed:{tmp_path}", NYU40)


def test_the_fingerprint_follows_content_and_settings(tmp_path: Path) -> None:
    def fingerprint(**kwargs: object) -> str:
        return build_operator(f"precomputed:{tmp_path}", {**NYU40, **kwargs}).fingerprint()

    write_ids(tmp_path, np.ones((2, 2), np.uint8))
    first = fingerprint()
    assert first == fingerprint() != fingerprint(stride=2)
    path = write_ids(tmp_path, np.full((2, 2), 2, np.uint8))
    assert path.stat().st_size > 0 and fingerprint() != first
    write_ids(tmp_path, np.ones((2, 2), np.uint8))
    assert fingerprint() == first
    write_ids(tmp_path, np.ones((2, 2), np.uint8), frame="1")
    assert fingerprint() != first


def test_the_folder_may_be_remote(make_batch: Any) -> None:
    fs = fsspec.filesystem("memory")
    fs.pipe_file("/precomputed/room/0.png", cv2.imencode(".png", np.full((2, 2), 5, np.uint8))[1].tobytes())
    operator = build_operator("precomputed:memory://precomputed", NYU40)
    assert operator.encode(make_batch((1, 2, 2)))[0, 4].eq(1).all()
    assert operator.fingerprint().startswith("precomputed:")
