"""Weights of models: one digest, one cache folder, and what loading them from a file that is not one may raise."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING

from safetensors import SafetensorError

if TYPE_CHECKING:
    from torch import Tensor

LOAD_ERRORS = (OSError, RuntimeError, AssertionError, EOFError, KeyError, UnpicklingError, SafetensorError)
"""What timm, open_clip, torch and safetensors raise for weights that are absent, damaged or another model's."""


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


def summary(error: Exception) -> str:
    """The error in one line of moderate length."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:240]
