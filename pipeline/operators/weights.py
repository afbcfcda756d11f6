"""Weights of models: one digest, one cache folder, and what loading them from a file that is not one may raise."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING

from safetensors import SafetensorError

if TYPE_CHECKING:
    from torch import Tensor

LOAD_ERRORS = (OSError, RuntimeError, AssertionError, EOFError, KeyError, UnpicklingError, SafetensorError)
"""What timm, open_clip, torch and safetensors raise for weights that are absent, damaged or another model's."""
LONGEST_HEADER = 2 * 2**20
"""Bytes of a safetensors header: a checkpoint of this project has a few thousand."""


def check_header(content: bytes) -> None:
    """Raise ValueError where a safetensors file's JSON header is too large to be one: parsing it would take memory."""
    length = int.from_bytes(content[:8], "little")
    if length > LONGEST_HEADER:
        raise ValueError(
            "expected a safetensors file, found bytes that do not begin like one "
            f"(a header of {length:,} bytes; at most {LONGEST_HEADER:,} are read)"
        )


def check_finite(weights: Mapping[str, Tensor]) -> None:
    """Raise ValueError where a tensor holds NaN or infinity."""
    import torch

    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"tensor {name!r} holds infinite or NaN values")


def tensors_sha256(weights: Mapping[str, Tensor]) -> str:
    """One digest of names, types, shapes and values, whatever file and device they came from."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().data)
    return digest.hexdigest()


def cache_folder() -> Path:
    """Where converted weights are kept: $LIFT3D_CACHE, else ~/.cache/lift3d (or under $XDG_CACHE_HOME)."""
    if "LIFT3D_CACHE" in os.environ:
        return Path(os.environ["LIFT3D_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lift3d"


def save_tensors(weights: dict[str, Tensor], path: Path) -> None:
    """Write whole or not at all; a cache that cannot be written costs time on the next start, no more."""
    from safetensors.torch import save_file

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            save_file(weights, f"{folder}/weights.safetensors")
            os.replace(f"{folder}/weights.safetensors", path)
    except OSError:
        return


def summary(error: Exception) -> str:
    """The error in one line of moderate length."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:240]
