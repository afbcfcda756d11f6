"""The label store as a run uses it: prepare, recover, ask what is done, write, publish."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pipeline.store import quarantine
from pipeline.store.attempts import Attempts
from pipeline.store.codec import encode_record
from pipeline.store.files import open_files
from pipeline.store.lease import Lease, hold_lease
from pipeline.store.markers import Marker, format_marker, make_marker, read_markers
from pipeline.store.parquet import label_file, newer_version
from pipeline.store.paths import (
    COMMITS,
    IDENTITY,
    LABELS,
    RUNS,
    STAGING,
    Shelf,
    digest_table,
    label_stem,
    operator_slug,
)
from pipeline.store.recover import Recovered, recover
from pipeline.store.switch import switch_scene
from schemas.errors import StoreError
from schemas.record import LabelRecord, QuarantineRecord
from schemas.scene import Chunk
from schemas.store import SCHEMA_VERSION, StoreMetadata
from schemas.text import masked_document

PROBE_LIMIT_S = 8.0
"""Longest wait for an object store to take the first file."""

_FORMAT = "lift3d-labels"
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True, slots=True)
class RunStamp:
    """Which run wrote a row. Attributes: run_id (path-safe; ids sort by time), created_at (the run's start, UTC)."""

    run_id: str
    created_at: datetime

    def __post_init__(self) -> None:
        if not _RUN_ID.fullmatch(self.run_id) or self.created_at.tzinfo is None:
            raise StoreError(f"{self.run_id!r}, {self.created_at} is no run stamp", remedy="use RunStamp.now()")

    @classmethod
    def now(cls) -> RunStamp:
        """A stamp for a run that starts now."""
        start = datetime.now(UTC)
        return cls(f"{start:%Y%m%dT%H%M%S}{start.microsecond // 1000:03d}Z-{secrets.token_hex(3)}", start)


@dataclass(frozen=True, slots=True)
class Commit:
    """A chunk that is safely in the store. Attributes: path (relative; empty where there was nothing to write),
    rows, bytes, sha256 of the file, staged (visible only after `publish`)."""

    path: str
    rows: int
    bytes: int
    sha256: str
    staged: bool


class Store:
    """A label store at a local path or an fsspec URI.

    Workers call `write` only. The driver calls `prepare`, `recover`, `done`, and when a scene's chunks have finished
    `publish` and `quarantine`. One run an operator at a time; runs of different operators may share a store.
    Every method raises `StoreError`.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._files = open_files(uri)

    def prepare(self) -> None:
        """Create the store, or check an existing one's version; either way prove that it can be written to."""
        self.check_version()
        identity = {"format": _FORMAT, "schema_version": SCHEMA_VERSION}
        self._files.put(IDENTITY, json.dumps(identity).encode() + b"\n", timeout_s=PROBE_LIMIT_S)

    def check_version(self) -> None:
        """Refuse a store that a newer version wrote, and a `_lift3d.json` that is not ours."""
        data = self._files.get(IDENTITY, timeout_s=PROBE_LIMIT_S)
        if data is None:
            return
        try:
            identity = json.loads(data)
            version = identity["schema_version"] if identity["format"] == _FORMAT else None
        except (ValueError, TypeError, KeyError, RecursionError):
            version = None
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            raise StoreError(f"{self.uri}/{IDENTITY} is damaged or foreign", remedy="delete it: it is written again")
        if version > SCHEMA_VERSION:
            raise newer_version(self.uri, version)

    def recover(self, slug: str | None = None) -> Recovered:
        """Repair what a killed run left, of one operator or of all. To be called before `done`."""
        return recover(self._files, slug)

    def done(self, slug: str, scene: str) -> dict[str, str]:
        """Fingerprint of each labelled frame of a scene; of a frame with a staged version, the staged one's."""
        return self._done(Shelf(slug, scene).folder).get(scene, {})

    def done_all(self, slug: str) -> dict[str, dict[str, str]]:
        """`done` of every scene at once, by scene."""
        return self._done(lambda area: f"{area}/operator={slug}")

    def parts_all(self, slug: str) -> dict[str, dict[str, str]]:
        """By scene and frame, what the fingerprint of a label is made of, where the run that made it said so."""
        found: dict[str, dict[str, str]] = {}
        for area in (COMMITS, STAGING):
            for shelf, markers in read_markers(self._files, f"{area}/operator={slug}").items():
                for marker in markers:
                    found.setdefault(shelf.scene, {}).update(dict.fromkeys(marker.frames, "") | marker.parts)
        return found

    def _done(self, folder: Callable[[str], str]) -> dict[str, dict[str, str]]:
        done: dict[str, dict[str, str]] = {}
        for area in (COMMITS, STAGING):
            for shelf, markers in read_markers(self._files, folder(area)).items():
                for marker in markers:
                    done.setdefault(shelf.scene, {}).update(marker.frames)
        return done

    def write(
        self, slug: str, chunk: Chunk, records: Sequence[LabelRecord], metadata: StoreMetadata, run: RunStamp
    ) -> Commit:
        """Commit a chunk's labels: one file, then its marker. Repeating it replaces the file by an equal one.

        `records` are the chunk's targets that were labelled, in any order; with none of them, nothing is written.
        """
        shelf = Shelf(slug, chunk.scene)
        ordered = _in_order(shelf, chunk, records, metadata)
        if not ordered:
            return Commit("", 0, 0, "", chunk.staged)
        try:
            rows = [encode_record(record, metadata.label_set, run.run_id, run.created_at) for record in ordered]
        except StoreError as error:
            raise StoreError(error.message, scene=chunk.scene, frame=error.frame, remedy=error.remedy) from error
        stem = label_stem(chunk.name, zip(chunk.target_ids, chunk.fingerprints, strict=True))
        frames = [(record.frame.id, record.fingerprint) for record in ordered]
        data = label_file(rows, metadata)
        parts = dict(zip(chunk.target_ids, chunk.parts, strict=False))
        marker = make_marker(stem, frames, data, run.run_id, run.created_at, parts)
        return self._commit(shelf, marker, data, staged=chunk.staged)

    def _commit(self, shelf: Shelf, marker: Marker, data: bytes, *, staged: bool) -> Commit:
        area, marker_area = (STAGING, STAGING) if staged else (LABELS, COMMITS)
        path = shelf.label(area, marker.stem)
        self._files.put(path, data)
        self._files.put(shelf.marker(marker_area, marker.stem), format_marker(marker))
        return Commit(path, marker.rows, marker.bytes, marker.sha256, staged)

    def publish(self, slug: str, scene: str, wanted: Mapping[str, str] | None = None) -> None:
        """Finish a scene: show what was staged, retire what it replaces, clear quarantine rows of labelled frames.

        Args:
            slug, scene: which labels.
            wanted: the fingerprint that each frame of the run should have. A staged version with another one (left by
                a killed run with other settings) is dropped; frames that are labelled as wanted leave quarantine, and
                so does the scene's own row. None publishes whatever is staged and clears the frames that it holds.
        """
        shelf = Shelf(slug, scene)
        staged = read_markers(self._files, shelf.folder(STAGING)).get(shelf, [])
        labelled: set[str | None] = {frame for marker in staged for frame in marker.frames}
        if staged:
            live = read_markers(self._files, shelf.folder(COMMITS)).get(shelf, [])
            switch_scene(self._files, shelf, live, staged, wanted)
        batches = quarantine.read_batches(self._files, shelf)
        if batches and wanted is not None:
            done = self.done(slug, scene)
            labelled = {None, *(frame for frame, fingerprint in wanted.items() if done.get(frame) == fingerprint)}
        quarantine.tidy(self._files, batches, labelled)

    def quarantine(self, slug: str, records: Sequence[QuarantineRecord], run: RunStamp) -> None:
        """Record frames that were not labelled; a frame's earlier row is retired."""
        quarantine.write_rows(self._files, slug, records, run.run_id, run.created_at)
        for scene in sorted({record.scene for record in records}):
            quarantine.tidy(self._files, quarantine.read_batches(self._files, Shelf(slug, scene)))

    @contextmanager
    def lease(self, slug: str, run_id: str) -> Iterator[Lease]:
        """Prepare the store, and keep other runs from an operator's labels for the time of a `with` block.

        Raises `LeaseError`, which names the run that has them, and `StoreError`.
        """
        self.prepare()
        with hold_lease(self._files, slug, run_id) as lease:
            yield lease

    def digests(self, scene: str) -> dict[str, str]:
        """What `keep_digests` kept of a scene; nothing where it cannot be understood."""
        try:
            table = json.loads(self._files.get(digest_table(scene)) or b"{}")
        except (ValueError, RecursionError):
            return {}
        return table if isinstance(table, dict) and all(isinstance(text, str) for text in table.values()) else {}

    def keep_digests(self, scene: str, table: Mapping[str, str]) -> None:
        """Remember what a scene's assets hold (`pipeline.digests.with_digests`)."""
        self._files.put(digest_table(scene), json.dumps(table, indent=0, sort_keys=True).encode())

    def attempts(self, slug: str, allowed: int, engine: str) -> Attempts:
        """The notes of what is being tried. Workers write them; the driver settles, forgives and clears them."""
        return Attempts(self._files, slug, allowed, engine)

    def write_run(self, run_id: str, document: Mapping[str, Any]) -> None:
        """Write (or replace) the document of a run: JSON types only. Credentials in it are masked."""
        text = json.dumps(masked_document(document), indent=1, sort_keys=True)
        self._files.put(f"{RUNS}/{run_id}.json", text.encode() + b"\n")


def _in_order(shelf: Shelf, chunk: Chunk, records: Sequence[LabelRecord], metadata: StoreMetadata) -> list[LabelRecord]:
    """Records in the order of the chunk's targets. Raises `StoreError` unless they fit the chunk and the metadata."""
    if metadata.scene != chunk.scene or operator_slug(metadata.operator) != shelf.slug:
        raise StoreError(
            f"metadata of scene {metadata.scene!r} by {metadata.operator!r} for a chunk of {shelf.slug!r}",
            scene=chunk.scene,
            remedy="pass operator_slug(metadata.operator) and the scene's own metadata",
        )
    wanted = dict(zip(chunk.target_ids, chunk.fingerprints, strict=True))
    found = {record.frame.id: record for record in records}
    for record in records:
        if wanted.get(record.frame.id) != record.fingerprint or record.kind != metadata.kind:
            raise StoreError(
                f"the record ({record.kind}, {record.fingerprint!r}) is not the chunk's "
                f"({metadata.kind}, {wanted.get(record.frame.id)!r})",
                scene=chunk.scene,
                frame=record.frame.id,
                remedy="label each target of the chunk once, with the chunk's fingerprint",
            )
    if len(found) != len(records):
        raise StoreError("a frame was labelled twice", scene=chunk.scene, remedy="pass one record a target")
    return [found[frame] for frame in wanted if frame in found]
