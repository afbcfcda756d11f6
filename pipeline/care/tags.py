"""`lift3d tag` and `lift3d rollback`: remember which files make the labels, and show those again later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from pipeline.care.access import exclusive, open_store, operators_in
from pipeline.store.check import adopt
from pipeline.store.files import Files
from pipeline.store.markers import Marker, read_markers
from pipeline.store.paths import COMMITS, HISTORY, STAGING, Shelf
from pipeline.store.switch import Switch, finish
from pipeline.store.tags import (
    Tag,
    TaggedFile,
    TaggedShelf,
    locate,
    missing_files,
    read_tag,
    read_tags,
    tag_names,
    tag_path,
)
from schemas.errors import StoreError


@dataclass(frozen=True, slots=True)
class Rollback:
    """What a rollback did.

    Attributes:
        tag: the tag's name.
        shelves: operator and scene pairs whose labels changed.
        unchanged: pairs that showed the tag's labels already.
        files_shown, files_retired: label files that became visible, and that ceased to be.
        frames: labels that are visible now.
    """

    tag: str
    shelves: int
    unchanged: int
    files_shown: int
    files_retired: int
    frames: int


def make_tag(uri: str, name: str) -> Tag:
    """Write down which files make the visible labels of all operators and scenes.

    Raises `LeaseError` where a run is at work, and `StoreError` for a name that is taken or none, and without labels.
    """
    files, path = open_store(uri), tag_path(name)
    with exclusive(uri, operators_in(files), "tag"):
        live = read_markers(files, COMMITS)
        if not live:
            raise StoreError(f"{uri} has no labels to tag", remedy="label something first")
        shelves = tuple(TaggedShelf(operator=s.slug, scene=s.scene, files=_files(live[s])) for s in sorted(live))
        tag = Tag(name=name, created_at=datetime.now(UTC), shelves=shelves).signed()
        if not files.create(path, tag.model_dump_json(indent=1).encode()):
            remedy = f"choose another name, or delete it: `lift3d tag STORE {name} --delete`"
            raise StoreError(f"{uri} has a tag {name!r} already", remedy=remedy)
    return tag


def list_tags(uri: str) -> list[Tag]:
    """All tags of a store, oldest first. Raises `StoreError`."""
    return sorted(read_tags(open_store(uri)), key=lambda tag: tag.created_at)


def delete_tag(uri: str, name: str) -> None:
    """Forget a tag, damaged or not; the labels that only it kept go with the next vacuum. Raises `StoreError`."""
    files = open_store(uri)
    if name not in tag_names(files):
        read_tag(files, name)
    files.delete(tag_path(name))


def rollback(uri: str, name: str, operator: str | None = None) -> Rollback:
    """Show the labels of a tag again, and nothing else; what is visible now is retired to `_history/`.

    Args:
        uri: the store.
        name: the tag.
        operator: only the labels of this operator (slug or SPEC).

    A rollback that was killed is completed by repeating it; scene by scene, labels are those of the tag or those of
    before. Raises `StoreError`, before anything changes, where files of the tag are gone, and `LeaseError` where a run
    is at work.
    """
    files = open_store(uri)
    tag, chosen = read_tag(files, name), set(operators_in(files, operator))
    slugs = chosen if operator else chosen | {shelf.operator for shelf in tag.shelves}
    with exclusive(uri, slugs, "rollback"):
        places = locate(files, tag, slugs=slugs)
        gone = [key for key, path in places.items() if path is None]
        if gone:
            raise missing_files(name, gone)
        live = {shelf: found for shelf, found in read_markers(files, COMMITS).items() if shelf.slug in slugs}
        wanted = {shelf: [file for s, file in places if s == shelf] for shelf in {*live, *(s for s, _ in places)}}
        switches = _prepare(files, wanted, live)
        for shelf, switch in switches.items():
            files.put(shelf.intent(), switch.model_dump_json(indent=1).encode())
            finish(files, shelf, switch)
    return Rollback(
        tag=name,
        shelves=len(switches),
        unchanged=len(wanted) - len(switches),
        files_shown=sum(len(switch.enter) for switch in switches.values()),
        files_retired=sum(len(switch.retire) for switch in switches.values()),
        frames=sum(file.rows for _, file in places),
    )


def _prepare(
    files: Files, wanted: Mapping[Shelf, Sequence[TaggedFile]], live: Mapping[Shelf, Sequence[Marker]]
) -> dict[Shelf, Switch]:
    """Stage what is not visible of the wanted files; the switches that show exactly those, of shelves that change."""
    switches = {}
    staged: list[str] = []
    try:
        for shelf in sorted(wanted):
            shown = {(marker.stem, marker.sha256) for marker in live.get(shelf, ())}
            target = {(file.stem, file.sha256) for file in wanted[shelf]}
            if shown != target:
                new = [file for file in wanted[shelf] if (file.stem, file.sha256) not in shown]
                staged += [shelf.label(STAGING, file.stem) for file in new]
                enter = tuple(_stage(files, shelf, file) for file in new)
                leaving = [m for m in live.get(shelf, ()) if (m.stem, m.sha256) not in target]
                retire = {m.stem: f"{m.stem}-{m.sha256[:12]}.parquet" for m in leaving}
                switches[shelf] = Switch(retire=retire, enter=enter, drop=())
    except StoreError:
        for path in staged:
            files.delete(path)
        raise
    return switches


def _files(markers: Sequence[Marker]) -> tuple[TaggedFile, ...]:
    return tuple(TaggedFile(stem=m.stem, sha256=m.sha256, bytes=m.bytes, rows=m.rows) for m in markers)


def _stage(files: Files, shelf: Shelf, file: TaggedFile) -> Marker:
    """Copy a retired file to where a switch takes it from. The original stays for the tag's sake."""
    place = f"{shelf.folder(HISTORY)}/{file.retired_name}"
    data = files.get(place) or b""
    marker = adopt(data, place, shelf, file.stem) if sha256(data).hexdigest() == file.sha256 else None
    if marker is None:
        raise StoreError(
            f"the old label file {place} is damaged", scene=shelf.scene, remedy="restore it from a copy of the store"
        )
    files.put(shelf.label(STAGING, file.stem), data)
    return marker
