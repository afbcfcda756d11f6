"""What a JPEG or PNG says about itself, read before a codec sees it.

OpenCV decodes a JPEG that ends in the middle to a half-grey picture without a word, and allocates whatever
size a header claims. Both are settled here, on the bytes, in microseconds: a small file cannot ask for much memory.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

MAX_PIXELS = 100_000_000
"""Larger pictures are refused before they are decoded."""
ALLOWANCE = 192 * 2**20
"""Bytes that decoding any file may take."""
FACTOR = 4
"""Further bytes that decoding may take for each byte of the file."""
DECODED = 6.25
"""Bytes a pixel that decoding takes at its peak, measured: OpenCV copies its result once."""

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PALETTE = 3
_JPEG_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
"""JPEG markers of a frame header, which holds the size."""
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD9)})
"""JPEG markers without a length."""
_JPEG_SCAN = 0xDA
_JPEG_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


class PictureError(ValueError):
    """Bytes that are no sound JPEG or PNG; the message says what was expected and found."""


@dataclass(frozen=True, slots=True)
class PictureHeader:
    """Size and pixel format of a picture.

    Attributes:
        height, width: in pixels.
        bits: bits a channel.
        channels: 1 where pixels are grey or index a palette.
        is_png: PNG, else JPEG.
        is_paletted: pixels index a palette (PNG only).
        length: bytes up to the first pixel data (JPEG: the first scan).
        coefficients: bytes a pixel that a decoder holds besides the pixels (progressive JPEG).
    """

    height: int
    width: int
    bits: int
    channels: int
    is_png: bool
    is_paletted: bool
    length: int
    coefficients: float = 0.0


def read_header(data: bytes) -> PictureHeader:
    """Parse the head of a JPEG or PNG; `data` may end anywhere after its size.

    Raises PictureError where it is neither, ends before its size or has more than `MAX_PIXELS` pixels.
    """
    if data.startswith(_PNG_SIGNATURE):
        header = _png_header(data)
    elif data.startswith(b"\xff\xd8"):
        header = _jpeg_header(data)
    else:
        raise PictureError(f"expected a JPEG or PNG, found {len(data)} bytes that start with {data[:4]!r}")
    pixels = header.height * header.width
    if not 0 < pixels <= MAX_PIXELS:
        raise PictureError(
            f"its header claims {header.width} x {header.height} pixels, 1 to {MAX_PIXELS:,} are accepted"
        )
    return header


def check_complete(data: bytes) -> PictureHeader:
    """`read_header`, and that the picture is whole: a JPEG has its end marker, a PNG sound chunks to the last."""
    header = read_header(data)
    a_pixel = max(DECODED, DECODED / 2 + header.coefficients)
    check_affordable(header.height, header.width, len(data), a_pixel)
    if header.is_png:
        _check_png_chunks(data)
    elif data.find(b"\xff\xd9", header.length) < 0:
        raise PictureError(f"the JPEG ends early: no end marker in its {len(data)} bytes")
    return header


def check_affordable(height: int, width: int, size: int, a_pixel: float = DECODED) -> None:
    """Raise PictureError where decoding a file of `size` bytes would take more than `ALLOWANCE` + `FACTOR` * size."""
    most = ALLOWANCE + FACTOR * size
    if height * width * a_pixel > most:
        needed = height * width * a_pixel
        raise PictureError(
            f"{width} x {height} pixels in {size:,} bytes would take {needed / 2**20:,.0f} MB to decode, "
            f"at most {most / 2**20:,.0f} MB are given to a file of that size: resize the picture"
        )


def _png_header(data: bytes) -> PictureHeader:
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise PictureError(f"a PNG without a header in its first {len(data)} bytes")
    width, height, bits, color = struct.unpack(">IIBB", data[16:26])
    if color not in _PNG_CHANNELS:
        raise PictureError(f"a PNG of colour type {color}, expected one of {sorted(_PNG_CHANNELS)}")
    channels = _PNG_CHANNELS[color]
    return PictureHeader(height, width, bits, channels, is_png=True, is_paletted=color == _PALETTE, length=33)


def _jpeg_header(data: bytes) -> PictureHeader:
    """Walk the segments to the frame header, and on to the first scan where `data` reaches that far."""
    size: tuple[int, int, int, int] | None = None
    coefficients, position = 0.0, 2
    while position + 4 <= len(data):
        lead, marker, length = struct.unpack_from(">BBH", data, position)
        if lead != 0xFF:
            break
        if marker == 0xFF or marker in _JPEG_BARE:
            position += 1 if marker == 0xFF else 2
            continue
        if marker in _JPEG_FRAMES and position + 10 <= len(data):
            bits, height, width, channels = struct.unpack_from(">BHHB", data, position + 4)
            size = (height, width, bits, channels)
            coefficients = _coefficients(data[position + 10 :], channels) if marker in _JPEG_PROGRESSIVE else 0.0
        position += 2 + length
        if marker == _JPEG_SCAN:
            break
    if size is None:
        raise PictureError(f"a JPEG without a size in its first {len(data)} bytes")
    length = min(position, len(data))
    return PictureHeader(*size, is_png=False, is_paletted=False, length=length, coefficients=coefficients)


def _coefficients(components: bytes, count: int) -> float:
    """Bytes a pixel of the coefficients of a whole picture, two each, by the components' sampling factors."""
    factors = [components[i] for i in range(1, min(3 * count, len(components)), 3)]
    blocks = [(factor >> 4) * (factor & 15) for factor in factors]
    return 2.0 * sum(blocks) / max((1, *blocks))


def _check_png_chunks(data: bytes) -> None:
    position = len(_PNG_SIGNATURE)
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            break
        (stored,) = struct.unpack_from(">I", data, end - 4)
        if zlib.crc32(memoryview(data)[position + 4 : end - 4]) != stored:
            raise PictureError(f"the PNG is damaged: wrong checksum of its {kind!r} chunk at byte {position}")
        if kind == b"IEND":
            return
        position = end
    raise PictureError(f"the PNG ends early: no end chunk in its {len(data)} bytes")
