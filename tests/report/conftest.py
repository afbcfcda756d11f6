"""Stores written by hand: frames of every kind, with names that try to break out of the page."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.store import RunStamp, Store, operator_slug
from schemas.camera import Camera
from schemas.errors import Reason
from schemas.label_sets import LabelSet, label_set
from schemas.record import LabelRecord, QuarantineRecord
from schemas.scene import Asset, Chunk, Frame
from schemas.store import Kind, StoreMetadata

H, W = 24, 32
RUN = RunStamp("run-000", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))


class Shop:
    """Writes small stores below a folder that also holds the images."""

    def __init__(self, root: Path) -> None:
        self.root = root
        cv2.imwrite(str(root / "image.png"), np.full((H, W, 3), (40, 120, 200), np.uint8))

    def frame(self, name: str, image: str = "image.png") -> Frame:
        K = np.array([[30.0, 0, W / 2], [0, 30, H / 2], [0, 0, 1]])
        return Frame(name, Camera(K, np.eye(4), H, W), Asset(str(self.root / image)))

    def write(
        self,
        store: str,
        frames: list[Frame],
        *,
        scene: str = "room",
        spec: str = "indoor",
        kind: Kind = "classes",
        labels: LabelSet | None = None,
    ) -> str:
        """A store whose frame i has consistency 1 - i / 10; the labels are half wall, half floor."""
        uri = str(self.root / store)
        target = Store(uri)
        target.prepare()
        slots = tuple(range(len(frames)))
        chunk = Chunk(scene, "000000", tuple(frames), slots, ((),) * len(frames), tuple(map(str, slots)))
        metadata = StoreMetadata(
            scene=scene,
            operator=spec,
            kind=kind,
            label_set=(labels or label_set("nyu40")) if kind == "classes" else None,
            provenance={"lift": {"method": "depth"}},
        )
        records = [self._record(frame, i, kind) for i, frame in enumerate(frames)]
        target.write(operator_slug(spec), chunk, records, metadata, RUN)
        return uri

    def quarantine(self, store: str, frame: str, message: str) -> None:
        row = QuarantineRecord("room", frame, "indoor", "read", Reason.POSE_NOT_FINITE, message)
        Store(str(self.root / store)).quarantine("indoor", [row], RUN)

    def _record(self, frame: Frame, number: int, kind: Kind) -> LabelRecord:
        rng = np.random.default_rng(number)
        value = {
            "classes": np.where(np.arange(W) < W // 2, 1, 2).astype(np.uint8)[None].repeat(H, 0),
            "features": rng.normal(size=(6, 3, 4)).astype(np.float32),
            "image": rng.integers(0, 256, (H, W, 3), dtype=np.uint8),
            "scalar": rng.uniform(0, 9, (H, W)).astype(np.float32),
        }[kind]
        return LabelRecord(
            frame=frame,
            kind=kind,
            value=value,
            confidence=np.full((H, W), 0.5, np.float32),
            consistency=1 - number / 10,
            changed=0.25 if kind == "classes" else None,
            sources=(),
            lift_mode="depth-label",
            model_sha256=None,
            operator_fingerprint="operator-1",
            fingerprint=str(number),
        )


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


@pytest.fixture
def page(shop: Shop) -> Callable[..., str]:
    """The report of a store as text."""
    from pipeline.report.report import write_report

    def write(store: str, **options: object) -> str:
        return write_report(store, shop.root / "out" / "report.html", **options).read_text(encoding="utf-8")

    return write
