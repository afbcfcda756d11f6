"""Bytes and pixels of assets, from any fsspec file system. Nothing is trusted: sizes before decoding, whole or refused.

Remote data: `s3://bucket/dataset` needs `pip install 'lift3d-labeling[s3]'`; keys, region and an own server
(MinIO, Ceph, ...) come from the usual environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_DEFAULT_REGION,
AWS_ENDPOINT_URL) or from fsspec's configuration (FSSPEC_S3_ENDPOINT_URL, ~/.config/fsspec/*.json).
"""

from __future__ import annotations

import math
import re
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.picture import MAX_PIXELS, PictureError, PictureHeader, check_affordable, check_complete, read_header
from schemas.camera import Camera
from schemas.errors import ConfigError, FrameError, Reason
from schemas.scene import Asset

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_IN_ADDRESS = re.compile(r"(?:.*::)?(?:s3a?|gcs?|gs|r2)://[^/@]*:(?!\d+/)[^@]*@|(?:.*::)?s3a?://[^/@]+@")
MOST_STEPS = 1e12
"""Depth steps that a unit may have at most, and a step units: beyond, depths are no finite numbers, or all zero."""
HEAD_BYTES = 64 * 1024
"""Read of a picture to learn its size; enough for all but pictures with large colour profiles in front."""


@dataclass(frozen=True, slots=True)
class _Use:
    """What an asset is for: the noun of messages and the codes of failures."""

    noun: str
    missing: Reason
    unreadable: Reason


_IMAGE = _Use("image", Reason.IMAGE_MISSING, Reason.IMAGE_UNREADABLE)
_DEPTH = _Use("depth map", Reason.DEPTH_MISSING, Reason.DEPTH_UNREADABLE)
_LABEL = _Use("label map", Reason.LABEL_UNREADABLE, Reason.LABEL_UNREADABLE)


def filesystem(uri: str) -> tuple[AbstractFileSystem, str]:
    """The file system of a local path or fsspec URI, and the path in it (absolute, where it is local).

    Raises ConfigError for a protocol that is not known or whose package is not installed, and for credentials in the
    address of an object store, which has no place for them.
    """
    from fsspec.core import url_to_fs

    if _IN_ADDRESS.match(uri):
        raise ConfigError(
            f"{uri!r} has credentials in it",
            remedy="object stores take them from the environment (AWS_ACCESS_KEY_ID, ...), which nothing writes down",
        )
    try:
        fs, path = url_to_fs(uri)
    except (ImportError, ValueError, OSError) as error:
        raise ConfigError(
            f"{uri!r} cannot be opened: {error}",
            remedy="expected a local path or an fsspec URI; s3:// needs pip install 'lift3d-labeling[s3]'",
        ) from None
    return fs, path


def join(uri: str, *parts: str) -> str:
    """`uri` with path segments appended."""
    base = uri if uri.endswith("://") else uri.rstrip("/") + "/"
    return base + "/".join(part.strip("/") for part in parts)


def absolute(uri: str) -> str:
    """`uri` as workers with another working directory understand it; no trailing slash."""
    fs, path = filesystem(uri)
    return path if _is_local(fs) else uri.rstrip("/")


def local_path(uri: str) -> str | None:
    """The path of something on this machine, None where it is elsewhere."""
    if "://" not in uri and "::" not in uri:
        return uri
    fs, path = filesystem(uri)
    return path if _is_local(fs) else None


def storage_errors() -> tuple[type[Exception], ...]:
    """What reading can raise: OSError, ValueError (a name no file system takes), the roots of remote clients in use."""
    clients = (
        ("botocore.exceptions", "BotoCoreError"),
        ("botocore.exceptions", "ClientError"),
        ("aiohttp", "ClientError"),
    )
    return (OSError, ValueError, *(getattr(sys.modules[name], root) for name, root in clients if name in sys.modules))


def read_bytes(asset: Asset) -> bytes:
    """The asset's bytes. Raises FrameError (image_missing, image_unreadable)."""
    return _read(asset, _IMAGE)


def read_many(uris: Sequence[str]) -> list[bytes | Exception]:
    """Many small files at once (in parallel, where they are remote); an exception stands for a file that failed."""
    if not uris:
        return []
    fs, _ = filesystem(uris[0])
    paths = [fs._strip_protocol(uri) for uri in uris]
    return list(fs.cat_ranges(paths, None, None, on_error="return"))


def read_size(asset: Asset) -> tuple[int, int]:
    """(height, width) of a JPEG or PNG from its first bytes. Raises FrameError (image_missing, image_unreadable)."""
    head = _read(asset, _IMAGE, HEAD_BYTES)
    try:
        header = read_header(head)
    except PictureError:
        header = _checked(read_header, _read(asset, _IMAGE), _IMAGE, asset)
    return header.height, header.width


def decode_image(asset: Asset, camera: Camera) -> NDArray[np.uint8]:
    """RGB of a JPEG or PNG as stored (EXIF rotation is not applied): [H, W, 3] of the camera's size.

    Raises FrameError (image_missing, image_unreadable, image_size_mismatch).
    """
    import cv2

    data = _read(asset, _IMAGE)
    header = _checked(check_complete, data, _IMAGE, asset)
    if (header.height, header.width) != (camera.height, camera.width):
        raise FrameError(
            Reason.IMAGE_SIZE_MISMATCH,
            f"image {asset.uri} is {header.width}x{header.height}, expected {camera.width}x{camera.height}",
            remedy="all images of a camera must have the size that its intrinsics are for",
        )
    picture = _decode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION, _IMAGE, asset)
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)  # as large as what `_decode` held


def decode_depth(asset: Asset) -> NDArray[np.float32]:
    """Depth along the optical axis in scene units, 0 where unknown: [H, W].

    16-bit PNG or bare little-endian samples; `asset.shape`, where set, is the size that it must have.
    Raises FrameError (depth_missing, depth_unreadable, depth_size_mismatch).
    """
    data = _read(asset, _DEPTH)
    samples = _depth_png(data, asset) if asset.codec == "image" else _bare_samples(data, asset)
    if asset.shape and samples.shape != asset.shape:
        found, expected = ("x".join(map(str, shape[::-1])) for shape in (samples.shape, asset.shape))
        raise FrameError(
            Reason.DEPTH_SIZE_MISMATCH,
            f"depth map {asset.uri} is {found}, expected {expected}",
            remedy="all depth maps of a scene must have the size that its depth intrinsics are for",
        )
    if not 1 / MOST_STEPS <= asset.scale <= MOST_STEPS:
        raise FrameError(
            Reason.DEPTH_UNREADABLE,
            f"depth map {asset.uri} has {asset.scale:g} steps a unit, expected about 1000 for metres",
            remedy="correct the depth scale in the dataset's header or transforms.json",
        )
    depth = samples.astype(np.float32)
    depth /= np.float32(asset.scale)
    return depth


def decode_ids(asset: Asset) -> NDArray[np.uint16]:
    """Class ids of a one-channel PNG of 8 or 16 bits, or palette indices of a paletted one: [H, W].

    Raises FrameError (label_unreadable).
    """
    import cv2

    data = _read(asset, _LABEL)
    header = _checked(check_complete, data, _LABEL, asset)
    if header.is_paletted:
        return _palette_indices(data, asset)
    _check_one_channel(header, (8, 16), _LABEL, asset)
    picture = _decode(data, cv2.IMREAD_UNCHANGED, _LABEL, asset)
    _check_grey(picture, _LABEL, asset)
    return picture.astype(np.uint16)


def _is_local(fs: AbstractFileSystem) -> bool:
    protocols = (fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol
    return "file" in protocols


def _read(asset: Asset, use: _Use, at_most: int | None = None) -> bytes:
    length = asset.size if asset.length is None else asset.length  # a known end saves object stores a request
    if at_most is not None:
        length = at_most if length is None else min(length, at_most)
    end = None if length is None else asset.offset + length
    fs, path = filesystem(asset.uri)
    try:
        data: bytes = fs.cat_file(path, start=asset.offset or None, end=end)
    except (FileNotFoundError, IsADirectoryError):
        raise FrameError(
            use.missing, f"{use.noun} {asset.uri} does not exist", remedy="restore the file or remove the frame"
        ) from None
    except storage_errors() as error:
        raise FrameError(
            use.unreadable, f"{use.noun} {asset.uri} cannot be read: {error}", remedy="check access to the file"
        ) from None
    if asset.length is not None and at_most is None and len(data) != asset.length:
        raise _damaged(use, asset, f"{len(data)} bytes from byte {asset.offset}, expected {asset.length}")
    return data


def _damaged(use: _Use, asset: Asset, problem: object) -> FrameError:
    return FrameError(
        use.unreadable, f"{use.noun} {asset.uri} is not readable: {problem}", remedy="export or copy the file again"
    )


def _checked(check: Callable[[bytes], PictureHeader], data: bytes, use: _Use, asset: Asset) -> PictureHeader:
    try:
        return check(data)
    except PictureError as error:
        raise _damaged(use, asset, error) from None


def _decode(data: bytes, flags: int, use: _Use, asset: Asset) -> NDArray[Any]:
    import cv2

    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise _damaged(use, asset, error.err) from None
    if picture is None:
        raise _damaged(use, asset, "its pixel data are damaged")
    return picture


def _check_one_channel(header: PictureHeader, bits: tuple[int, ...], use: _Use, asset: Asset) -> None:
    if header.channels != 1 or header.is_paletted or header.bits not in bits:
        found = "a palette" if header.is_paletted else f"{header.channels} channel(s)"
        expected = " or ".join(map(str, bits))
        raise _damaged(use, asset, f"{found} of {header.bits} bits, expected one channel of {expected} bits")


def _check_grey(picture: NDArray[Any], use: _Use, asset: Asset) -> None:
    """A chunk of a PNG may turn one channel into several."""
    if picture.ndim != 2:
        raise _damaged(use, asset, f"its one channel decodes to {picture.shape[2]}")


def _depth_png(data: bytes, asset: Asset) -> NDArray[Any]:
    import cv2

    header = _checked(check_complete, data, _DEPTH, asset)
    _check_one_channel(header, (16,), _DEPTH, asset)
    picture = _decode(data, cv2.IMREAD_UNCHANGED, _DEPTH, asset)
    _check_grey(picture, _DEPTH, asset)
    return picture


def _bare_samples(data: bytes, asset: Asset) -> NDArray[Any]:
    """Samples without a header; never inflates more than `asset.shape` holds."""
    shape = asset.shape or (0, 0)
    if not 0 < math.prod(shape) <= MAX_PIXELS:
        raise _damaged(_DEPTH, asset, f"its size is given as {shape[1]} x {shape[0]} pixels")
    try:
        check_affordable(*shape, len(data))
    except PictureError as error:
        raise _damaged(_DEPTH, asset, error) from None
    expected = 2 * math.prod(shape)
    if asset.codec == "zlib_u16":
        data = _inflate(data, expected, asset)
    if len(data) != expected:
        raise _damaged(_DEPTH, asset, f"{len(data)} bytes of samples, expected {expected}")
    return np.frombuffer(data, "<u2").reshape(shape)


def _inflate(data: bytes, expected: int, asset: Asset) -> bytes:
    stream = zlib.decompressobj()
    try:
        samples = stream.decompress(data, expected + 1)  # one more than fits, so that the stream's end is reached
    except zlib.error as error:
        raise _damaged(_DEPTH, asset, error) from None
    if len(samples) == expected and not stream.eof:
        raise _damaged(_DEPTH, asset, "its zlib stream ends early")
    return samples


def _palette_indices(data: bytes, asset: Asset) -> NDArray[np.uint16]:
    """OpenCV would turn indices into colours."""
    import io

    from PIL import Image

    try:
        return np.asarray(Image.open(io.BytesIO(data)), np.uint16)
    except (OSError, SyntaxError, ValueError) as error:
        raise _damaged(_LABEL, asset, error) from None
