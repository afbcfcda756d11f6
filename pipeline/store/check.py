"""Everything that must hold in a label file, row by row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.store.codec import decode_confidence, decode_payload
from pipeline.store.markers import Marker, make_marker
from pipeline.store.parquet import newer_version, read_label_file
from pipeline.store.paths import Shelf, operator_slug
from schemas.errors import StoreError
from schemas.store import SCHEMA_VERSION, StoreMetadata
from schemas.text import presentable

_AGAIN = "label the frame again"
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong in a store.

    Attributes:
        path: the file, relative to the store.
        frame: the frame's id, where one is concerned.
        message: what was expected and what was found.
        remedy: what to do.
    """

    path: str
    frame: str | None
    message: str
    remedy: str


def check_file(data: bytes, path: str, shelf: Shelf) -> tuple[dict[str, str], list[Problem]]:
    """Fingerprints by frame of a label file's content, and everything that is wrong with it."""
    try:
        table, metadata = read_label_file(data, path)
    except StoreError as error:
        return {}, [Problem(path, None, error.message, error.remedy)]
    rows: list[dict[str, Any]] = table.drop_columns("created_at").to_pylist()
    wrong = _file_problems(table, metadata, shelf)
    problems = [Problem(path, None, presentable(message), remedy) for message, remedy in wrong]
    for row in rows:
        found = map(presentable, _row_problems(row, metadata))
        problems += [Problem(path, str(row["frame"]), message, _AGAIN) for message in found]
    return {str(row["frame"]): str(row["fingerprint"]) for row in rows}, problems


def adopt(data: bytes, path: str, shelf: Shelf, stem: str) -> Marker | None:
    """The marker of a label file that has none, or None where the file is damaged or not one of ours."""
    frames, problems = check_file(data, path, shelf)
    if problems:
        return None
    table, _ = read_label_file(data, path)
    stamp = table.column("created_at")[0].as_py()
    return make_marker(stem, frames.items(), data, table.column("run_id")[0].as_py(), stamp)


def _file_problems(table: pa.Table, metadata: StoreMetadata, shelf: Shelf) -> Iterator[tuple[str, str]]:
    frames = table.column("frame").to_pylist()
    if not frames:
        yield "the file has no rows", "delete it"
    if len(set(frames)) != len(frames):
        yield "a frame is in the file twice", "delete the file and label its frames again"
    if metadata.scene != shelf.scene or operator_slug(metadata.operator) != shelf.slug:
        yield (
            f"the file holds scene {metadata.scene!r} by {metadata.operator!r}, its folder is for another one",
            "move it to where it belongs",
        )
    try:
        stamps: list[datetime] = table.column("created_at").to_pylist()
    except (ValueError, OverflowError):
        stamps = []
    if len(stamps) != len(frames) or None in stamps:
        yield "created_at is not a time", "label its frames again"


def _row_problems(row: dict[str, Any], metadata: StoreMetadata) -> Iterator[str]:
    if row["kind"] != metadata.kind:
        yield f"kind is {row['kind']!r}, the file's is {metadata.kind!r}"
    version = row["schema_version"]
    if version is None or not 1 <= version <= SCHEMA_VERSION:
        yield newer_version("the row", version).message
    for name in ("frame", "fingerprint", "run_id"):
        if not row[name]:
            yield f"{name} is empty"
    for name in ("consistency", "changed"):
        if row[name] is not None and not -_ROUNDING <= row[name] <= 1 + _ROUNDING:
            yield f"{name} is {row[name]}, it is a share"
    if row["sources"] is None or None in row["sources"]:
        yield "sources has an empty name"
    for name, length in (("K", 9), ("world_from_cam", 16)):
        values = row[name] or []
        if len(values) != length or None in values or not np.isfinite(values).all():
            yield f"{name} is not {length} finite numbers"
    yield from _payload_problems(row, metadata)


def _payload_problems(row: dict[str, Any], metadata: StoreMetadata) -> Iterator[str]:
    try:
        value = decode_payload(row)
        confidence = decode_confidence(row)
    except StoreError as error:
        yield error.message
        return
    stored = row["mean_confidence"]
    mean = float(np.mean(confidence, dtype=np.float64))
    # Halving keeps the mean, rounding to 8 bits moves it by up to half a step.
    if stored is None or not abs(stored - mean) <= 1 / 255:
        yield f"mean_confidence is {stored}, the stored confidence's is {mean:.4f}"
    if row["kind"] == "classes":
        yield from _class_problems(row, metadata, value)


def _class_problems(row: dict[str, Any], metadata: StoreMetadata, label: np.ndarray) -> Iterator[str]:
    ids, counts = np.unique(label, return_counts=True)
    if row["class_ids"] != ids.tolist() or row["class_px"] != counts.tolist():
        yield f"class_ids and class_px ({row['class_ids']}, {row['class_px']}) do not count the label map's pixels"
    if metadata.label_set is None:
        return
    unknown = sorted(set(ids.tolist()) - {*metadata.label_set.ids, metadata.label_set.ignore_id})
    if unknown:
        yield f"class ids {unknown} are not in the label set {metadata.label_set.name!r}"
