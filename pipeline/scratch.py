"""Scratch space of a run on one machine: what was worked out of a view once, for every chunk that looks at it.

Chunks overlap, since a view is a source of many others: without this, a long scene's views are predicted, swept and
corrected in several chunks each. A file is named by a digest of everything that it depends on, so what is found is what
would have been made, to the bit; losing it costs time and nothing else.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any

from pipeline.arrays import pack, unpack
from schemas.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.arrays import Arrays
    from pipeline.store.geometry import Geometry

KEEPING_S, KEEPING_BYTES_PER_S = 0.002, 150e6
"""What keeping arrays and reading them back a few times costs: for each file, and for their bytes (docs/speed.md)."""
ABANDONED_S = 2 * 86400.0
"""Folders of runs that nobody has written to for so long are removed."""
MOST_BYTES = 8 * 2**30
"""Bytes that a worker writes at most in a run."""
LEAST_FREE = 2 * 2**30
"""Bytes that are left free on the disk."""
LASTING = "sweep"
"""The kind of arrays that a store may keep for later runs: it costs most, and no operator matters for it."""
_PREFIX = "lift3d-scratch-"


def scratch_root(place: str) -> Path | None:
    """The folder that holds every run's scratch: `auto` is this user's own in the system's temporary folder.

    None where scratch is switched off (`none`) or where somebody else owns the folder.
    Raises `ConfigError` for a relative path.
    """
    if place == "none":
        return None
    if place != "auto":
        if not os.path.isabs(place):
            raise ConfigError(f"engine.scratch is {place!r:.200}", remedy="give auto, none or an absolute path")
        return Path(place)
    user = os.getuid() if hasattr(os, "getuid") else 0
    root = Path(tempfile.gettempdir(), f"{_PREFIX}{user}")
    with suppress(OSError):
        root.mkdir(mode=0o700, exist_ok=True)
        status = root.lstat()
        if not root.is_symlink() and status.st_uid == user and status.st_mode & 0o077 == 0:
            return root
    return None


def discard(root: Path | None, run_id: str) -> None:
    """Remove a run's scratch on this machine."""
    if root is not None and run_id:
        shutil.rmtree(root / run_id, ignore_errors=True)


def sweep(root: Path | None) -> None:
    """Remove what runs that ended long ago have left on this machine: a run ends on one machine, but works on many."""
    if root is None:
        return
    with suppress(OSError):
        for folder in root.iterdir():
            if folder.is_dir() and not folder.is_symlink() and time() - folder.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(folder, ignore_errors=True)


def worth_keeping(seconds: float, size: int) -> bool:
    """Whether arrays of `size` bytes are kept and read back in less time than making them anew took."""
    return seconds > KEEPING_S + size / KEEPING_BYTES_PER_S


class Scratch:
    """Named arrays in files. Safe for many processes at once; never raises for a disk that is full or gone.

    Args:
        root: from `scratch_root`; None keeps nothing.
        run_id: whose scratch it is.
        limit: bytes that this process writes at most.
        geometry: where arrays of the kind `LASTING` are looked for too, and kept beyond the run.
    """

    def __init__(self, root: Path | None, run_id: str, limit: int, geometry: Geometry | None = None) -> None:
        self._folder = root and root / run_id
        self._left, self._geometry = limit, geometry

    @property
    def keeps(self) -> bool:
        """Whether anything is kept at all."""
        return self._folder is not None or self._geometry is not None

    def get(self, kind: str, key: str) -> Arrays | None:
        """What was kept under a key; None where nothing was, or what is there is damaged."""
        found = self._read(kind, key)
        if found is None and self._geometry is not None and kind == LASTING:
            return self._geometry.get(key)
        return found

    def _read(self, kind: str, key: str) -> Arrays | None:
        if self._folder is None:
            return None
        with suppress(OSError):
            return unpack(self._path(self._folder, kind, key).read_bytes())
        return None

    def put(self, kind: str, key: str, arrays: Mapping[str, Any]) -> None:
        """Keep arrays, unless there is no room."""
        if self._geometry is not None and kind == LASTING:
            self._geometry.put(key, arrays)
        if self._folder is not None:
            self._write(self._path(self._folder, kind, key), pack(arrays))

    def _write(self, path: Path, data: bytes) -> None:
        with suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if len(data) > self._left or shutil.disk_usage(path.parent).free < LEAST_FREE + len(data):
                return
            temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            temporary.write_bytes(data)
            os.replace(temporary, path)
            self._left -= len(data)

    @staticmethod
    def _path(folder: Path, kind: str, key: str) -> Path:
        return folder / kind / key[:2] / key


NO_SCRATCH = Scratch(None, "", 0)
"""Keeps nothing."""
