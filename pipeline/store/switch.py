"""Replacing labels of a scene: old versions to `_history/`, staged ones to `labels/`, at no moment a frame twice.

A switch is first written down (the intent), then carried out in steps that may be repeated, so a killed one is
finished by whoever opens the store next.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from pipeline.store.files import Files
from pipeline.store.markers import REBUILT, Marker, PathName, format_marker, make_marker
from pipeline.store.parquet import fingerprints_of, keep_frames
from pipeline.store.paths import COMMITS, HISTORY, LABELS, STAGING, Shelf, chunk_of, label_stem
from schemas.errors import StoreError


class Switch(BaseModel):
    """The intent: what moves where."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    retire: dict[PathName, PathName]
    """Stem of each label file that leaves `labels/`, and its file name in `_history/`."""
    enter: tuple[Marker, ...]
    """Staged files that become visible."""
    drop: tuple[PathName, ...]
    """Stems of staged files that nobody wants any more."""

    @model_validator(mode="after")
    def _names_are_those_of_retired_files(self) -> Self:
        odd = [n for s, n in self.retire.items() if not re.fullmatch(rf"{re.escape(s)}-[0-9a-f]{{12}}\.parquet", n)]
        if odd:
            raise ValueError(f"{odd[0]!r} is no name of a retired file")
        return self


def switch_scene(
    files: Files,
    shelf: Shelf,
    live: Sequence[Marker],
    staged: Sequence[Marker],
    wanted: Mapping[str, str] | None = None,
) -> None:
    """Leave exactly one visible version of each frame: the newest staged one, else the newest that is visible now.

    Args:
        files, shelf: where.
        live, staged: markers of the label files and of the staged ones, oldest first.
        wanted: fingerprint of each frame; a staged version with another one is dropped. None takes them all.

    Raises:
        StoreError: a file that must be split cannot be read, or the store cannot be written.
    """
    for area, markers in ((LABELS, live), (STAGING, staged)):
        for marker in markers:
            if not marker.named_by_its_frames:
                _content(files, shelf, area, marker)
    switch = _plan(files, shelf, live, staged, wanted)
    if switch.retire or switch.enter or switch.drop:
        files.put(shelf.intent(), switch.model_dump_json(indent=1).encode())
        finish(files, shelf, switch)


def _plan(
    files: Files,
    shelf: Shelf,
    live: Sequence[Marker],
    staged: Sequence[Marker],
    wanted: Mapping[str, str] | None,
) -> Switch:
    owner = {frame: (LABELS, marker.stem) for marker in live for frame in marker.frames}
    for marker in staged:
        for frame, fingerprint in marker.frames.items():
            if wanted is None or wanted.get(frame) == fingerprint:
                owner[frame] = (STAGING, marker.stem)

    def kept(area: str, marker: Marker) -> dict[str, str]:
        return {frame: mark for frame, mark in marker.frames.items() if owner.get(frame) == (area, marker.stem)}

    retiring = [marker for marker in live if kept(LABELS, marker) != marker.frames]
    dropped = [marker for marker in staged if kept(STAGING, marker) != marker.frames]
    entering = [marker for marker in staged if marker not in dropped]
    for area, parted in ((STAGING, dropped), (LABELS, retiring)):
        entering += [_part(files, shelf, area, marker, keep) for marker in parted if (keep := kept(area, marker))]
    return Switch(
        retire={marker.stem: f"{marker.stem}-{marker.sha256[:12]}.parquet" for marker in retiring},
        enter=tuple(entering),
        drop=tuple(marker.stem for marker in dropped),
    )


def _part(files: Files, shelf: Shelf, area: str, marker: Marker, keep: Mapping[str, str]) -> Marker:
    """Stage a file with the frames of another file that are still current."""
    data = keep_frames(_content(files, shelf, area, marker), shelf.label(area, marker.stem), keep.keys())
    stem = label_stem(chunk_of(marker.stem), keep.items())
    files.put(shelf.label(STAGING, stem), data)
    return make_marker(stem, keep.items(), data, marker.run_id, marker.created_at, marker.parts)


def _content(files: Files, shelf: Shelf, area: str, marker: Marker) -> bytes:
    """A label file, once it is sure to be what its marker says.

    A file that changed, or whose marker lies, loses its marker: what is started next looks into the file itself.
    """
    place = shelf.label(area, marker.stem)
    data = files.get(place)
    if data is None:
        raise StoreError(f"{place} has a marker but is gone", scene=shelf.scene, remedy="run `lift3d label` again")
    if sha256(data).hexdigest() != marker.sha256 or fingerprints_of(data, place) != marker.frames:
        files.delete(shelf.marker(COMMITS if area == LABELS else area, marker.stem))
        raise StoreError(f"{place} does not hold what its marker says", scene=shelf.scene, remedy=REBUILT)
    return data


def parse_switch(data: bytes, path: str) -> Switch:
    """Read an intent file. Raises `StoreError` for a damaged one, which only somebody else can have caused."""
    try:
        return Switch.model_validate_json(data)
    except ValidationError:
        raise StoreError(
            f"the intent file {path} is damaged, so an interrupted switch of labels cannot be finished",
            remedy=f"delete it and label the scene again; labels that were replaced are in {HISTORY}/",
        ) from None


def finish(files: Files, shelf: Shelf, switch: Switch) -> None:
    """Carry out a switch from wherever it was interrupted. Everything leaves before anything enters."""
    waiting = _names(files, shelf.folder(STAGING))
    retired = _names(files, shelf.folder(HISTORY))
    entered = {marker.stem for marker in switch.enter if f"{marker.stem}.parquet" not in waiting}
    for stem, name in switch.retire.items():
        # A file may come back under its old name (same frames, same fingerprints): it must not be retired again.
        if stem not in entered:
            _retire(files, shelf, stem, name, copied=name in retired)
    for marker in switch.enter:
        files.move(shelf.label(STAGING, marker.stem), shelf.label(LABELS, marker.stem))
        files.put(shelf.marker(COMMITS, marker.stem), format_marker(marker))
        files.delete(shelf.marker(STAGING, marker.stem))
    for stem in switch.drop:
        files.delete(shelf.label(STAGING, stem))
        files.delete(shelf.marker(STAGING, stem))
    files.delete(shelf.intent())


def _retire(files: Files, shelf: Shelf, stem: str, name: str, *, copied: bool) -> None:
    if copied:
        files.delete(shelf.label(LABELS, stem))
    else:
        files.move(shelf.label(LABELS, stem), f"{shelf.folder(HISTORY)}/{name}")
    files.delete(shelf.marker(COMMITS, stem))


def _names(files: Files, folder: str) -> set[str]:
    return {path.rpartition("/")[2] for path in files.list(folder)}
