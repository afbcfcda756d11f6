"""Ground truth as NYU40 ids, from label files that hold them or that hold ScanNet's raw ids."""

from __future__ import annotations

import csv
import io
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pipeline.assets import decode_ids, read_bytes
from schemas.config import ReaderConfig
from schemas.errors import ConfigError, FrameError, Reason
from schemas.scene import Asset, Frame

NYU40_CLASSES = 40
_COLUMNS = ("id", "nyu40id")
_NOT_LISTED = 65535
_USE_TSV = "--set reader.labels=raw --set reader.label_tsv=PATH/scannetv2-labels.combined.tsv"


def ground_truth(frame: Frame, config: ReaderConfig) -> NDArray[np.uint16]:
    """NYU40 ids of a frame, 0 where there is no label: [H, W] of the label file, whose size may not be the image's.

    Raises FrameError (label_unreadable) and, where the ids are not what `config.labels` says, ConfigError.
    """
    if frame.label is None:
        raise FrameError(
            Reason.LABEL_UNREADABLE, "the frame has no ground truth", frame=frame.id, remedy="choose another dataset"
        )
    ids = decode_ids(frame.label)
    return _from_raw(ids, frame.label.uri, config) if config.labels == "raw" else _checked(ids, frame.label.uri)


def _checked(ids: NDArray[np.uint16], uri: str) -> NDArray[np.uint16]:
    highest = int(ids.max())
    if highest > NYU40_CLASSES:
        raise ConfigError(
            f"label map {uri} holds id {highest}, expected NYU40 ids (0 to {NYU40_CLASSES})",
            remedy=f"ScanNet's own label files hold raw ids: pass {_USE_TSV}",
        )
    return ids


def _from_raw(ids: NDArray[np.uint16], uri: str, config: ReaderConfig) -> NDArray[np.uint16]:
    if config.label_tsv is None:
        raise ConfigError("reader.labels is raw, but reader.label_tsv is not set", remedy=f"pass {_USE_TSV}")
    mapped = _nyu40_of_raw(config.label_tsv)[ids]
    if (mapped == _NOT_LISTED).any():
        missing = np.unique(ids[mapped == _NOT_LISTED])[:5].tolist()
        raise ConfigError(
            f"label map {uri} holds ids {missing} that {config.label_tsv} does not list",
            remedy="use the current scannetv2-labels.combined.tsv, or reader.labels=nyu40 where files hold NYU40 ids",
        )
    return mapped


@lru_cache(maxsize=4)
def _nyu40_of_raw(tsv: str) -> NDArray[np.uint16]:
    """[65536] raw ScanNet id -> NYU40 id, `_NOT_LISTED` for ids without a row."""
    table = np.full(65536, _NOT_LISTED, np.uint16)
    table[0] = 0
    try:
        rows = csv.DictReader(io.StringIO(read_bytes(Asset(tsv)).decode("utf-8")), delimiter="\t")
        for row in rows:
            raw, nyu40 = (int(row[column]) for column in _COLUMNS)
            if not 0 <= nyu40 <= NYU40_CLASSES:
                raise ValueError(f"nyu40id {nyu40} of id {raw} is not in 0..{NYU40_CLASSES}")
            table[raw] = nyu40
    except (FrameError, KeyError, TypeError, ValueError, IndexError, csv.Error) as error:
        problem = error.message if isinstance(error, FrameError) else f"{type(error).__name__}: {error}"
        raise ConfigError(
            f"reader.label_tsv {tsv} cannot be used: {problem}",
            remedy="expected scannetv2-labels.combined.tsv: tab-separated, with columns id and nyu40id",
        ) from None
    return table
