"""Checking a whole store, without changing it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

from pipeline.store.check import Problem, check_file
from pipeline.store.files import Files, open_files
from pipeline.store.markers import Marker, load_markers
from pipeline.store.parquet import read_label_file
from pipeline.store.paths import COMMITS, IDENTITY, INTENTS, LABELS, Shelf, parse
from pipeline.store.query import label_paths
from pipeline.store.store import Store
from pipeline.store.upkeep import (
    geometry_problems,
    history_problems,
    note_problems,
    quarantine_problems,
    staged_problems,
    stray_problems,
    tag_problems,
)
from schemas.errors import StoreError

_RECOVER = "run `lift3d label` again: it starts by putting the store in order"


@dataclass(frozen=True, slots=True)
class ValidationReport:
    """What `validate` found.

    Attributes:
        store: the store's address.
        files, frames, bytes: label files, rows in them, and their size.
        scenes, operators: how many of each have labels.
        quarantined: frames (or scenes) that were not labelled.
        problems: everything that is wrong, by file.
    """

    store: str
    files: int
    frames: int
    bytes: int
    scenes: int
    operators: int
    quarantined: int
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """The report as JSON types."""
        return {**asdict(self), "ok": self.ok, "problems": [asdict(problem) for problem in self.problems]}


def validate(uri: str) -> ValidationReport:
    """Read every row of a store and check it against the format, its marker and its neighbours.

    What is wrong with a file is a problem of the report. Raises `StoreError` only where there is no store, or its
    storage cannot be read.
    """
    files = open_files(uri)
    listed = files.list("")
    if not any(path.startswith(f"{LABELS}/") for path in listed) and files.get(IDENTITY) is None:
        raise StoreError(f"there is no label store at {uri}", remedy="write one with `lift3d label SOURCE --store URI`")
    paths = label_paths(files)
    markers, broken = load_markers(files, COMMITS)
    problems = [*_store_problems(files, uri), *stray_problems(files, listed)]
    problems += [Problem(path, None, "the commit marker is damaged", _RECOVER) for path in broken]
    problems += _orphans(markers, paths)
    by_stem = {(shelf, marker.stem): marker for shelf, found in markers.items() for marker in found}
    seen: dict[tuple[Shelf, str], str] = {}
    for path in paths:
        problems += _check_label_file(files, path, by_stem, seen)
    quarantined, damaged = quarantine_problems(files, listed)
    problems += [*damaged, *staged_problems(files, listed), *history_problems(files, listed)]
    problems += [*note_problems(files, listed), *tag_problems(files, listed, markers)]
    problems += geometry_problems(files, listed)
    return ValidationReport(
        store=uri,
        files=len(paths),
        frames=len(seen),
        bytes=sum(listed.get(path, 0) for path in paths),
        scenes=len({shelf.scene for shelf, _ in seen}),
        operators=len({shelf.slug for shelf, _ in seen}),
        quarantined=quarantined,
        problems=tuple(problems),
    )


def _store_problems(files: Files, uri: str) -> Iterator[Problem]:
    try:
        Store(uri).check_version()
    except StoreError as error:
        yield Problem(IDENTITY, None, error.message, error.remedy)
    if files.get(IDENTITY) is None:
        yield Problem(IDENTITY, None, "the store's format and version are not written down", _RECOVER)
    for path in files.list(INTENTS):
        yield Problem(path, None, "a switch of labels was interrupted", _RECOVER)


def _orphans(markers: dict[Shelf, list[Marker]], paths: list[str]) -> Iterator[Problem]:
    files = set(paths)
    for shelf, found in markers.items():
        for marker in found:
            if shelf.label(LABELS, marker.stem) not in files:
                yield Problem(shelf.marker(COMMITS, marker.stem), None, "its label file is gone", _RECOVER)


def _check_label_file(
    files: Files, path: str, markers: dict[tuple[Shelf, str], Marker], seen: dict[tuple[Shelf, str], str]
) -> Iterator[Problem]:
    place = parse(path)
    data = files.get(path)
    if place is None or data is None:
        yield Problem(path, None, "the file is a broken link or vanished", "delete it and label its frames again")
        return
    shelf, marker = place[1], markers.get((place[1], place[2].removesuffix(".parquet")))
    frames, problems = check_file(data, path, shelf)
    yield from problems
    if marker is None:
        yield Problem(path, None, "the file has no commit marker", _RECOVER)
    elif marker.sha256 != sha256(data).hexdigest() or marker.frames != frames:
        again = "delete the file and label its frames again"
        yield Problem(path, None, "the file changed since it was committed (sha256 or frames)", again)
    elif (wrong := _marker_problem(marker, data, path)) is not None:
        again = "delete the marker, then run `lift3d label` again: it makes a new one"
        yield Problem(shelf.marker(COMMITS, marker.stem), None, wrong, again)
    for frame in frames:
        other = seen.setdefault((shelf, frame), path)
        if other != path:
            yield Problem(path, frame, f"the frame is in {other} too", _RECOVER)


def _marker_problem(marker: Marker, data: bytes, path: str) -> str | None:
    """What a marker says otherwise than its file, whose frames and digest are right."""
    table, _ = read_label_file(data, path)
    stamps = set(zip(table.column("run_id").to_pylist(), table.column("created_at").to_pylist(), strict=True))
    if (marker.rows, marker.bytes) != (len(table), len(data)):
        return f"the marker says {marker.rows} rows and {marker.bytes} bytes, there are {len(table)} and {len(data)}"
    if not marker.parts.keys() <= marker.frames.keys():
        return "the marker tells the parts of fingerprints of frames that it does not have"
    if (marker.run_id, marker.created_at) not in stamps:
        return f"the marker says run {marker.run_id} of {marker.created_at}, no row of the file does"
    return None
