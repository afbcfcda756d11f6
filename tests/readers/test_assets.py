"""Bytes and pixels: exact where they are sound, refused where they are not, and never more memory than they deserve."""

import struct
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.assets import absolute, decode_depth, decode_ids, decode_image, filesystem, join, read_bytes, read_size
from pipeline.picture import PictureError, check_complete, read_header
from schemas.camera import Camera
from schemas.errors import ConfigError, FrameError, Reason
from schemas.scene import Asset

RANDOM = np.random.default_rng(0)
PICTURE = cv2.resize(RANDOM.integers(0, 256, (5, 7, 3), np.uint8), (40, 30))
CAMERA = Camera(np.eye(3), np.eye(4), 30, 40)
FILES = {suffix: cv2.imencode(suffix, PICTURE)[1].tobytes() for suffix in (".jpg", ".png")}
FILES["progressive"] = cv2.imencode(".jpg", PICTURE, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(height, width, bits, color, rows, palette=b""):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0))
    palette = chunk(b"PLTE", palette) if palette else b""
    return b"\x89PNG\r\n\x1a\n" + header + palette + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def with_exif(jpeg, orientation):
    """The JPEG with an EXIF rotation."""
    tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01" + struct.pack(">HHI", orientation, 0, 0)
    body = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


@pytest.fixture
def asset(tmp_path):
    """Writes bytes to a file and returns its asset."""

    def write(data, **details):
        (tmp_path / "file").write_bytes(data)
        return Asset(str(tmp_path / "file"), **details)

    return write


def reason_of(function, *arguments):
    with pytest.raises(FrameError) as caught:
        function(*arguments)
    assert caught.value.remedy
    return caught.value.reason


@pytest.mark.parametrize("kind", FILES)
def test_images_decode_to_rgb(asset, kind):
    image = decode_image(asset(FILES[kind]), CAMERA)
    assert image.shape == (30, 40, 3)
    assert image.dtype == np.uint8
    assert np.abs(image[..., ::-1].astype(int) - PICTURE).mean() < (1 if kind == ".png" else 6)
    assert read_size(asset(FILES[kind])) == (30, 40)


def test_an_image_is_taken_as_stored_whatever_its_exif_says(asset):
    rotated = with_exif(FILES[".jpg"], orientation=6)
    assert cv2.imdecode(np.frombuffer(rotated, np.uint8), 1).shape == (40, 30, 3)
    assert decode_image(asset(rotated), CAMERA).shape == (30, 40, 3)


@pytest.mark.parametrize("kind", FILES)
def test_no_truncated_picture_passes(kind):
    data = FILES[kind]
    assert check_complete(data + b"trailing")
    for length in range(len(data)):
        with pytest.raises(PictureError):
            check_complete(data[:length])


def test_a_download_that_ends_in_zeros_is_truncated():
    data = FILES[".jpg"]
    with pytest.raises(PictureError, match="ends early"):
        check_complete(data[: len(data) // 2] + bytes(len(data) // 2))


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_every_damaged_byte_of_a_png_is_found(data):
    damaged = bytearray(FILES[".png"])
    position = data.draw(st.integers(0, len(damaged) - 1))
    damaged[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(PictureError):
        check_complete(bytes(damaged))


@pytest.mark.parametrize("side", [0, 10_001, 2**31])
def test_a_picture_is_refused_for_its_header_before_it_is_decoded(asset, side):
    bomb = png(side, side, 16, 0, bytes(1000))
    assert reason_of(decode_image, asset(bomb), CAMERA) is Reason.IMAGE_UNREADABLE
    assert reason_of(decode_depth, asset(bomb)) is Reason.DEPTH_UNREADABLE
    assert reason_of(decode_ids, asset(bomb)) is Reason.LABEL_UNREADABLE
    assert reason_of(read_size, asset(bomb)) is Reason.IMAGE_UNREADABLE


@given(st.binary(max_size=200), st.sampled_from([b"", b"\xff\xd8", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n"]))
def test_headers_of_arbitrary_bytes_are_read_or_refused(body, start):
    try:
        header = read_header(start + body)
    except PictureError:
        return
    assert 0 < header.height * header.width <= 100_000_000


def test_an_image_of_another_size_names_both_sizes(asset):
    with pytest.raises(FrameError, match="40x30, expected 20x10") as caught:
        decode_image(asset(FILES[".jpg"]), Camera(np.eye(3), np.eye(4), 10, 20))
    assert caught.value.reason is Reason.IMAGE_SIZE_MISMATCH


def test_what_is_missing_and_what_is_no_picture_are_told_apart(asset, tmp_path):
    nothing = Asset(str(tmp_path / "nothing"))
    assert reason_of(decode_image, nothing, CAMERA) is Reason.IMAGE_MISSING
    assert reason_of(decode_depth, nothing) is Reason.DEPTH_MISSING
    assert reason_of(decode_ids, nothing) is Reason.LABEL_UNREADABLE
    assert reason_of(decode_image, Asset(str(tmp_path)), CAMERA) is Reason.IMAGE_MISSING
    for data in (b"", b"GIF89a", b"RIFF0000WEBP"):
        assert reason_of(decode_image, asset(data), CAMERA) is Reason.IMAGE_UNREADABLE
    assert reason_of(read_bytes, Asset("a\0b")) is Reason.IMAGE_UNREADABLE


def test_rows_that_are_missing_inside_a_sound_png_are_found(asset):
    assert reason_of(decode_depth, asset(png(30, 40, 16, 0, bytes(20 * 81)))) is Reason.DEPTH_UNREADABLE


DEPTH = RANDOM.integers(0, 65536, (30, 40), np.uint16)


def test_depth_is_exact_in_all_three_codings(asset):
    samples = DEPTH.astype("<u2").tobytes()
    codings = {
        "image": cv2.imencode(".png", DEPTH)[1].tobytes(),
        "raw_u16": samples,
        "zlib_u16": zlib.compress(samples),
    }
    for codec, data in codings.items():
        stored = asset(
            b"before" + data + b"after", codec=codec, offset=6, length=len(data), shape=(30, 40), scale=1000.0
        )
        depth = decode_depth(stored)
        assert depth.dtype == np.float32
        np.testing.assert_allclose(depth, DEPTH / 1000.0, rtol=1e-6)


def test_depth_of_the_wrong_size_or_format_is_refused(asset):
    data = cv2.imencode(".png", DEPTH)[1].tobytes()
    assert reason_of(decode_depth, asset(data, shape=(30, 41))) is Reason.DEPTH_SIZE_MISMATCH
    assert reason_of(decode_depth, asset(FILES[".png"])) is Reason.DEPTH_UNREADABLE
    eight_bits = cv2.imencode(".png", DEPTH.astype(np.uint8))[1].tobytes()
    assert reason_of(decode_depth, asset(eight_bits)) is Reason.DEPTH_UNREADABLE


@pytest.mark.parametrize("scale", [1e-40, 1e-300, 1e300, -1000.0, float("nan")])
def test_depth_whose_unit_makes_no_sense_is_refused(asset, scale):
    """Such steps overflow, or are divided by what is 0 in single precision."""
    data = cv2.imencode(".png", DEPTH)[1].tobytes()
    assert reason_of(decode_depth, asset(data, scale=scale)) is Reason.DEPTH_UNREADABLE


@pytest.mark.parametrize(
    "data",
    [
        zlib.compress(bytes(2398)),
        zlib.compress(bytes(2402)),
        zlib.compress(bytes(2400))[:-1],
        zlib.compress(bytes(2400))[:10],
        b"no zlib",
        b"",
    ],
    ids=["short", "long", "no-checksum", "cut", "garbage", "empty"],
)
def test_zlib_depth_that_does_not_fit_is_refused(asset, data):
    assert reason_of(decode_depth, asset(data, codec="zlib_u16", shape=(30, 40))) is Reason.DEPTH_UNREADABLE
    assert reason_of(decode_depth, asset(data, codec="raw_u16", shape=(30, 40))) is Reason.DEPTH_UNREADABLE


def test_a_zlib_bomb_is_not_inflated(asset):
    bomb = asset(zlib.compress(bytes(40_000_000)), codec="zlib_u16", shape=(30, 40))
    tracemalloc.start()
    try:
        assert reason_of(decode_depth, bomb) is Reason.DEPTH_UNREADABLE
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", [None, (0, 5), (-3, -4), (20_000, 20_000)])
def test_bare_samples_need_a_decent_size(asset, shape):
    assert reason_of(decode_depth, asset(b"1234", codec="raw_u16", shape=shape)) is Reason.DEPTH_UNREADABLE


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_ids_keep_their_values(asset, dtype):
    ids = (np.arange(1200).reshape(30, 40) % np.iinfo(dtype).max).astype(dtype)
    found = decode_ids(asset(cv2.imencode(".png", ids)[1].tobytes()))
    assert found.dtype == np.uint16
    assert np.array_equal(found, ids)


def test_ids_of_a_paletted_png_are_indices_not_colours(asset):
    indices = np.arange(1200, dtype=np.uint8).reshape(30, 40) % 40
    rows = b"".join(b"\0" + row.tobytes() for row in indices)
    found = decode_ids(asset(png(30, 40, 8, 3, rows, bytes(range(120)))))
    assert np.array_equal(found, indices)


def test_colours_are_not_ids(asset):
    assert reason_of(decode_ids, asset(FILES[".png"])) is Reason.LABEL_UNREADABLE


def test_a_range_beyond_the_file_is_not_read_short(asset):
    assert read_bytes(asset(b"0123456789", offset=2, length=3)) == b"234"
    assert reason_of(read_bytes, asset(b"0123456789", offset=8, length=3)) is Reason.IMAGE_UNREADABLE


def test_addresses_join_and_become_absolute(tmp_path, monkeypatch):
    assert join("s3://bucket/a/", "b", "c.png") == "s3://bucket/a/b/c.png"
    assert join("memory://", "b") == "memory://b"
    assert join("/", "b") == "/b"
    monkeypatch.chdir(tmp_path)
    assert absolute("data/") == str(tmp_path / "data")
    assert absolute(f"file://{tmp_path}/data") == str(tmp_path / "data")
    assert absolute("memory://data/") == "memory://data"


@pytest.mark.parametrize("uri", ["nothing://bucket/key", "s4://bucket"])
def test_an_unknown_protocol_is_a_config_error(uri):
    with pytest.raises(ConfigError, match="local path or an fsspec URI"):
        filesystem(uri)
