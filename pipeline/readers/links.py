"""Symbolic links in a scene on this machine: what they lead to must lie in the scene's folder too.

A dataset from somewhere else must not make a run read other files of this machine. A scene's folder may itself be a
link: that is how people put datasets together, and nothing in it may then lead out of where it leads.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from pipeline.assets import local_path
from schemas.errors import DatasetError, Reason
from schemas.scene import Asset, Frame, FrameIssue, Scene, SceneRef

REMEDY = "copy the files into the scene's folder, or trust its links: --set reader.follow_links=true"
_READ_WHOLE = (".txt", ".json", ".sens")
"""Files that a reader reads to learn of frames: with one of them elsewhere, the scene is somebody else's."""


def leading_out(ref: SceneRef) -> tuple[str, ...]:
    """Absolute paths of the links in a scene's folder that lead out of it; none where the scene is remote.

    Raises DatasetError for a link in place of a file that describes frames.
    """
    folder = local_path(ref.uri)
    if folder is None or not os.path.isdir(folder):
        return ()
    root = os.path.realpath(folder)
    found = tuple(link for link in _links(folder) if not Path(os.path.realpath(link)).is_relative_to(root))
    for link in found:
        if link.endswith(_READ_WHOLE):
            raise DatasetError(f"{link} is a link out of the scene's folder", scene=ref.id, remedy=REMEDY)
    return found


def without_links(scene: Scene, links: Iterable[str]) -> Scene:
    """The scene without the frames that have a file at or below one of the links; they become issues."""
    barred = tuple(links)
    if not barred:
        return scene
    kept, issues = [], list(scene.issues)
    for frame in scene.frames:
        link = next((link for asset in _assets(frame) for link in barred if _is_below(asset, link)), None)
        if link is None:
            kept.append(frame)
        else:
            message = f"{link} is a link out of the scene's folder. {REMEDY}"
            issues.append(FrameIssue(frame.id, Reason.IMAGE_MISSING, message))
    return replace(scene, frames=tuple(kept), issues=tuple(issues))


def _links(folder: str) -> Iterator[str]:
    for parent, folders, files in os.walk(folder):
        yield from (path for name in (*folders, *files) if os.path.islink(path := os.path.join(parent, name)))


def _assets(frame: Frame) -> Iterator[Asset]:
    yield from filter(None, (frame.image, frame.depth, frame.label))


def _is_below(asset: Asset, link: str) -> bool:
    path = local_path(asset.uri) or ""
    return path == link or path.startswith(f"{link}/")
