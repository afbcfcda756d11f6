"""Label files as bytes: equal rows make equal bytes, and reading checks everything that a file can get wrong."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from pipeline.picture import ALLOWANCE, FACTOR
from schemas.errors import StoreError
from schemas.store import BLOB_COLUMNS, LABEL_SCHEMA, SCHEMA_VERSION, StoreMetadata

ROW_GROUP = 64
"""Rows a row group: a look-up of one frame reads little, a scan of scalars reads few pages."""

MOST_ROWS = 100_000
"""Rows of a file that is read: a chunk as large as the longest scene that readers accept."""

_AGAIN = "delete it and label its frames again"
_REPEATED = ("kind", "lift_mode", "model_sha256", "operator_fingerprint", "run_id")


def to_bytes(table: pa.Table) -> bytes:
    """A table as a Parquet file, by fixed settings: blobs as they are, the rest zstd, page index and page checksums."""
    sink = pa.BufferOutputStream()
    names = [table.schema.field(i).name for i in range(table.num_columns)]
    pq.write_table(
        table,
        sink,
        row_group_size=ROW_GROUP,
        version="2.6",
        compression={_leaf(table.schema, name): "none" if name in BLOB_COLUMNS else "zstd" for name in names},
        use_dictionary=[name for name in _REPEATED if name in names],
        write_statistics=[_leaf(table.schema, name) for name in names if name not in BLOB_COLUMNS],
        write_page_index=True,
        write_page_checksum=True,
    )
    return sink.getvalue().to_pybytes()


def _leaf(schema: pa.Schema, name: str) -> str:
    return f"{name}.list.element" if pa.types.is_list(schema.field(name).type) else name


def label_file(rows: Sequence[dict[str, Any]], metadata: StoreMetadata) -> bytes:
    """Rows of LABEL_SCHEMA, with the file-level metadata, as a Parquet file."""
    return to_bytes(pa.Table.from_pylist(list(rows), schema=LABEL_SCHEMA.with_metadata(metadata.to_arrow())))


def read_table(data: bytes, place: str) -> pa.Table:
    """The table in a Parquet file, checksums and text verified. Raises `StoreError` that names `place`."""
    try:
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True, pre_buffer=False)
        check_footer(file.metadata, len(data), place)
        table = file.read(use_threads=False)
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        first_line = str(error).partition("\n")[0]
        raise StoreError(f"{place} is not a readable Parquet file: {first_line}", remedy=_AGAIN) from error
    return table


def check_footer(footer: pq.FileMetaData, size: int, place: str) -> None:
    """Raise `StoreError` where a file of `size` bytes claims more rows or bytes than a run writes or than fit in it."""
    claimed = sum(footer.row_group(i).total_byte_size for i in range(min(footer.num_row_groups, MOST_ROWS)))
    if not 0 <= claimed <= FACTOR * size + ALLOWANCE or footer.num_row_groups > max(1, footer.num_rows):
        raise StoreError(f"{place} claims {claimed:,} bytes of values in {size:,} bytes of file", remedy=_AGAIN)
    if footer.num_rows > MOST_ROWS:
        raise StoreError(f"{place} claims {footer.num_rows:,} rows, at most {MOST_ROWS:,} are read", remedy=_AGAIN)


def read_label_file(data: bytes, place: str) -> tuple[pa.Table, StoreMetadata]:
    """Rows and metadata of a label file. Raises `StoreError` for a damaged file, a foreign one, or a newer version."""
    table = read_table(data, place)
    metadata = parse_metadata(table.schema, place)
    if not table.schema.equals(LABEL_SCHEMA):
        odd = sorted(set(table.schema.names) ^ set(LABEL_SCHEMA.names)) or ["column types"]
        raise StoreError(f"{place} has not the columns of a label file: {', '.join(odd)}", remedy=_AGAIN)
    return table, metadata


def parse_metadata(schema: pa.Schema, place: str) -> StoreMetadata:
    """The `lift3d` document in a file's schema. Raises `StoreError` where it is absent, damaged or newer than us."""
    try:
        metadata = StoreMetadata.from_arrow(schema.metadata)
    except KeyError:
        raise StoreError(
            f"{place} has no 'lift3d' metadata, so it is not a label file", remedy="move it out of the store"
        ) from None
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise StoreError(
            f"{place} has damaged 'lift3d' metadata: {'.'.join(map(str, problem['loc']))} {problem['msg']}",
            remedy=_AGAIN,
        ) from error
    if metadata.version > SCHEMA_VERSION:
        raise newer_version(place, metadata.version)
    return metadata


def newer_version(place: str, found: int) -> StoreError:
    """The error for what a later version of this software wrote."""
    return StoreError(
        f"{place} has schema version {found}, this version of lift3d reads up to {SCHEMA_VERSION}",
        remedy="upgrade lift3d-labeling",
    )


def fingerprints_of(data: bytes, place: str) -> dict[str, str]:
    """Fingerprints by frame of a label file. Raises `StoreError`."""
    table, _ = read_label_file(data, place)
    return dict(zip(table.column("frame").to_pylist(), table.column("fingerprint").to_pylist(), strict=True))


def keep_frames(data: bytes, place: str, frames: Collection[str]) -> bytes:
    """The label file that holds only some of a label file's frames, in the same order. Raises `StoreError`."""
    table, _ = read_label_file(data, place)
    keep = pa.array([frame in frames for frame in table.column("frame").to_pylist()], pa.bool_())
    return to_bytes(table.filter(keep).combine_chunks())
