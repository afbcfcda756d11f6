"""The label store's contract: Arrow columns, file-level metadata and their versions.

One schema for all kinds of prediction; what a kind does not use is null, so a mixed store reads in one call.
`scene` and `operator` come from the path (`labels/operator=<slug>/scene=<id>/`) and are no file columns.
"""

from __future__ import annotations

import json
from typing import Any, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, JsonValue

from schemas.label_sets import LabelSet

SCHEMA_VERSION = 1
METADATA_KEY = b"lift3d"

Kind = Literal["classes", "features", "image", "scalar"]

LABEL_SCHEMA = pa.schema(
    [
        pa.field("frame", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("label", pa.binary()),
        pa.field("features", pa.binary()),
        pa.field("image", pa.binary()),
        pa.field("scalar", pa.binary()),
        pa.field("channels", pa.int32()),
        pa.field("h", pa.int32()),
        pa.field("w", pa.int32()),
        pa.field("confidence", pa.binary()),
        pa.field("class_ids", pa.list_(pa.int32())),
        pa.field("class_px", pa.list_(pa.int64())),
        pa.field("mean_confidence", pa.float32()),
        pa.field("consistency", pa.float32()),
        pa.field("changed", pa.float32()),
        pa.field("K", pa.list_(pa.float64()), nullable=False),
        pa.field("world_from_cam", pa.list_(pa.float64()), nullable=False),
        pa.field("image_uri", pa.string(), nullable=False),
        pa.field("sources", pa.list_(pa.string()), nullable=False),
        pa.field("lift_mode", pa.string(), nullable=False),
        pa.field("model_sha256", pa.string()),
        pa.field("operator_fingerprint", pa.string(), nullable=False),
        pa.field("fingerprint", pa.string(), nullable=False),
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("created_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("schema_version", pa.int32(), nullable=False),
    ]
)
"""Columns of `labels/`. `lift_mode` is `<geometry>-<mode>`: depth-label, rgb-novel, ..., or none."""

BLOB_COLUMNS = ("label", "features", "image", "scalar", "confidence")
"""Columns that are already compressed: Parquet stores them as they are."""

QUARANTINE_SCHEMA = pa.schema(
    [
        pa.field("frame", pa.string()),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("message", pa.string(), nullable=False),
        pa.field("attempts", pa.int32(), nullable=False),
        pa.field("traceback_hash", pa.string()),
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("created_at", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)
"""Columns of `quarantine/`: one row a frame (or a whole scene, frame null) that was not labelled. As in `labels/`,
`scene` and `operator` come from the path."""


class StoreMetadata(BaseModel):
    """The JSON under the file-level metadata key `lift3d` of every label file."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    version: int = SCHEMA_VERSION
    """Version of this schema and of the columns."""
    scene: str
    """The scene, so that a file moved by hand is still identifiable."""
    operator: str
    """The operator's SPEC as the user wrote it."""
    kind: Kind
    """What the operator predicts."""
    label_set: LabelSet | None
    """Ids, names, colours and ignore id, where the kind is classes."""
    codecs: dict[str, str] = {
        "label": "png",
        "confidence": "png/uint8, value / 255, half resolution",
        "image": "png/rgb8",
        "features": "zstd/float16 [channels, h, w] row-major",
        "scalar": "zstd/float16 [height, width] row-major",
    }
    """How each binary column is encoded."""
    coordinate_frame: str = (
        "OpenCV camera axes (x right, y down, z forward), world_from_cam, dataset units, pixel centres at +0.5"
    )
    """Of `K` and `world_from_cam`."""
    provenance: dict[str, JsonValue] = {}
    """Code version, lift settings, model and operator fingerprints. Never paths, times or the run's id, so that
    equal labels make equal files."""

    def to_arrow(self) -> dict[bytes, bytes]:
        """Arrow schema metadata with this document, deterministic in its bytes."""
        return {METADATA_KEY: json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()}

    @classmethod
    def from_arrow(cls, metadata: dict[bytes, bytes] | None) -> StoreMetadata:
        """Inverse of `to_arrow`. Raises KeyError where the file is not ours, ValidationError where it is damaged."""
        return cls.model_validate_json((metadata or {})[METADATA_KEY])


def metadata_json_schema() -> dict[str, Any]:
    """The JSON schema of `StoreMetadata`, as published in `schemas/data/lift3d-metadata.schema.json`."""
    return StoreMetadata.model_json_schema()
