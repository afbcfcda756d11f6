"""`lift3d compact`: the many label files of a scene and operator become few, with the same rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from pipeline.care.access import exclusive, open_store, operators_in
from pipeline.store.files import Files
from pipeline.store.markers import Marker, make_marker, read_markers
from pipeline.store.parquet import MOST_ROWS, parse_metadata, read_label_file, to_bytes
from pipeline.store.paths import COMMITS, LABELS, STAGING, Shelf, chunk_of, label_stem
from pipeline.store.switch import switch_scene
from schemas.errors import StoreError

MOST_BYTES = 256 * 2**20
"""Size up to which files are merged: what a reader can hold in memory without a thought."""


@dataclass(frozen=True, slots=True)
class Compacted:
    """What a compaction did.

    Attributes:
        shelves: operator and scene pairs whose files were merged.
        files_before, files_after: label files of the operators concerned.
        frames: rows that were rewritten.
    """

    shelves: int
    files_before: int
    files_after: int
    frames: int


def compact(uri: str, operator: str | None = None, scene: str | None = None, most_bytes: int = MOST_BYTES) -> Compacted:
    """Merge the label files of each scene and operator. Rows and fingerprints stay, old files go to `_history/`.

    Args:
        uri: the store.
        operator: only this operator (slug or SPEC); scene: only this scene.
        most_bytes: of a merged file, about.

    A compaction that was killed has changed nothing, or is finished by whoever works on the store next. Raises
    `LeaseError` where a run is at work, and `StoreError`.
    """
    files = open_store(uri)
    slugs = operators_in(files, operator)
    merged: dict[Shelf, list[Marker]] = {}
    with exclusive(uri, slugs, "compact"):
        live = {shelf: found for shelf, found in read_markers(files, COMMITS).items() if shelf.slug in slugs}
        for shelf in (shelf for shelf in sorted(live) if scene in (None, shelf.scene)):
            groups = list(_groups(files, shelf, live[shelf], most_bytes))
            if groups:
                merged[shelf] = [_merge(files, shelf, group) for group in groups]
                switch_scene(files, shelf, live[shelf], merged[shelf])
        after = read_markers(files, COMMITS)
    return Compacted(
        shelves=len(merged),
        files_before=sum(map(len, live.values())),
        files_after=sum(len(after[shelf]) for shelf in live),
        frames=sum(marker.rows for made in merged.values() for marker in made),
    )


def _groups(files: Files, shelf: Shelf, markers: Sequence[Marker], most_bytes: int) -> Iterator[list[Marker]]:
    """Files that can become one: of equal metadata, in the dataset's order, two or more, not too large together."""
    alike: dict[str, list[Marker]] = {}
    if len(markers) < 2:
        return
    for marker in sorted(markers, key=lambda marker: marker.stem):
        alike.setdefault(_metadata(files, shelf, marker), []).append(marker)
    for found in alike.values():
        group: list[Marker] = []
        for marker in found:
            if group and not _fits([*group, marker], most_bytes):
                if len(group) > 1:
                    yield group
                group = []
            group.append(marker)
        if len(group) > 1:
            yield group


def _fits(markers: Sequence[Marker], most_bytes: int) -> bool:
    return sum(m.bytes for m in markers) <= most_bytes and sum(m.rows for m in markers) <= MOST_ROWS


def _metadata(files: Files, shelf: Shelf, marker: Marker) -> str:
    """What a file says about its rows; files that say different things are not merged."""
    import pyarrow.parquet as pq

    place = shelf.label(LABELS, marker.stem)
    schema = pq.read_schema(pa.BufferReader(_content(files, place, shelf)))
    return parse_metadata(schema, place).model_dump_json()


def _content(files: Files, place: str, shelf: Shelf) -> bytes:
    data = files.get(place)
    if data is None:
        raise StoreError(f"{place} has a marker but is gone", scene=shelf.scene, remedy="run `lift3d label` again")
    return data


def _merge(files: Files, shelf: Shelf, markers: Sequence[Marker]) -> Marker:
    """Stage one file with the rows of several."""
    places = [shelf.label(LABELS, marker.stem) for marker in markers]
    tables = [read_label_file(_content(files, place, shelf), place)[0] for place in places]
    table = pa.concat_tables(tables).combine_chunks()
    frames = [item for marker in markers for item in marker.frames.items()]
    stem = label_stem(chunk_of(markers[0].stem), frames)
    data = to_bytes(table)
    target = shelf.label(STAGING, stem)
    if not read_label_file(data, target)[0].equals(table, check_metadata=True):
        raise StoreError("merged rows do not read back as they were", scene=shelf.scene, remedy="report this")
    files.put(target, data)
    newest = max(markers, key=lambda marker: marker.age)
    parts = {frame: part for marker in markers for frame, part in marker.parts.items()}
    return make_marker(stem, frames, data, newest.run_id, newest.created_at, parts)
