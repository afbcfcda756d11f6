"""What operators that look at whole images have in common: bytes, smaller images, brought files, and their digests."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.operators.grid import pad_to_stride
from schemas.errors import MissingWeightsError

if TYPE_CHECKING:
    from torch import Tensor


def smaller(maps: Tensor, stride: int) -> Tensor:
    """[B, C, H, W] -> means over cells [B, C, h, w], on the exact grid."""
    from torch.nn.functional import avg_pool2d

    return maps if stride == 1 else avg_pool2d(pad_to_stride(maps, stride), stride)


def as_bytes(image: Tensor) -> NDArray[np.uint8]:
    """[3, H, W] in [0, 1] -> contiguous uint8 [H, W, 3]."""
    return np.ascontiguousarray((image * 255).round().byte().permute(1, 2, 0).cpu().numpy())


def brought_file(path: str | Path, what: str) -> Path:
    """The path of a file that the user brings. Raises `MissingWeightsError` where there is none."""
    found = Path(path).expanduser()
    if not found.is_file():
        raise MissingWeightsError(f"{what}: there is no file {found}", remedy="name the file of weights in the SPEC")
    return found


def file_digest(*paths: Path) -> str:
    """Twelve hex digits over the files' content: what a fingerprint says of weights that the user brings."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]
