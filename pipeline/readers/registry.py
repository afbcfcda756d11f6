"""Readers by name, or by what is there."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from pipeline.assets import absolute, filesystem, storage_errors
from pipeline.protocols import SceneReader
from pipeline.readers.links import leading_out, without_links
from schemas.config import ReaderConfig
from schemas.errors import ConfigError, DatasetError, UnknownNameError
from schemas.scene import Scene, SceneRef

ENTRY_POINT_GROUP = "lift3d.readers"

_BUILTIN: Mapping[str, str] = {
    "scannet": "pipeline.readers.scannet:ScannetReader",
    "sens": "pipeline.readers.sens:SensReader",
    "nerfstudio": "pipeline.readers.nerfstudio:NerfstudioReader",
}
"""In the order in which `auto` asks them: a folder that was exported from a .sens file is read as exported."""

_LAYOUTS = (
    "color/ pose/ intrinsic/ and depth/ (scannet), <scene>.sens (sens) or transforms.json (nerfstudio), "
    "in the folder itself or one below"
)


def reader_names() -> list[str]:
    """Built-in readers, then those that installed packages register as `lift3d.readers`."""
    return [*_BUILTIN, *(name for name in _registered() if name not in _BUILTIN)]


def open_dataset(uri: str, config: ReaderConfig) -> list[SceneRef]:
    """Scenes at `uri` (one scene, or a dataset of them) that the config selects, sorted; no frame is opened.

    Raises DatasetError where nothing readable or nothing selected is there, ConfigError for a bad URI or reader.
    """
    uri = absolute(uri)
    reader = _recognise(uri) if config.name == "auto" else _reader(config.name)
    found = reader.list_scenes(uri)
    if not found:
        raise _nothing_at(uri, config.name)
    selected = [ref for ref in found if fnmatchcase(ref.id, config.scenes)]
    if not selected:
        shown = ", ".join(ref.id for ref in found[:5])
        raise DatasetError(
            f"no scene of {uri} matches {config.scenes!r}; it has {len(found)}: {shown}{', ...' * (len(found) > 5)}",
            remedy="reader.scenes (--scenes) is a glob over scene ids, for example 'scene00*'",
        )
    return selected[: config.limit]


def load_scene(ref: SceneRef, config: ReaderConfig) -> Scene:
    """Cameras and asset addresses of a scene, and the frames that were set aside with their reasons.

    Frames with a file at the end of a link that leads out of the scene's folder are set aside, unless
    `config.follow_links`. Raises DatasetError, naming the scene, where the scene as a whole cannot be read.
    """
    reader = _reader(ref.reader or config.name)
    try:
        links = () if config.follow_links else leading_out(ref)
        return without_links(reader.load(ref), links)
    except DatasetError as error:
        error.scene = error.scene or ref.id
        raise


def _recognise(uri: str) -> SceneReader:
    for name in reader_names():
        reader = _reader(name)
        if reader.recognises(uri):
            return reader
    raise _nothing_at(uri, "auto")


def _nothing_at(uri: str, reader: str) -> DatasetError:
    return DatasetError(
        f"{uri!r} holds no scene that the reader {reader!r} knows: {_what_is_there(uri)}",
        remedy=f"expected {_LAYOUTS}; third-party readers are named with --reader",
    )


def _what_is_there(uri: str) -> str:
    fs, path = filesystem(uri)
    try:
        names = sorted(name.rstrip("/").rsplit("/", 1)[-1] for name in fs.ls(path, detail=False))
    except storage_errors() as error:
        return f"it cannot be listed ({type(error).__name__}: {error})"
    return f"found {', '.join(names[:8])}{', ...' * (len(names) > 8)}" if names else "it is empty"


def _reader(name: str) -> SceneReader:
    if name in _BUILTIN:
        module, _, attribute = _BUILTIN[name].partition(":")
        reader: SceneReader = getattr(import_module(module), attribute)()
        return reader
    if name in _registered():
        return _third_party(_registered()[name])
    nearest = difflib.get_close_matches(name.lower(), reader_names(), n=1, cutoff=0.4)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    raise UnknownNameError(f"reader {name!r} is not known", remedy=f"{hint}known: auto, {', '.join(reader_names())}")


def _third_party(point: EntryPoint) -> SceneReader:
    try:
        reader = point.load()()
    except (ImportError, AttributeError, SyntaxError, TypeError) as error:
        raise ConfigError(
            f"reader {point.name!r} ({point.value}) cannot be loaded: {type(error).__name__}: {error}",
            remedy="it must be a class that is called without arguments; reinstall or remove its package",
        ) from error
    if not isinstance(reader, SceneReader):
        raise ConfigError(
            f"reader {point.name!r} ({point.value}) is not a scene reader",
            remedy="expected name, recognises(uri), list_scenes(uri) and load(ref)",
        )
    return reader


def _registered() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
