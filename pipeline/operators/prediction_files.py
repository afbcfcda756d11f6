"""Prediction files as arrays. They come from other programs: nothing in them is trusted or unpickled."""

from __future__ import annotations

import io
from tokenize import TokenError
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.picture import PictureError, PictureHeader, check_complete

Pixel = TypeVar("Pixel", bound=np.generic)


class UnreadableError(ValueError):
    """A file that is damaged, or is not what its name says. The message says what was expected and found."""


def decode_ids(data: bytes) -> NDArray[np.uint16]:
    """Class ids of a greyscale PNG of 8 or 16 bits, or the palette indices of a paletted one: [H, W]."""
    header = _check_png(data)
    channels, picture = header.channels, None
    if channels == 1:
        picture = _paletted(data) if header.is_paletted else _decode(data, cv2.IMREAD_UNCHANGED)
        channels = 1 if picture.ndim == 2 else picture.shape[2]  # a chunk may turn one channel into several
    if picture is None or channels != 1:
        raise UnreadableError(
            f"a picture with {channels} colour channels, expected class ids in one channel of 8 or 16 bits"
        )
    return picture.astype(np.uint16, copy=False)


def decode_rgb(data: bytes) -> NDArray[np.uint8]:
    """RGB of a PNG: [H, W, 3]."""
    _check_png(data)
    return cv2.cvtColor(_decode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def decode_map(data: bytes) -> NDArray[np.float32]:
    """A numeric [C, h, w] array of a .npy file, as float32."""
    stream = io.BytesIO(data)
    try:
        major, _ = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
        shape, columns_first, dtype = read_header(stream)
        _check_header(shape, dtype, len(data) - stream.tell())
    except UnreadableError:
        raise
    except (ValueError, EOFError, RecursionError, TokenError) as error:  # the last: numpy's repair of Python 2 headers
        raise UnreadableError(f"not a readable .npy file ({str(error)[:200]})") from None
    array = np.frombuffer(data, dtype, offset=stream.tell()).reshape(shape, order="F" if columns_first else "C")
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused as such
        return np.array(array, np.float32, order="C")


def resize_nearest(picture: NDArray[Pixel], size: tuple[int, int]) -> NDArray[Pixel]:
    """Nearest neighbour of [h, w, ...] at `size` = (H, W), pixel centres at +0.5."""
    rows, columns = (
        np.minimum(((np.arange(new) + 0.5) * old / new).astype(np.intp), old - 1)
        for new, old in zip(size, picture.shape[:2], strict=True)
    )
    return picture if picture.shape[:2] == size else picture[rows[:, None], columns]


def _check_png(data: bytes) -> PictureHeader:
    """The header of a whole PNG of decent size."""
    try:
        header = check_complete(data)
    except PictureError as error:
        raise UnreadableError(str(error)) from None
    if not header.is_png:
        raise UnreadableError("a JPEG, expected a PNG: JPEG changes the values that it stores")
    return header


def _decode(data: bytes, flags: int) -> NDArray[Any]:
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise UnreadableError(f"damaged PNG ({error.err})") from None
    if picture is None:
        raise UnreadableError("damaged PNG")
    return picture


def _paletted(data: bytes) -> NDArray[Any]:
    """Palette indices: OpenCV would turn them into colours."""
    from PIL import Image

    try:
        return np.asarray(Image.open(io.BytesIO(data)))
    except (OSError, SyntaxError, ValueError) as error:
        raise UnreadableError(f"damaged PNG ({error})") from None


def _check_header(shape: tuple[int, ...], dtype: np.dtype[Any], available: int) -> None:
    if len(shape) != 3 or min(shape) < 1:
        raise UnreadableError(f"an array of shape {list(shape)}, expected [C, h, w]")
    if dtype.kind not in "fiu":
        raise UnreadableError(f"an array of {dtype}, expected float or integer numbers")
    needed = int(np.prod([int(n) for n in shape], dtype=object)) * dtype.itemsize
    if needed != available:
        raise UnreadableError(f"{available} bytes of data, its header promises {needed}")
