"""Depths that were swept from RGB, kept in the store for operators that are added later.

    geometry/v<contract>/<made by>/<key[:2]>/<key>.zst

A key is a digest of everything that a sweep depends on, so what is found is what would be made, to the bit. A file is
its sha256 and then named arrays (`pipeline.arrays`). Whatever is wrong with one costs the time to sweep again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from pipeline.arrays import pack, unpack
from pipeline.fingerprint import CONTRACT_VERSION
from pipeline.store.files import Files, open_files
from pipeline.store.paths import GEOMETRY
from schemas.errors import StoreError

if TYPE_CHECKING:
    from pipeline.arrays import Arrays

log = logging.getLogger("lift3d")

MOST_BYTES = 8 * 2**20
"""Size of a sweep at most; those of `lift3d_model.density` have about 1 MB."""
CURRENT = f"{GEOMETRY}/v{CONTRACT_VERSION}/"
"""Where this version looks; what other versions kept is of no use to it."""
_DIGEST = 32


def made_by(device: str) -> str:
    """What decides how sums round, as a folder's name: the device, of a CPU its threads, and the version of torch."""
    import torch

    threads = str(torch.get_num_threads()) if device == "cpu" else ""
    return f"{device}{threads}-torch{torch.__version__}"


class Geometry:
    """A store's sweeps. Safe for many processes and runs at once; never raises.

    Args:
        uri: the store.
        maker: `made_by`.
    """

    def __init__(self, uri: str, maker: str) -> None:
        self._files: Files = open_files(uri)
        self._folder = f"{CURRENT}{maker}"
        self._writes = True

    def get(self, key: str) -> Arrays | None:
        """What was kept under a key; None where nothing was, or what is there is damaged."""
        try:
            data = self._files.get(self._path(key))
        except StoreError:
            return None
        return None if data is None else unpacked(data)

    def put(self, key: str, arrays: Mapping[str, Any]) -> None:
        """Keep arrays. After a failure nothing more is kept: labels need the room, and say so themselves."""
        if not self._writes:
            return
        packed = pack(arrays)
        try:
            self._files.put(self._path(key), sha256(packed).digest() + packed)
        except StoreError as error:
            self._writes = False
            log.warning("geometry is no longer kept in the store: %s", error)

    def _path(self, key: str) -> str:
        return f"{self._folder}/{key[:2]}/{key}.zst"


def unpacked(data: bytes) -> Arrays | None:
    """Arrays of a file's content; None where it is damaged."""
    digest, packed = data[:_DIGEST], data[_DIGEST:]
    return unpack(packed, MOST_BYTES) if sha256(packed).digest() == digest else None
