"""Folder listings, local or remote: one call a folder, names with sizes, in natural order."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pipeline.assets import absolute, filesystem, join, storage_errors
from schemas.errors import DatasetError
from schemas.scene import Asset, SceneRef

_LISTINGS_AT_ONCE = 16
_LABEL_FOLDERS = ("label-filt", "label")


@dataclass(frozen=True, slots=True)
class Folder:
    """What a folder holds. Hidden names (a leading dot) are left out, and so is what is no file: pipes, devices.

    Attributes:
        uri: where it is.
        files: name -> size in bytes (None where the file system does not tell).
        folders: names of its folders.
    Both in natural order: 2 before 10.
    """

    uri: str
    files: dict[str, int | None]
    folders: tuple[str, ...]

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.uri.rsplit("/", 1)[-1]

    def asset(self, file: str, **details: Any) -> Asset:
        """A file of the folder as an asset."""
        return Asset(join(self.uri, file), size=self.files[file], **details)


def asset_in(folder: Folder | None, file: str, **details: Any) -> Asset | None:
    """The file as an asset where the folder exists and has it."""
    return folder.asset(file, **details) if folder and file in folder.files else None


def label_folder(scene: Folder) -> Folder | None:
    """ScanNet's ground truth in a scene's folder, the filtered labels where there are both."""
    names = [name for name in _LABEL_FOLDERS if name in scene.folders]
    return list_folder(join(scene.uri, names[0])) if names else None


def natural_key(name: str) -> tuple[list[str | int], int, str]:
    """Sort key under which numbers in names count as numbers; of equal ones ("1", "001") the shortest comes first."""
    parts = re.split(r"([0-9]+)", name)
    return [int(part[:4000]) if i % 2 else part for i, part in enumerate(parts)], len(name), name


def list_folder(uri: str) -> Folder:
    """List the folder at `uri`, never from a cache. Raises DatasetError where there is none or it cannot be read."""
    fs, path = filesystem(uri)
    try:
        fs.invalidate_cache(path)
        entries = fs.ls(path, detail=True)
        files, folders = {}, []
        for entry in entries:
            name = entry["name"].rstrip("/").rsplit("/", 1)[-1]
            if entry["name"].rstrip("/") == path.rstrip("/") or name.startswith("."):
                continue
            if entry["type"] == "directory" or (entry.get("islink") and fs.isdir(entry["name"])):
                folders.append(name)
            elif entry["type"] == "file" or (entry.get("islink") and fs.isfile(entry["name"])):
                files[name] = entry["size"]
    except storage_errors() as error:
        raise DatasetError(
            f"the folder {uri!r} cannot be listed: {type(error).__name__}: {error}",
            remedy="check the path, and access to it (s3:// reads AWS_* variables, AWS_ENDPOINT_URL among them)",
        ) from None
    ordered = {name: files[name] for name in sorted(files, key=natural_key)}
    return Folder(absolute(uri), ordered, tuple(sorted(folders, key=natural_key)))


def find_scenes(uri: str, reader: str, scene_in: Callable[[Folder], str | None]) -> list[SceneRef]:
    """Scenes of the folder `uri`, itself one or a folder of them.

    Args:
        uri: a folder.
        reader: name of the reader that will load them.
        scene_in: the address of the scene that a folder holds, None where it holds none.
    """
    root = list_folder(uri)
    own = scene_in(root)
    if own:
        return [SceneRef(root.name, own, reader)]
    with ThreadPoolExecutor(_LISTINGS_AT_ONCE) as pool:
        inside = list(pool.map(lambda name: scene_in(list_folder(join(root.uri, name))), root.folders))
    return [SceneRef(name, found, reader) for name, found in zip(root.folders, inside, strict=True) if found]
