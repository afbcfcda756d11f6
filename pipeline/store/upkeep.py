"""Checking what a store holds besides labels: quarantine, history, tags, notes, and what killed runs left behind."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from hashlib import sha256
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ValidationError

from pipeline.store.attempts import Note
from pipeline.store.check import Problem
from pipeline.store.files import Files
from pipeline.store.geometry import unpacked
from pipeline.store.lease import Holder
from pipeline.store.markers import Marker
from pipeline.store.parquet import read_table
from pipeline.store.paths import (
    ATTEMPTS,
    DIGESTS,
    GEOMETRY,
    HISTORY,
    LABELS,
    LEASES,
    QUARANTINE,
    RUNS,
    STAGING,
    TAGS,
    Shelf,
    is_ours,
    parse,
    slug_in,
)
from pipeline.store.quarantine import read_batches
from pipeline.store.tags import parse_tag, place_of
from schemas.errors import Reason, StoreError
from schemas.run import parse_run

_AGAIN = "run `lift3d label` again: it starts by putting the store in order"
_VACUUM = "run `lift3d label` again to use it, or `lift3d vacuum STORE --apply` to remove it"


def stray_problems(files: Files, listed: Mapping[str, int]) -> Iterator[Problem]:
    """Files that are none of a store's, and temporary files whose process is gone."""
    stale = set(files.stale())
    for path in listed:
        name = path.rpartition("/")[2]
        if path in stale:
            yield Problem(path, None, "a killed process left this temporary file", _VACUUM.rpartition("or ")[2])
        elif not is_ours(path) and not (name.startswith(".") and name.endswith(".tmp")):
            trips = path.startswith((f"{LABELS}/", f"{QUARANTINE}/"))
            detail = "a file that is no label file: Parquet readers trip over it" if trips else "not a store's file"
            yield Problem(path, None, detail, "move it elsewhere")


def staged_problems(files: Files, listed: Mapping[str, int]) -> Iterator[Problem]:
    """Labels that wait for a switch although no run is at work."""
    at_work = {slug for slug, holder in _holders(files).items() if holder and not holder.is_gone()}
    for path in listed:
        if path.startswith(f"{STAGING}/") and slug_in(path) not in at_work:
            yield Problem(path, None, "a run that was killed left this, and no run is at work", _VACUUM)


def history_problems(files: Files, listed: Mapping[str, int]) -> Iterator[Problem]:
    """Old files whose content is not that of their name."""
    for path in listed:
        if path.startswith(f"{HISTORY}/") and path.endswith(".parquet"):
            data = files.get(path)
            if data is not None and not _is_named_by_content(path, data):
                yield Problem(path, None, "the file changed since it was retired (sha256)", "delete it")


def quarantine_problems(files: Files, listed: Mapping[str, int]) -> tuple[int, list[Problem]]:
    """How many rows are in quarantine, and what is wrong with its files."""
    problems, shelves = [], set()
    for path in (p for p in listed if p.startswith(f"{QUARANTINE}/") and is_ours(p)):
        data, place = files.get(path) or b"", parse(path)
        if not _is_named_by_content(path, data):
            problems.append(Problem(path, None, "the file changed since it was written (sha256)", "delete it"))
        elif place is not None:
            problems += [Problem(path, None, wrong, "delete it") for wrong in _row_problems(read_table(data, path))]
            shelves.add(place[1])
    rows = 0
    for shelf in sorted(shelves):
        try:
            frames = [frame for batch in read_batches(files, shelf) for frame in batch.frames]
        except StoreError as error:
            problems.append(Problem(shelf.folder(QUARANTINE), None, error.message, error.remedy))
            continue
        rows += len(frames)
        twice = sorted({str(frame) for frame in frames if frames.count(frame) > 1}) if _has_doubles(frames) else []
        problems += [Problem(shelf.folder(QUARANTINE), f, "the frame has two current rows", _AGAIN) for f in twice]
    return rows, problems


def note_problems(files: Files, listed: Mapping[str, int]) -> Iterator[Problem]:
    """Run documents, notes of tries and leases that cannot be understood."""
    runs = [path for path in listed if path.startswith(f"{RUNS}/") and path.endswith(".json")]
    for path, data in files.get_many(runs).items():
        if wrong := _run_problem(data, path):
            yield Problem(path, None, wrong, "delete it")
    digests = [path for path in listed if path.startswith(f"{DIGESTS}/") and is_ours(path)]
    for path, data in files.get_many(digests).items():
        if _json_object(data) is None:
            yield Problem(path, None, "the file is damaged", "delete it: the dataset is read again")
    models: dict[str, type[BaseModel]] = {ATTEMPTS: Note, LEASES: Holder}
    for area, model in models.items():
        paths = [path for path in listed if path.startswith(f"{area}/") and is_ours(path)]
        for path, data in files.get_many(paths).items():
            try:
                model.model_validate_json(data)
            except ValidationError:
                yield Problem(path, None, "the file is damaged", "delete it, unless a run is at work")


def geometry_problems(files: Files, listed: Mapping[str, int]) -> Iterator[Problem]:
    """Kept depths that nobody can read. They are read one by one: there may be many."""
    for path in (p for p in listed if p.startswith(f"{GEOMETRY}/") and is_ours(p)):
        data = files.get(path)
        if data is not None and unpacked(data) is None:
            yield Problem(path, None, "the file is damaged (sha256)", "delete it: it is swept again when needed")


def tag_problems(
    files: Files, listed: Mapping[str, int], live: Mapping[Shelf, Collection[Marker]]
) -> Iterator[Problem]:
    """Tags that are damaged, or whose label files are gone."""
    paths = [path for path in listed if path.startswith(f"{TAGS}/") and is_ours(path)]
    for path, data in files.get_many(paths).items():
        try:
            tag = parse_tag(data, path)
        except StoreError as error:
            yield Problem(path, None, error.message, error.remedy)
            continue
        for shelf in tag.shelves:
            for file in shelf.files:
                if place_of(shelf.shelf, file, live.get(shelf.shelf, ()), listed) is None:
                    gone = f"its label file {shelf.operator}/{shelf.scene}/{file.stem} ({file.rows} frames) is gone"
                    yield Problem(path, None, gone, f"restore {HISTORY}/ from a copy, or delete the tag")


def _holders(files: Files) -> dict[str | None, Holder | None]:
    found: dict[str | None, Holder | None] = {}
    for path, data in files.get_many(list(files.list(LEASES))).items():
        try:
            found[slug_in(path)] = Holder.model_validate_json(data)
        except ValidationError:
            found[slug_in(path)] = None
    return found


def _is_named_by_content(path: str, data: bytes) -> bool:
    """Whether a name ends in the first twelve digits of the content's sha256, as retired files' do."""
    return path.removesuffix(".parquet").rpartition("-")[2] == sha256(data).hexdigest()[:12]


def _run_problem(data: bytes, path: str) -> str | None:
    try:
        document = parse_run(data)
    except ValueError as error:
        return f"the run document {error}"
    named = {part.get("run_id") for part in (document, document.get("summary") or {})}
    known = named <= {None, path.rpartition("/")[2].removesuffix(".json")}
    return None if known else "not the document of a run of this name"


def _json_object(data: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _has_doubles(frames: list[str | None]) -> bool:
    return len(set(frames)) != len(frames)


def _row_problems(table: pa.Table) -> Iterator[str]:
    if "reason" not in table.column_names:
        return
    unknown = sorted({str(reason) for reason in table.column("reason").to_pylist()} - {str(r) for r in Reason})
    if unknown:
        yield f"reasons {unknown} are not known"
