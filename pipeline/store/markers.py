"""Commit markers: one small JSON beside each label file, which says what the file holds. Resuming reads only these."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from hashlib import sha256
from typing import Annotated, Self

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from pipeline.store.files import Files
from pipeline.store.paths import Shelf, chunk_of, label_stem, parse
from schemas.errors import StoreError

REBUILT = "run `lift3d label` again: it starts by rebuilding markers from the label files"
"""What to do where a marker is not to be believed."""

PathName = Annotated[str, Field(pattern=r"^[^./\\\x00][^/\\\x00]*$", max_length=255)]
"""A file's own name: it cannot lead into another folder."""


def _as_written(value: object) -> object:
    if isinstance(value, str) and not _TIME.fullmatch(value):
        raise ValueError("not a time as this software writes it")
    return value


_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
WrittenTime = Annotated[AwareDatetime, BeforeValidator(_as_written)]
"""A time in a document of the store: ISO 8601 in one spelling, since a flipped bit may give another."""


class Marker(BaseModel):
    """What a committed (or staged) label file holds."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    stem: PathName
    """File name of the label file and of this marker, without suffix."""
    frames: dict[str, str]
    """Fingerprint of each frame, in the file's order."""
    rows: int = Field(ge=1, strict=True)
    """Rows of the file."""
    bytes: int = Field(ge=1, strict=True)
    """Size of the file."""
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """Hex digest of the file."""
    run_id: str
    """The run that wrote it."""
    created_at: WrittenTime
    """When that run started: of two versions of a frame, the later one counts."""
    parts: dict[str, str] = {}
    """What each fingerprint is made of, where the run said so (`pipeline.fingerprint.PARTS`)."""

    @model_validator(mode="after")
    def _counts_its_frames(self) -> Self:
        if self.rows != len(self.frames):
            raise ValueError(f"rows is {self.rows}, with {len(self.frames)} frames")
        return self

    @property
    def age(self) -> tuple[datetime, str]:
        """Sort key: older files first."""
        return self.created_at, self.stem

    @property
    def named_by_its_frames(self) -> bool:
        """Whether the file's name has these frames' digest: it has where all frames of a chunk were labelled."""
        return self.stem == label_stem(chunk_of(self.stem), self.frames.items())


def make_marker(
    stem: str,
    frames: Iterable[tuple[str, str]],
    data: bytes,
    run_id: str,
    created_at: datetime,
    parts: Mapping[str, str] | None = None,
) -> Marker:
    """The marker of a label file with content `data`.

    Args:
        stem, run_id, created_at: as in `Marker`.
        frames: (frame id, fingerprint) in the file's order.
        parts: of any frames; those of the file's are kept.
    """
    named = dict(frames)
    return Marker(
        stem=stem,
        frames=named,
        rows=len(named),
        bytes=len(data),
        sha256=sha256(data).hexdigest(),
        run_id=run_id,
        created_at=created_at,
        parts={frame: parts[frame] for frame in named if frame in parts} if parts else {},
    )


def format_marker(marker: Marker) -> bytes:
    """A marker as a file's content."""
    return marker.model_dump_json(indent=1).encode()


def parse_marker(data: bytes, path: str) -> Marker:
    """Inverse of `format_marker`. Raises `StoreError` for a damaged marker, or one that was renamed."""
    try:
        marker = Marker.model_validate_json(data)
    except ValidationError:
        raise StoreError(f"the commit marker {path} is damaged", remedy=REBUILT) from None
    if path.rpartition("/")[2] != f"{marker.stem}.json":
        raise StoreError(f"the commit marker {path} is that of {marker.stem}", remedy=REBUILT)
    return marker


def load_markers(files: Files, folder: str) -> tuple[dict[Shelf, list[Marker]], list[str]]:
    """All markers under a folder by operator and scene, oldest first, and the paths of damaged ones."""
    listed = {path: parse(path) for path in files.list(folder) if path.endswith(".json")}
    shelves = {path: place[1] for path, place in listed.items() if place and not place[2].startswith(".")}
    markers: dict[Shelf, list[Marker]] = {}
    broken = []
    for path, data in files.get_many(list(shelves)).items():
        try:
            markers.setdefault(shelves[path], []).append(parse_marker(data, path))
        except StoreError:
            broken.append(path)
    return {shelf: sorted(found, key=lambda marker: marker.age) for shelf, found in markers.items()}, broken


def read_markers(files: Files, folder: str) -> dict[Shelf, list[Marker]]:
    """All markers under a folder by operator and scene, oldest first. Raises `StoreError` where one is damaged."""
    markers, broken = load_markers(files, folder)
    if broken:
        raise StoreError(f"{len(broken)} commit markers are damaged, the first is {broken[0]}", remedy=REBUILT)
    return markers
