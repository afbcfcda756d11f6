"""Tags: which label files made the visible labels at some moment, by name and digest. They are in `_tags/<name>.json`.

A tagged file is in `labels/` as long as nothing replaced it, and in `_history/` afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from hashlib import sha256
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.store.files import Files
from pipeline.store.markers import Marker, PathName, WrittenTime, load_markers
from pipeline.store.paths import COMMITS, HISTORY, LABELS, TAGS, Shelf
from schemas.errors import StoreError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class TaggedFile(_Part):
    """A label file that a tag needs."""

    stem: PathName
    """Its file name in `labels/`, without suffix."""
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """Hex digest of its content."""
    bytes: int = Field(ge=1)
    """Its size."""
    rows: int = Field(ge=1)
    """Frames in it."""

    @property
    def retired_name(self) -> str:
        """Its file name in `_history/`."""
        return f"{self.stem}-{self.sha256[:12]}.parquet"


class TaggedShelf(_Part):
    """The files of one operator and scene."""

    operator: str = Field(pattern=r"^[^/\\\x00]+$")
    """The operator's slug, which cannot lead into another folder."""
    scene: str
    """The scene's id."""
    files: tuple[TaggedFile, ...]
    """What `labels/` showed."""

    @property
    def shelf(self) -> Shelf:
        """Where they belong."""
        return Shelf(self.operator, self.scene)


class Tag(_Part):
    """The labels of a store at some moment."""

    format: Literal["lift3d-tag"] = "lift3d-tag"
    """What this document is."""
    version: Literal[1] = 1
    """Of this document's layout."""
    name: str
    """As the user calls it."""
    created_at: WrittenTime
    """When it was made."""
    shelves: tuple[TaggedShelf, ...]
    """All operators and scenes that had labels."""
    digest: str = ""
    """Hex sha256 of the rest of this document."""

    def signed(self) -> Tag:
        """Itself with its digest."""
        content = self.model_dump_json(exclude={"digest"}).encode()
        return self.model_copy(update={"digest": sha256(content).hexdigest()})

    @property
    def frames(self) -> int:
        """Labels in it."""
        return sum(file.rows for shelf in self.shelves for file in shelf.files)

    @property
    def bytes(self) -> int:
        """Size of its label files."""
        return sum(file.bytes for shelf in self.shelves for file in shelf.files)


def tag_path(name: str) -> str:
    """Path of a tag's document. Raises `StoreError` for a name that is none."""
    if not _NAME.fullmatch(name):
        raise StoreError(
            f"{name!r} is no name for a tag", remedy="use letters, digits, '.', '_' and '-', 64 of them at most"
        )
    return f"{TAGS}/{name}.json"


def tag_names(files: Files) -> list[str]:
    """Names of all tags, sorted."""
    stems = (path.removeprefix(f"{TAGS}/").removesuffix(".json") for path in files.list(TAGS))
    return [stem for stem in stems if _NAME.fullmatch(stem)]


def parse_tag(data: bytes, path: str) -> Tag:
    """A tag's document. Raises `StoreError` where it is damaged or was renamed."""
    remedy = "delete it and tag the labels again; what only this tag kept cannot be told from other old labels any more"
    try:
        tag = Tag.model_validate_json(data)
    except ValidationError:
        raise StoreError(f"the tag {path} is damaged", remedy=remedy) from None
    if tag.signed() != tag or path != f"{TAGS}/{tag.name}.json":
        raise StoreError(f"the tag {path} was changed or renamed", remedy=remedy)
    return tag


def read_tag(files: Files, name: str) -> Tag:
    """A tag by its name. Raises `StoreError` where there is none."""
    path = tag_path(name)
    data = files.get(path)
    if data is None:
        known = ", ".join(tag_names(files)) or "none"
        raise StoreError(f"{files.root} has no tag {name!r}", remedy=f"tags of this store: {known}")
    return parse_tag(data, path)


def read_tags(files: Files) -> list[Tag]:
    """All tags. Raises `StoreError` where one is damaged."""
    return [read_tag(files, name) for name in tag_names(files)]


def live_markers(files: Files, shelves: Collection[Shelf]) -> dict[Shelf, list[Marker]]:
    """Commit markers of these shelves, oldest first; damaged ones are passed over."""
    folder = COMMITS
    if len(shelves) == 1:
        folder = next(iter(shelves)).folder(COMMITS)
    found, _ = load_markers(files, folder)
    return {shelf: found.get(shelf, []) for shelf in shelves}


def locate(
    files: Files, tag: Tag, scene: str | None = None, slugs: Collection[str] | None = None
) -> dict[tuple[Shelf, TaggedFile], str | None]:
    """Where each file of a tag is now, None for one that is gone; of one scene or some operators where given."""
    chosen = [s for s in tag.shelves if scene in (None, s.scene) and (slugs is None or s.operator in slugs)]
    live = live_markers(files, {shelf.shelf for shelf in chosen})
    listed = files.list(HISTORY) | files.list(LABELS)
    return {
        (shelf.shelf, file): place_of(shelf.shelf, file, live[shelf.shelf], listed)
        for shelf in chosen
        for file in shelf.files
    }


def place_of(shelf: Shelf, file: TaggedFile, live: Collection[Marker], listed: Mapping[str, int]) -> str | None:
    """Where a tagged file is: in `labels/` (`live` are the shelf's markers) or `_history/`; None where it is gone.

    `listed` are the sizes of all files of both areas.
    """
    label, retired = shelf.label(LABELS, file.stem), f"{shelf.folder(HISTORY)}/{file.retired_name}"
    digests = {marker.stem: marker.sha256 for marker in live}
    # A file that lost its marker is known by its name, which tells frames and fingerprints, and by its size.
    if listed.get(label) == file.bytes and digests.get(file.stem, file.sha256) == file.sha256:
        return label
    return retired if listed.get(retired) == file.bytes else None


def tagged_paths(files: Files, name: str, scene: str | None = None, slugs: Collection[str] | None = None) -> list[str]:
    """Paths of a tag's label files. Raises `StoreError` that says what is missing, where some are gone."""
    places = locate(files, read_tag(files, name), scene, slugs)
    gone = [(shelf, file) for (shelf, file), path in places.items() if path is None]
    if gone:
        raise missing_files(name, gone)
    return sorted(path for path in places.values() if path is not None)


def missing_files(name: str, gone: Collection[tuple[Shelf, TaggedFile]]) -> StoreError:
    """The error for a tag whose files are not all there any more."""
    frames = sum(file.rows for _, file in gone)
    named = ", ".join(sorted({f"{shelf.slug}/{shelf.scene}" for shelf, _ in gone})[:5])
    return StoreError(
        f"{len(gone)} label files ({frames} frames) of the tag {name!r} are gone, in {named}",
        remedy=f"restore {HISTORY}/ from a copy, or delete the tag: `lift3d tag STORE {name} --delete`",
    )
