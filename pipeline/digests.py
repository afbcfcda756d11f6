"""What assets hold, as digests: planning tells by them that a file has other bytes than when it was labelled.

A digest is the MD5 of the bytes: that is what object stores say of theirs (where an object was uploaded in one piece
and is not encrypted with a key of its own), so a dataset may move there and back. It guards against change, not against
forgery. What was read once is not read again while the file's size, times and inode, or the object's ETag, stay.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

from fsspec.implementations.local import LocalFileSystem

from pipeline.assets import filesystem, read_bytes, storage_errors
from pipeline.fingerprint import geometry_of
from schemas.config import LiftConfig
from schemas.errors import FrameError
from schemas.scene import Asset, Frame, Scene

Content = Literal["bytes", "listing"]

THREADS = 8
"""Files that are read at once."""
RACY_NS = 2 * 10**9
"""A file that changed so shortly ago may change again within the clock's tick: its digest is not remembered."""

_MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class _Stamp:
    """What storage says of a file: `full` differs whenever the content does, `listed` is the size and time of change.

    `digest` is the MD5 where storage tells it; `settled` is false for what changed a moment ago.
    """

    full: str
    listed: str
    digest: str | None = None
    settled: bool = True


def with_digests(
    scene: Scene, lift: LiftConfig, content: Content, known: Mapping[str, str]
) -> tuple[Scene, dict[str, str]]:
    """The scene with a digest in each asset that labels depend on, and what to remember for the next time.

    Args:
        scene: as its reader made it.
        lift: decides which depth maps are looked at.
        content: `bytes`: digests of the bytes. `listing`: of size and time of change; nothing is read.
        known: what an earlier call gave back.

    What cannot be read gets no digest: labelling will say so.
    """
    assets = {_key(asset): asset for frame in scene.frames for asset in _used(frame, lift)}
    stamps = _stamps({asset.uri for asset in assets.values()})
    if content == "listing":
        told = {key: stamps[a.uri].listed for key, a in assets.items() if a.uri in stamps}
        return _filled(scene, lift, {key: _md5(f"{key.partition('|')[2]} {text}") for key, text in told.items()}), {}
    found, unread = {}, []
    for key, asset in assets.items():
        stamp = stamps.get(asset.uri)
        if stamp is None:
            continue
        told_before, _, digest = known.get(key, "").partition(" ")
        if stamp.digest and asset.length is None:
            found[key] = stamp.digest
        elif digest and told_before == stamp.full:
            found[key] = digest
        else:
            unread.append(key)
    found |= _read([(key, assets[key]) for key in unread])
    remembered = {
        key: f"{stamps[assets[key].uri].full} {digest}"
        for key, digest in found.items()
        if stamps[assets[key].uri].settled and not (stamps[assets[key].uri].digest and assets[key].length is None)
    }
    return _filled(scene, lift, found), remembered


def _used(frame: Frame, lift: LiftConfig) -> list[Asset]:
    """What a view's labels depend on."""
    depth = frame.depth if geometry_of(frame, lift) == "depth" else None
    return [frame.image, depth] if depth else [frame.image]


def _filled(scene: Scene, lift: LiftConfig, digests: Mapping[str, str]) -> Scene:
    def filled(frame: Frame) -> Frame:
        image = replace(frame.image, digest=digests.get(_key(frame.image)))
        depth = frame.depth and replace(frame.depth, digest=digests.get(_key(frame.depth)))
        return replace(frame, image=image, depth=depth)

    return replace(scene, frames=tuple(map(filled, scene.frames)))


def _key(asset: Asset) -> str:
    return asset.uri if asset.length is None else f"{asset.uri}|{asset.offset}|{asset.length}"


def _read(assets: Iterable[tuple[str, Asset]]) -> dict[str, str]:
    def digest(item: tuple[str, Asset]) -> tuple[str, str] | None:
        with suppress(FrameError):
            return item[0], hashlib.md5(read_bytes(item[1]), usedforsecurity=False).hexdigest()
        return None

    with ThreadPoolExecutor(THREADS) as threads:
        return dict(filter(None, threads.map(digest, assets)))


def _md5(text: str) -> str:
    return hashlib.md5(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


def _stamps(uris: Iterable[str]) -> dict[str, _Stamp]:
    """Of the files that are there. Local ones are asked for one by one, remote ones folder by folder."""
    stamps: dict[str, _Stamp] = {}
    folders: dict[str, list[str]] = {}
    for uri in uris:
        fs, path = filesystem(uri)
        if isinstance(fs, LocalFileSystem):
            with suppress(OSError, ValueError):
                stamps[uri] = _local(os.stat(path))
        else:
            folders.setdefault(uri.rpartition("/")[0], []).append(uri)
    for folder, inside in folders.items():
        fs, path = filesystem(folder)
        with suppress(*storage_errors()):
            entries = {entry["name"].rpartition("/")[2]: entry for entry in fs.ls(path, detail=True)}
            for uri in inside:
                if (entry := entries.get(uri.rpartition("/")[2])) is not None:
                    stamps[uri] = _remote(entry)
    return stamps


def _local(stat: os.stat_result) -> _Stamp:
    listed = f"{stat.st_size}-{stat.st_mtime_ns}"
    settled = time.time_ns() - max(stat.st_ctime_ns, stat.st_mtime_ns) > RACY_NS
    return _Stamp(f"{listed}-{stat.st_ctime_ns}-{stat.st_ino}", listed, None, settled)


def _remote(entry: Mapping[str, Any]) -> _Stamp:
    etag = str(entry.get("ETag") or entry.get("etag") or "").strip('"').replace(" ", "")
    changed = next((entry[name] for name in ("LastModified", "last_modified", "updated", "mtime") if name in entry), "")
    listed = f"{entry.get('size')}-{etag or str(changed).replace(' ', 'T')}"
    return _Stamp(listed, listed, etag if _MD5.fullmatch(etag) else None, settled=bool(etag or changed))
