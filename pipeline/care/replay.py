"""`lift3d replay`: label one frame again with its run's own settings, and compare it with the row in the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from glob import escape
from time import perf_counter
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from pipeline.care.access import open_store
from pipeline.care.rows import find_row
from pipeline.store.codec import encode_record
from pipeline.store.paths import operator_slug, parse
from pipeline.store.query import label_paths, read_run
from schemas.config import LabelingConfig, parse_config
from schemas.errors import FrameError, StoreError
from schemas.store import LABEL_SCHEMA, StoreMetadata

if TYPE_CHECKING:
    from schemas.record import LabelRecord
    from schemas.scene import Chunk

ASIDE = ("run_id", "created_at", "schema_version")
"""Columns that say when a row was made."""
PIXELS = ("label", "features", "image", "scalar", "confidence")

RETIRED = (("plan", "only_quarantined"), ("engine", "scratch_gb"))
"""Config keys of runs before this version; none of them changed a label."""


@dataclass(frozen=True, slots=True)
class Replay:
    """A frame that was labelled again.

    Attributes:
        operator, scene, frame: which one.
        equal: whether prediction and confidence are bit for bit those of the store.
        differs: columns that are not.
        reasons: what has probably changed since; empty where nothing differs.
        seconds: how long it took.
    """

    operator: str
    scene: str
    frame: str
    equal: bool
    differs: tuple[str, ...]
    reasons: tuple[str, ...]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return {name: getattr(self, name) for name in self.__slots__}

    def text(self) -> str:
        """As lines of text."""
        where = f"{self.operator} {self.scene} {self.frame}"
        verdict = "bit-equal prediction and confidence" if self.equal else "another prediction or confidence"
        lines = [f"{where}: {verdict} ({self.seconds:.1f} s)"]
        lines += [f"  differs: {', '.join(self.differs)}"] if self.differs else []
        return "\n".join([*lines, *(f"  because: {reason}" for reason in self.reasons)])


def replay(uri: str, scene: str, frame: str, *, operator: str | None = None, source: str | None = None) -> Replay:
    """Label one frame again, on the CPU and with the config of the run that labelled it. Writes nothing.

    Args:
        uri: the store; scene, frame: which row.
        operator: whose label (slug or SPEC), where the store holds several.
        source: where the dataset is now, where it is not where the run found it.

    Raises `StoreError` where the row or its run's document is missing, and what reading the dataset, building the
    operator and labelling the frame raise.
    """
    started = perf_counter()
    slug, row, metadata = _row(uri, scene, frame, operator)
    document = read_run(uri, str(row["run_id"]))
    config = _config(document, scene, source, slug)
    chunk = _chunk(config, scene, frame)
    fresh = encode_record(_record(config, chunk), metadata.label_set, "replay", datetime.now(UTC))
    differs = tuple(n for n in LABEL_SCHEMA.names if n not in ASIDE and not _same(row[n], fresh.get(n)))
    equal = not set(differs) & set(PIXELS)
    reasons = tuple(_reasons(differs, document))
    return Replay(slug, scene, frame, equal, differs, reasons, round(perf_counter() - started, 3))


def _row(uri: str, scene: str, frame: str, operator: str | None) -> tuple[str, dict[str, Any], StoreMetadata]:
    """Slug, row and metadata of the label. Raises `StoreError` unless there is exactly one."""
    files = open_store(uri)
    shelves: dict[str, list[str]] = {}
    for path in label_paths(files, scene, operator):
        if place := parse(path):
            shelves.setdefault(place[1].slug, []).append(path)
    found = [(slug, label) for slug, paths in shelves.items() if (label := find_row(files, paths, frame, blobs=True))]
    if len(found) == 1:
        slug, (_, row, metadata) = found[0]
        return slug, row, metadata
    slugs = ", ".join(sorted(slug for slug, _ in found))
    raise StoreError(
        f"{len(found)} operators have labelled it: {slugs}" if found else "the store has no label of it",
        scene=scene,
        frame=frame,
        remedy="choose one with --operator" if found else "`lift3d explain STORE SCENE FRAME` says why",
    )


def _config(document: Mapping[str, Any], scene: str, source: str | None, slug: str) -> LabelingConfig:
    """The run's config, for this scene and operator alone, here and on the CPU, with an empty store: all is to do."""
    values = document.get("config")
    if not isinstance(values, dict):
        raise StoreError("the run's document has no config", scene=scene, remedy="label the frame again")
    sections = {name: dict(value) if isinstance(value, dict) else value for name, value in values.items()}
    sections["source"] = source or sections.get("source", "")
    sections["store"] = f"memory://lift3d-replay-{uuid4().hex}"
    sections.setdefault("reader", {}).update({"scenes": escape(scene), "limit": None})
    for section, key in RETIRED:
        sections.get(section, {}).pop(key, None)
    sections.setdefault("plan", {}).update({"chunk": 1})
    sections.setdefault("engine", {}).update({"kind": "local", "device": "cpu", "scratch": "none"})
    each = parse_config(sections).each()
    return next((config for config in each if operator_slug(config.operator.sole) == slug), each[0])


def _chunk(config: LabelingConfig, scene: str, frame: str) -> Chunk:
    from pipeline.store import Store
    from pipeline.survey import survey

    for chunk in survey(config, Store(config.store)).chunks:
        if chunk.scene == scene and chunk.target_ids == (frame,):
            return chunk
    raise StoreError(
        f"{config.source} does not have it as a usable frame any more",
        scene=scene,
        frame=frame,
        remedy="name the dataset with --source, or see `lift3d inspect SOURCE`",
    )


def _record(config: LabelingConfig, chunk: Chunk) -> LabelRecord:
    """With as many threads as a worker has: sums of floats depend on it."""
    import torch

    from pipeline.engines.worker import threads_of
    from pipeline.labeler import Labeler

    threads = torch.get_num_threads()
    torch.set_num_threads(threads_of(config.engine))
    try:
        result = Labeler(config).label(chunk)
    finally:
        torch.set_num_threads(threads)
    if not result.records:
        (row,) = result.quarantined
        raise FrameError(row.reason, f"it cannot be labelled now: {row.message}", scene=row.scene, frame=row.frame)
    return result.records[0]


def _same(stored: Any, fresh: Any) -> bool:
    """Whether a value read from the store is one that was just made, by what the column can hold."""
    if fresh is None or stored is None:
        return stored is None if fresh is None else False
    if isinstance(fresh, bytes | str):
        return bool(stored == fresh)
    if isinstance(fresh, float):
        return bool(np.float32(stored) == np.float32(fresh))
    return list(np.ravel(stored)) == list(np.ravel(fresh))


def _reasons(differs: tuple[str, ...], run: Mapping[str, Any]) -> list[str]:
    """What has probably changed since the run, from the differing columns and the run's document."""
    from pipeline.telemetry.document import versions

    known = {
        "operator_fingerprint": "the operator has other weights, settings or code",
        "model_sha256": "the lift uses another checkpoint",
        "K": "the dataset's cameras changed",
        "world_from_cam": "the dataset's poses changed",
        "height": "the images have another size",
        "width": "the images have another size",
        "sources": "other source views are chosen: frames, cameras or depth maps of the scene changed",
        "image_uri": "the image is at another address",
    }
    reasons = [reason for column, reason in known.items() if column in differs]
    if "fingerprint" in differs and not reasons:
        reasons.append("images, depth maps or cameras of its views changed, or this version labels in another way")
    if set(differs) & set(PIXELS):
        was, now = run.get("versions"), versions()
        changed = {name: (was.get(name), now[name]) for name in now if was.get(name) != now[name]} if was else {}
        reasons += [f"{name} was {before}, is {after}" for name, (before, after) in sorted(changed.items())]
        device = (run.get("engine") or {}).get("device", "cpu")
        reasons += [f"the run computed on {device}, this was done on the CPU"] if device != "cpu" else []
        if not reasons:
            reasons.append("a source view was missing then or is now, or an image changed without its size")
    return list(dict.fromkeys(reasons))
