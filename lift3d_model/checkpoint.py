"""Checkpoints of the trained lift: named groups of tensors and their config, in one safetensors file.

The format is read and written here, so that a machine with torch and numpy alone can do both: eight bytes of header
length, a JSON header (name -> type, shape, place; free text under `__metadata__`), then the tensors' bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.resources import files
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "|u1", "BOOL": "|b1"}
SHIPPED = "lift3d.safetensors"
FORMAT = "lift3d-checkpoint-1"


class CheckpointError(ValueError):
    """A file that is no checkpoint of this model: what was expected and what was found."""


@dataclass(frozen=True)
class Checkpoint:
    """Trained weights.

    Attributes:
        tensors: by `<group>.<name>`; a group (`weighting`, `refiner`) is one part of the model.
        config: settings that the parts were trained with, as plain JSON types.
    """

    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any] = field(default_factory=dict)

    def group(self, name: str) -> dict[str, Tensor]:
        """A part's tensors by their own names; empty where the checkpoint does not hold that part."""
        prefix = f"{name}."
        return {key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)}

    def to_bytes(self) -> bytes:
        """The file's content."""
        return write_tensors(self.tensors, {"format": FORMAT, "config": json.dumps(self.config, sort_keys=True)})

    @staticmethod
    def from_bytes(content: bytes) -> Checkpoint:
        """Inverse of `to_bytes`. Raises `CheckpointError`."""
        tensors, metadata = read_tensors(content)
        found = metadata.get("format")
        if found != FORMAT:
            raise CheckpointError(f"expected format {FORMAT!r} in the file's metadata, found {found!r}")
        return Checkpoint(tensors, json.loads(metadata.get("config", "{}")))


def shipped_bytes() -> bytes | None:
    """Content of the checkpoint that comes with the package, None where the package carries none."""
    path = files("lift3d_model") / "data" / SHIPPED
    return path.read_bytes() if path.is_file() else None


def digest(content: bytes) -> str:
    """Hex sha256 of a checkpoint file: what labels record as their model."""
    return sha256(content).hexdigest()


def write_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Tensors by name and texts as one safetensors file; equal content gives equal bytes."""
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    body, names = bytearray(), {dtype: name for name, dtype in DTYPES.items()}
    for name in sorted(tensors):
        array = tensors[name].detach().cpu().contiguous().numpy()
        start = len(body)
        body += array.tobytes()
        header[name] = {"dtype": names[array.dtype.str], "shape": list(array.shape), "data_offsets": [start, len(body)]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + bytes(body)


def read_tensors(content: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Inverse of `write_tensors`. Raises `CheckpointError` for anything that is not such a file, whole."""
    length = int.from_bytes(content[:8], "little")
    if not 2 <= length <= len(content) - 8:
        raise CheckpointError(f"expected a safetensors file, found {len(content)} bytes that do not begin like one")
    try:
        header = json.loads(content[8 : 8 + length])
        metadata = header.pop("__metadata__", {})
        body = memoryview(content)[8 + length :]
        return {name: _tensor(name, entry, body) for name, entry in header.items()}, metadata
    except CheckpointError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"expected a safetensors header, found one that cannot be read: {error!r}") from None


def _tensor(name: str, entry: Mapping[str, Any], body: memoryview) -> Tensor:
    dtype, (start, end) = np.dtype(DTYPES[entry["dtype"]]), entry["data_offsets"]
    shape = tuple(entry["shape"])
    if not 0 <= start <= end <= len(body) or end - start != prod(shape) * dtype.itemsize:
        raise CheckpointError(f"tensor {name!r} of shape {shape}: expected it whole, found {len(body)} bytes in all")
    return torch.from_numpy(np.frombuffer(body[start:end], dtype).reshape(shape).copy())
