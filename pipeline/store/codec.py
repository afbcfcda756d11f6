"""Label records as rows and back: PNG for what is a picture, zstd float16 for what is a tensor.

H, W: the image's size. C, h, w: channels and grid of features. Every error names the frame.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.picture import PictureError, check_affordable, check_complete
from schemas.errors import StoreError
from schemas.label_sets import LabelSet
from schemas.record import LabelRecord
from schemas.store import SCHEMA_VERSION, Kind
from schemas.text import masked

_HALF_MAX = float(np.finfo(np.float16).max)
_PAYLOADS: dict[Kind, str] = {"classes": "label", "features": "features", "image": "image", "scalar": "scalar"}


class Row(Protocol):
    """A row of the store: a dict, or a pandas Series."""

    def __getitem__(self, name: str, /) -> Any:
        """A column's value."""
        ...


def encode_record(record: LabelRecord, label_set: LabelSet | None, run_id: str, created_at: datetime) -> dict[str, Any]:
    """A record as a row of LABEL_SCHEMA. Raises `StoreError` where its arrays are not what their kind says."""
    frame, camera = record.frame, record.frame.camera
    _check_text(record)
    _check_shapes(record)
    return {
        "frame": frame.id,
        "kind": record.kind,
        "height": camera.height,
        "width": camera.width,
        **_encode_payload(record, label_set),
        "confidence": _encode_confidence(record.confidence),
        "mean_confidence": float(np.mean(record.confidence, dtype=np.float64)),
        "consistency": record.consistency,
        "changed": record.changed,
        "K": camera.K.ravel().tolist(),
        "world_from_cam": camera.world_from_cam.ravel().tolist(),
        "image_uri": masked(frame.image.uri),
        "sources": list(record.sources),
        "lift_mode": record.lift_mode,
        "model_sha256": record.model_sha256,
        "operator_fingerprint": record.operator_fingerprint,
        "fingerprint": record.fingerprint,
        "run_id": run_id,
        "created_at": created_at,
        "schema_version": SCHEMA_VERSION,
    }


def decode_label_map(row: Row) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """[H, W] class ids of a row of kind classes, in the label set's ids. Raises `StoreError`."""
    return _decode_png(row, "label", (np.uint8, np.uint16))


def decode_image(row: Row) -> NDArray[np.uint8]:
    """[H, W, 3] RGB of a row of kind image. Raises `StoreError`."""
    return np.ascontiguousarray(_decode_png(row, "image", (np.uint8,), channels=3)[..., ::-1])


def decode_confidence(row: Row) -> NDArray[np.float32]:
    """[H, W] confidence in [0, 1]: a stored value stands for the 2x2 pixels that it averages. Raises `StoreError`."""
    stored = _decode_png(row, "confidence", (np.uint8,), halved=True)
    height, width = int(row["height"]), int(row["width"])
    full = stored.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
    return full.astype(np.float32) / np.float32(255)


def decode_features(row: Row) -> NDArray[np.float32]:
    """[C, h, w] features of a row of kind features (float16 precision). Raises `StoreError`."""
    return _decode_half(row, "features", ("channels", "h", "w"))


def decode_scalar(row: Row) -> NDArray[np.float32]:
    """[H, W] values of a row of kind scalar (float16 precision). Raises `StoreError`."""
    return _decode_half(row, "scalar", ("height", "width"))


def decode_payload(row: Row) -> NDArray[Any]:
    """What the row's kind predicts, by the decoder of that kind. Raises `StoreError`, for an unknown kind too."""
    decoders = {
        "classes": decode_label_map,
        "features": decode_features,
        "image": decode_image,
        "scalar": decode_scalar,
    }
    kind = _cell(row, "kind")
    if kind not in decoders:
        raise _bad_row(row, f"kind is {kind!r}, expected one of {', '.join(decoders)}")
    return decoders[kind](row)


def _check_text(record: LabelRecord) -> None:
    for text in (record.frame.id, record.frame.image.uri, *record.sources):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise StoreError(
                f"the name {text!a} is not valid Unicode", frame=ascii(record.frame.id)[1:-1], remedy="rename the file"
            ) from None


def _check_shapes(record: LabelRecord) -> None:
    size = (record.frame.camera.height, record.frame.camera.width)
    expected = {"classes": size, "scalar": size, "image": (*size, 3)}.get(record.kind)
    if expected is not None and record.value.shape != expected:
        raise _bad_record(record, f"the {record.kind} prediction is {record.value.shape}, expected {expected}")
    if record.kind == "features" and record.value.ndim != 3:
        raise _bad_record(record, f"the features are {record.value.shape}, expected [C, h, w]")
    if record.confidence.shape != size:
        raise _bad_record(record, f"the confidence is {record.confidence.shape}, expected {size}")
    if not (np.all(record.confidence >= 0) and np.all(record.confidence <= 1)):
        raise _bad_record(record, "the confidence leaves [0, 1] or is not a number")


def _encode_payload(record: LabelRecord, label_set: LabelSet | None) -> dict[str, Any]:
    value = record.value
    match record.kind:
        case "classes":
            low, high = int(value.min()), int(value.max())
            dtype = label_set.dtype if label_set else np.min_scalar_type(min(high, np.iinfo(np.uint16).max))
            if low < 0 or high > np.iinfo(dtype).max:
                raise _bad_record(record, f"class ids span {low}..{high}, the label set's are {dtype}")
            counts = np.bincount(value.ravel())
            ids = counts.nonzero()[0]
            label = _encode_png(value.astype(dtype))
            return {"label": label, "class_ids": ids.tolist(), "class_px": counts[ids].tolist()}
        case "image":
            if value.dtype != np.uint8:
                raise _bad_record(record, f"the image is {value.dtype}, expected uint8 RGB")
            return {"image": _encode_png(value[..., ::-1])}
        case "features":
            channels, h, w = value.shape
            return {"features": _encode_half(record), "channels": channels, "h": h, "w": w}
        case "scalar":
            return {"scalar": _encode_half(record)}


def _encode_confidence(confidence: NDArray[np.floating[Any]]) -> bytes:
    """[H, W] -> PNG uint8 [ceil(H / 2), ceil(W / 2)]: mean of each 2x2 cell (of the pixels it has at an odd edge),
    times 255, rounded half up."""
    height, width = confidence.shape
    even = np.pad(confidence.astype(np.float64), ((0, height % 2), (0, width % 2)), mode="edge")
    mean = (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4
    return _encode_png(np.floor(mean * 255 + 0.5).astype(np.uint8))


def _encode_half(record: LabelRecord) -> bytes:
    """zstd of float16 in row-major order; values beyond float16's range saturate."""
    if not np.isfinite(record.value).all():
        raise _bad_record(record, f"the {record.kind} prediction has NaN or infinite values")
    half = np.clip(record.value, -_HALF_MAX, _HALF_MAX).astype("<f2")
    data = bytes(pa.compress(np.ascontiguousarray(half).tobytes(), codec="zstd", asbytes=True))
    if not _is_affordable(half.shape, data):
        raise _bad_record(record, f"the {record.kind} of shape {half.shape} say too little for their size to be read")
    return data


def _encode_png(pixels: NDArray[Any]) -> bytes:
    import cv2

    return cv2.imencode(".png", pixels)[1].tobytes()


def _decode_png(
    row: Row, column: str, dtypes: tuple[type, ...], *, channels: int = 1, halved: bool = False
) -> NDArray[Any]:
    import cv2

    data = _blob(row, column)
    height, width = _sizes(row, ("height", "width"))
    size = ((height + 1) // 2, (width + 1) // 2) if halved else (height, width)
    # The header is read first: a damaged one must not make the decoder allocate gigabytes.
    try:
        header = check_complete(data)
    except PictureError as error:
        raise _bad_row(row, f"column {column!r} is not a readable PNG: {error}") from None
    if not header.is_png or (header.height, header.width) != size or header.channels != channels:
        raise _bad_row(row, f"column {column!r} is not a PNG of {size[1]}x{size[0]} pixels")
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    shape = size if channels == 1 else (*size, channels)
    if pixels is None or pixels.shape != shape or pixels.dtype.type not in dtypes:
        raise _bad_row(row, f"the PNG in column {column!r} is damaged")
    return pixels


def _decode_half(row: Row, column: str, shape_columns: tuple[str, ...]) -> NDArray[np.float32]:
    data = _blob(row, column)
    shape = _sizes(row, shape_columns)
    if not _is_affordable(shape, data) or _stated_size(data) != 2 * math.prod(shape):
        raise _bad_row(row, f"column {column!r} is not zstd of {shape} float16 values: its {len(data):,} bytes say so")
    try:
        raw = pa.decompress(data, decompressed_size=2 * math.prod(shape), codec="zstd", asbytes=True)
    except (OSError, OverflowError, MemoryError) as error:
        raise _bad_row(row, f"column {column!r} is not zstd of {shape} float16 values ({error})") from error
    return np.frombuffer(raw, "<f2").reshape(shape).astype(np.float32)


def _is_affordable(shape: tuple[int, ...], data: bytes) -> bool:
    """Whether so many values may be made of so few bytes."""
    try:
        check_affordable(math.prod(shape), 1, len(data))
    except PictureError:
        return False
    return True


def _stated_size(data: bytes) -> int | None:
    """Bytes that a zstd frame says it holds, None where it does not say or is none. Nothing is inflated."""
    data = data[:18].ljust(18, b"\0")
    if not data.startswith(b"\x28\xb5\x2f\xfd"):
        return None
    descriptor = data[4]
    single, width = bool(descriptor & 0x20), (0, 2, 4, 8)[descriptor >> 6]
    at = 5 + (not single) + (0, 1, 2, 4)[descriptor & 3]
    if width == 0:
        return data[at] if single else None
    return int.from_bytes(data[at : at + width], "little") + (256 if width == 2 else 0)


def _sizes(row: Row, columns: tuple[str, ...]) -> tuple[int, ...]:
    sizes = [_cell(row, column) for column in columns]
    if not all(size is not None and size == size and size > 0 for size in sizes):
        raise _bad_row(row, f"columns {', '.join(columns)} are {sizes}, expected sizes in pixels or cells")
    return tuple(int(size) for size in sizes)


def _blob(row: Row, column: str) -> bytes:
    data = _cell(row, column)
    if not isinstance(data, bytes | bytearray | memoryview):
        holds = next((kind for kind, payload in _PAYLOADS.items() if payload == column), None)
        expected = f", expected kind {holds}" if holds else ""
        raise _bad_row(row, f"column {column!r} is empty (the row's kind is {_name(row, 'kind')}{expected})")
    return bytes(data)


def _cell(row: Row, column: str) -> Any:
    try:
        return row[column]
    except KeyError:
        raise _bad_row(row, f"column {column!r} was not read", remedy=f"read it: columns=[..., {column!r}]") from None


def _bad_row(row: Row, message: str, remedy: str = "label the frame again") -> StoreError:
    names = {name: _name(row, name) for name in ("scene", "frame")}
    return StoreError(message, scene=names["scene"], frame=names["frame"], remedy=remedy)


def _name(row: Row, column: str) -> str | None:
    try:
        return str(row[column])
    except KeyError:
        return None


def _bad_record(record: LabelRecord, message: str) -> StoreError:
    return StoreError(message, frame=record.frame.id, remedy="the operator or the lift broke its contract")
