"""Frames that were not labelled, and why: one current row a frame, older ones in `_history/quarantine/`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

import pyarrow as pa

from pipeline.store.files import Files
from pipeline.store.parquet import read_table, to_bytes
from pipeline.store.paths import HISTORY, QUARANTINE, Shelf, parse
from schemas.errors import StoreError
from schemas.record import QuarantineRecord
from schemas.store import QUARANTINE_SCHEMA

_MOST_ATTEMPTS = 9999


@dataclass(frozen=True, slots=True)
class Batch:
    """The rows that one run wrote for a scene: the file's path, its run and its table."""

    shelf: Shelf
    path: str
    run_id: str
    created_at: datetime
    table: pa.Table

    @property
    def frames(self) -> list[str | None]:
        """Frame ids, None for the scene as such."""
        return list(self.table.column("frame").to_pylist())


def write_rows(files: Files, slug: str, records: Sequence[QuarantineRecord], run_id: str, created_at: datetime) -> None:
    """Add a file of rows to each scene concerned. Raises `StoreError`."""
    for scene in sorted({record.scene for record in records}):
        rows = [_row(record, run_id, created_at) for record in records if record.scene == scene]
        _put(files, Shelf(slug, scene), run_id, pa.Table.from_pylist(rows, schema=QUARANTINE_SCHEMA))


def tidy(files: Files, batches: Sequence[Batch], labelled: Collection[str | None] = ()) -> None:
    """Retire the rows of frames that are labelled now (None: of the scene as such), and all but a frame's newest row.

    `batches` are all of a scene's, oldest first.

    What stays of a file is written before the file is retired, so a kill loses no row. Raises `StoreError`.
    """
    seen = set(labelled)
    for batch in reversed(batches):
        keep = [frame not in seen for frame in batch.frames]
        seen.update(batch.frames)
        if all(keep):
            continue
        if any(keep):
            _put(files, batch.shelf, batch.run_id, batch.table.filter(pa.array(keep)).combine_chunks())
        files.move(batch.path, f"{HISTORY}/{batch.path}")


def read_rows(files: Files, slug: str | None = None, scene: str | None = None) -> list[tuple[Shelf, pa.Table]]:
    """Current rows by operator and scene. Raises `StoreError` for a damaged file."""
    part = f"/operator={slug}" if slug else ""
    places = (parse(path) for path in files.list(f"{QUARANTINE}{part}"))
    shelves = sorted({place[1] for place in places if place and scene in (None, place[1].scene)})
    return [(shelf, batch.table) for shelf in shelves for batch in read_batches(files, shelf)]


def read_batches(files: Files, shelf: Shelf) -> list[Batch]:
    """A scene's files, oldest first. Raises `StoreError` for a damaged one."""
    paths = [path for path in files.list(shelf.folder(QUARANTINE)) if path.endswith(".parquet")]
    batches = []
    for path, data in files.get_many(paths).items():
        table = _read(data, path)
        batches.append(
            Batch(shelf, path, table.column("run_id")[0].as_py(), table.column("created_at")[0].as_py(), table)
        )
    return sorted(batches, key=lambda batch: (batch.created_at, batch.path))


def _read(data: bytes, path: str) -> pa.Table:
    table = read_table(data, path)
    if not table.schema.equals(QUARANTINE_SCHEMA) or not len(table) or not _is_sound(table):
        raise StoreError(f"{path} is not a quarantine file", remedy="delete it: its frames are looked at again")
    return table


def _is_sound(table: pa.Table) -> bool:
    """Whether times are times and attempts are a count, and nothing is null that must not be."""
    try:
        stamps = table.column("created_at").to_pylist()
    except (ValueError, OverflowError):
        return False
    attempts = table.column("attempts").to_pylist()
    texts = [table.column(name) for name in ("stage", "reason", "message", "run_id")]
    counted = all(count is not None and 1 <= count <= _MOST_ATTEMPTS for count in attempts)
    return None not in stamps and counted and all(text for column in texts for text in column.to_pylist())


def _put(files: Files, shelf: Shelf, run_id: str, table: pa.Table) -> None:
    data = to_bytes(table)
    files.put(f"{shelf.folder(QUARANTINE)}/{run_id}-{sha256(data).hexdigest()[:12]}.parquet", data)


def _row(record: QuarantineRecord, run_id: str, created_at: datetime) -> dict[str, Any]:
    return {
        "frame": _printable(record.frame),
        "stage": record.stage,
        "reason": str(record.reason),
        "message": _printable(record.message),
        "attempts": record.attempts,
        "traceback_hash": record.traceback_hash,
        "run_id": run_id,
        "created_at": created_at,
    }


def _printable(text: str | None) -> str | None:
    """File names that are not Unicode reach quarantine too: their odd bytes are written as escapes."""
    return text and text.encode("utf-8", "backslashreplace").decode()
