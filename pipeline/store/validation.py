"""Checking a whole store, without changing it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

from pipeline.store.check import Problem, check_file
from pipeline.store.files import Files, open_files
from pipeline.store.markers import Marker, load_markers
from pipeline.store.paths import COMMITS, IDENTITY, INTENTS, LABELS, QUARANTINE, Shelf, parse
from pipeline.store.quarantine import read_rows
from pipeline.store.query import label_paths
from pipeline.store.store import Store
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
    listed = files.list(LABELS)
    if not listed and files.get(IDENTITY) is None:
        raise StoreError(f"there is no label store at {uri}", remedy="write one with `lift3d label SOURCE --store URI`")
    paths = label_paths(files)
    markers, broken = load_markers(files, COMMITS)
    problems = [*_store_problems(files, uri), *_strays(listed, paths)]
    problems += [Problem(path, None, "the commit marker is damaged", _RECOVER) for path in broken]
    problems += _orphans(markers, paths)
    by_stem = {(shelf, marker.stem): marker for shelf, found in markers.items() for marker in found}
    seen: dict[tuple[Shelf, str], str] = {}
    for path in paths:
        problems += _check_label_file(files, path, by_stem, seen)
    quarantined, damaged = _quarantined(files)
    return ValidationReport(
        store=uri,
        files=len(paths),
        frames=len(seen),
        bytes=sum(listed[path] for path in paths),
        scenes=len({shelf.scene for shelf, _ in seen}),
        operators=len({shelf.slug for shelf, _ in seen}),
        quarantined=quarantined,
        problems=tuple(problems + damaged),
    )


def _store_problems(files: Files, uri: str) -> Iterator[Problem]:
    try:
        Store(uri).check_version()
    except StoreError as error:
        yield Problem(IDENTITY, None, error.message, error.remedy)
    for path in files.list(INTENTS):
        yield Problem(path, None, "a switch of labels was interrupted", _RECOVER)


def _strays(listed: dict[str, int], known: list[str]) -> Iterator[Problem]:
    for path in sorted(listed.keys() - set(known)):
        if not any(part.startswith((".", "_")) for part in path.split("/")):
            yield Problem(path, None, "a file that is no label file: Parquet readers trip over it", "move it elsewhere")


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
    for frame in frames:
        other = seen.setdefault((shelf, frame), path)
        if other != path:
            yield Problem(path, frame, f"the frame is in {other} too", _RECOVER)


def _quarantined(files: Files) -> tuple[int, list[Problem]]:
    try:
        return sum(len(rows) for _, rows in read_rows(files)), []
    except StoreError as error:
        return 0, [Problem(QUARANTINE, None, error.message, error.remedy)]
