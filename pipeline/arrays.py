"""Named arrays as bytes and back, to the bit: what is kept of work on views."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[np.generic]]

_LEVEL = 1


def pack(arrays: Mapping[str, Any]) -> bytes:
    """Arrays by name as safetensors, compressed by zstd."""
    import numpy as np
    import pyarrow as pa
    from safetensors.numpy import save

    plain = save({name: np.ascontiguousarray(values) for name, values in arrays.items()})
    packed: bytes = pa.Codec("zstd", _LEVEL).compress(plain, asbytes=True)
    return packed


def unpack(data: bytes, most: int | None = None) -> Arrays | None:
    """Inverse of `pack`; None for anything else, and for what is larger than `most` bytes once it is unpacked."""
    import pyarrow as pa
    from safetensors import SafetensorError
    from safetensors.numpy import load

    with (
        suppress(OSError, SafetensorError),  # Arrow's errors of damaged streams are OSErrors
        pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream,
    ):
        plain = stream.read(None if most is None else most + 1)
        if most is None or len(plain) <= most:
            found: Arrays = load(plain)
            return found
    return None
