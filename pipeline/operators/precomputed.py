"""`precomputed:DIR`: lift predictions that exist already, one file a frame, DIR/{scene}/{frame}.png or .npy."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from pipeline.assets import filesystem, storage_errors
from pipeline.operators.grid import pad_to_stride, upsample
from pipeline.operators.prediction_files import UnreadableError, decode_ids, decode_map, decode_rgb, resize_nearest
from schemas.errors import ConfigError, ContractError, FrameError, OperatorError, Reason
from schemas.label_sets import LabelSet, label_set, label_set_names
from schemas.store import Kind

if TYPE_CHECKING:
    from torch import Tensor

    from schemas.scene import FrameBatch

VERSION = 1
"""Version of what encode and decode do with a file; part of the fingerprint."""
HASHED_BYTES = 256 * 2**20
"""Folders up to this size are fingerprinted by content, larger ones by file sizes and times of change."""
_AGAIN = "write the file again, as docs/operators.md says"
_KINDS: dict[str, tuple[Kind, ...]] = {".png": ("classes", "image"), ".npy": ("features", "classes", "image", "scalar")}


@dataclass(frozen=True, slots=True)
class _Source:
    """A frame's prediction file."""

    scene: str
    frame: str
    path: str


class Precomputed:
    """Predictions of another program as an operator.

    Args:
        directory: local folder or fsspec URI that holds {scene}/{frame}.png or {scene}/{frame}.npy.
        label_set: name of the label set that class ids belong to ("nyu40"); required where kind is "classes".
        kind: what the files hold. PNG: "classes" (ids in 8 or 16 bits, the default) or "image" (RGB). NPY, [C, h, w]:
            "features" (the default without a label set), "classes" (scores, channel k = k-th class; the default with
            one), "image" ([3, h, w] in [0, 1]) or "scalar" ([1, h, w]).
        stride: pixels a cell. NPY maps must be [C, ceil(H / stride), ceil(W / stride)]. PNG pictures may have any
            size; a stride above 1 averages their one-hot maps over the cells, which saves memory.
        device: torch device of what `encode` returns.

    Raises OperatorError where the folder holds no predictions, ConfigError where the settings do not fit them.
    """

    name = "precomputed"
    reads_files = True

    def __init__(
        self,
        directory: str,
        *,
        label_set: str | None = None,
        kind: Kind | None = None,
        stride: int = 1,
        device: str = "cpu",
    ) -> None:
        self._fs, self._root = filesystem(directory)
        self.directory = directory
        self.stride = stride
        self.device = device
        self._suffix = self._only_suffix()
        default: Kind = "classes" if label_set or self._suffix == ".png" else "features"
        self.kind: Kind = kind or default
        self.label_set = self._choose_label_set(label_set)

    def encode(self, batch: FrameBatch[Tensor]) -> Tensor:
        """Load the frames' files: [B, K or C, ceil(H / stride), ceil(W / stride)] float32.

        Class ids become one-hot: channel k is `label_set.ids[k]`, pixels with the ignore id are zero throughout.
        Raises FrameError (file missing or unreadable) and ContractError (what it holds does not fit).
        """
        import torch

        size = (int(batch.images.shape[-2]), int(batch.images.shape[-1]))
        return torch.stack([self._encode_frame(batch.scene, frame, size) for frame in batch.frames])

    def class_indices(self, batch: FrameBatch[Tensor]) -> Tensor | None:
        """[B, H, W] int16 indices of pictures of ids, -1 for the ignore id: what `encode` one-hot would come to, in a
        fraction of its memory. None where ids are averaged over cells or files hold scores. Raises as `encode` does."""
        import torch

        if self.label_set is None or self._suffix != ".png" or self.stride != 1:
            return None
        size = (int(batch.images.shape[-2]), int(batch.images.shape[-1]))
        indices = [self._indices(self._source(batch.scene, frame), size) for frame in batch.frames]
        return torch.stack(indices).to(self.device)

    def decode(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Lifted maps [B, C, h, w] as they are (features), or bilinear at `size` = (H, W) (all other kinds)."""
        return features if self.kind == "features" else upsample(features, self.stride, size)

    def fingerprint(self) -> str:
        """Settings and files. Small folders (`HASHED_BYTES`) by content, larger ones by names, sizes and times."""
        return self._fingerprint

    def _encode_frame(self, scene: str, frame: str, size: tuple[int, int]) -> Tensor:
        import torch

        source = self._source(scene, frame)
        if self._suffix == ".npy":
            with _readable(source):
                return torch.from_numpy(self._check_map(decode_map(self._read(source)), source)).to(self.device)
        return self._pool(self._picture_maps(source, size).to(self.device))

    def _picture_maps(self, source: _Source, size: tuple[int, int]) -> Tensor:
        """PNG -> one-hot [K, H, W] or RGB [3, H, W]."""
        if self.label_set is None:
            with _readable(source):
                return _as_unit_rgb(resize_nearest(decode_rgb(self._read(source)), size))
        return _one_hot(self._indices(source, size), len(self.label_set.ids))

    def _indices(self, source: _Source, size: tuple[int, int]) -> Tensor:
        """PNG -> [H, W] int16 class indices, -1 where the ignore id is."""
        import torch

        assert self.label_set is not None
        with _readable(source):
            ids = decode_ids(self._read(source))
        _check_ids(ids, self.label_set, source)
        index = np.full(max(*self.label_set.ids, self.label_set.ignore_id) + 1, -1, np.int16)
        index[list(self.label_set.ids)] = np.arange(len(self.label_set.ids))
        return torch.from_numpy(index[resize_nearest(ids, size)])

    def _pool(self, maps: Tensor) -> Tensor:
        """[C, H, W] -> [C, h, w]: the mean over each cell."""
        from torch.nn.functional import avg_pool2d

        if self.stride == 1:
            return maps
        return avg_pool2d(pad_to_stride(maps[None], self.stride), self.stride)[0]

    def _check_map(self, array: NDArray[np.float32], source: _Source) -> NDArray[np.float32]:
        expected = {"classes": len(self.label_set.ids) if self.label_set else 0, "image": 3, "scalar": 1}
        channels = expected.get(self.kind, array.shape[0])
        if array.shape[0] != channels:
            raise ContractError(
                f"prediction {source.path} has {array.shape[0]} channels, expected {channels} (kind {self.kind!r})",
                scene=source.scene,
                frame=source.frame,
                remedy=_AGAIN,
            )
        return array

    def _source(self, scene: str, frame: str) -> _Source:
        relative = f"{scene}/{frame}{self._suffix}"
        if any(part in ("", ".", "..") for part in relative.split("/")) or "\\" in relative:
            raise FrameError(
                Reason.PREDICTION_MISSING,
                f"{relative!r} is no path inside {self.directory}",
                scene=scene,
                frame=frame,
                remedy="rename the scene or the frame",
            )
        return _Source(scene, frame, f"{self._root.rstrip('/')}/{relative}")

    def _read(self, source: _Source) -> bytes:
        try:
            data: bytes = self._fs.cat_file(source.path)
        except FileNotFoundError:
            raise FrameError(
                Reason.PREDICTION_MISSING,
                f"there is no prediction {source.path}",
                scene=source.scene,
                frame=source.frame,
                remedy="write it, named as the dataset names the frame",
            ) from None
        except storage_errors() as error:
            raise FrameError(
                Reason.PREDICTION_UNREADABLE,
                f"prediction {source.path}: {error}",
                scene=source.scene,
                frame=source.frame,
                remedy="check access to the file",
            ) from error
        return data

    @cached_property
    def _files(self) -> Mapping[str, dict[str, Any]]:
        """Prediction files by path relative to the folder."""
        try:
            found = self._fs.find(self._root, detail=True)
        except storage_errors() as error:
            self._no_predictions(str(error))
        start = len(self._root.rstrip("/")) + 1
        return {path[start:]: info for path, info in sorted(found.items()) if path.endswith((".png", ".npy"))}

    @cached_property
    def _fingerprint(self) -> str:
        settings = [self.name, VERSION, self.kind, self.stride, self.label_set and self.label_set.model_dump_json()]
        digest = hashlib.sha256(repr(settings).encode())
        by_content = sum(info["size"] or 0 for info in self._files.values()) <= HASHED_BYTES
        for relative, info in self._files.items():
            changed = None if by_content else info.get("mtime") or info.get("LastModified") or info.get("ETag")
            digest.update(f"\n{relative} {info['size']} {changed} ".encode())
            if by_content:
                digest.update(hashlib.sha256(self._fs.cat_file(info["name"])).digest())
        return f"{self.name}:{digest.hexdigest()}"

    def _only_suffix(self) -> str:
        suffixes = {path[-4:] for path in self._files}
        if not suffixes:
            self._no_predictions("the folder is missing or holds no .png or .npy file")
        if len(suffixes) > 1:
            raise ConfigError(
                f"precomputed:{self.directory} holds .png and .npy files", remedy="keep one kind of file in it"
            )
        return suffixes.pop()

    def _no_predictions(self, found: str) -> NoReturn:
        raise OperatorError(
            f"precomputed:{self.directory}: {found}",
            remedy="expected DIR/{scene}/{frame}.png (class ids) or .npy ([C, h, w]), named as the dataset names them",
        )

    def _choose_label_set(self, name: str | None) -> LabelSet | None:
        where = f"precomputed:{self.directory}"
        if self.kind not in _KINDS[self._suffix]:
            allowed = ", ".join(_KINDS[self._suffix])
            raise ConfigError(f"{where}: kind is {self.kind!r}, {self._suffix} files hold one of: {allowed}")
        if self.kind == "classes" and name is None:
            known = ", ".join(label_set_names())
            raise ConfigError(
                f"{where} holds class ids and no label set says what they mean",
                remedy=f"--set operator.kwargs.label_set=NAME with one of: {known}",
            )
        if self.kind != "classes" and name is not None:
            raise ConfigError(f"{where}: a label set has no meaning where kind is {self.kind!r}")
        return label_set(name) if name is not None else None


@contextmanager
def _readable(source: _Source) -> Iterator[None]:
    """A `with` block in which a file is decoded: one that cannot be is its frame's fault."""
    try:
        yield
    except UnreadableError as error:
        raise FrameError(
            Reason.PREDICTION_UNREADABLE,
            f"prediction {source.path}: {error}",
            scene=source.scene,
            frame=source.frame,
            remedy=_AGAIN,
        ) from None


def _check_ids(ids: NDArray[np.uint16], labels: LabelSet, source: _Source) -> None:
    strangers = sorted(set(np.unique(ids).tolist()) - {*labels.ids, labels.ignore_id})
    if strangers:
        raise ContractError(
            f"prediction {source.path} holds ids {strangers[:8]} that label set {labels.name!r} does not have"
            f" (it has {labels.ids[0]}..{labels.ids[-1]}, and {labels.ignore_id} for none)",
            scene=source.scene,
            frame=source.frame,
            remedy="name the label set of the ids, or map them to it",
        )


def _one_hot(indices: Tensor, classes: int) -> Tensor:
    """[H, W] -> float [K, H, W], zero throughout where the index is -1."""
    import torch

    return (indices[None] == torch.arange(classes, dtype=indices.dtype)[:, None, None]).float()


def _as_unit_rgb(picture: NDArray[np.uint8]) -> Tensor:
    """uint8 [H, W, 3] -> float [3, H, W] in [0, 1]."""
    import torch

    return torch.from_numpy(picture).permute(2, 0, 1).float().div(255)
