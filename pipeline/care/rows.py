"""One row of a store as plain values, with the file that it is in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pipeline.store.files import Files
from pipeline.store.parquet import read_label_file
from schemas.store import BLOB_COLUMNS, StoreMetadata


def find_row(
    files: Files, paths: Iterable[str], frame: str, *, blobs: bool = False
) -> tuple[str, dict[str, Any], StoreMetadata] | None:
    """Path, row and metadata of a frame's label; None where none of the label files has it.

    Args:
        files, paths: which label files, relative to the store.
        frame: the frame's id.
        blobs: with pictures and tensors.

    `created_at` is ISO text. Raises `StoreError` for a damaged file.
    """
    for path in paths:
        data = files.get(path)
        if data is None:
            continue
        table, metadata = read_label_file(data, path)
        names = table.column("frame").to_pylist()
        if frame in names:
            table = table if blobs else table.drop_columns(list(BLOB_COLUMNS))
            (row,) = table.slice(names.index(frame), 1).to_pylist()
            return path, {**row, "created_at": row["created_at"].isoformat()}, metadata
    return None
