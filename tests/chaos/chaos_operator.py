"""An operator that suffers what a plan says; its process writes down every unit of work, and fails to store at times.

Workers import it as `chaos.chaos_operator`. Nothing of the product knows of it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

import torch

from schemas.errors import StoreError
from schemas.label_sets import label_set


class Chaotic:
    """Bright pixels are wall, others floor. `faults` (frame id -> what happens there) does not change its labels.

    Args:
        log: file that gets a line for every frame that a unit of work begins and ends with, and every hang and death.
        faults: raise, exit, hang, or once (exit, the first time that any process meets the frame).
        seconds: per call of `encode`, so that there is time to be killed in.
        failing_put: which write to storage fails, counted over all processes; none where it is 0.
    """

    name, stride, kind, label_set = "chaotic", 4, "classes", label_set("nyu40")

    def __init__(self, log: str, faults: Mapping[str, str] | None = None, seconds: float = 0.0, failing_put: int = 0):
        self.log, self.faults, self.seconds = log, dict(faults or {}), seconds
        _watch(log, failing_put)

    def encode(self, batch: Any) -> torch.Tensor:
        """[B, 3, H, W] -> scores [B, 40, H / 4, W / 4]."""
        for frame in batch.frames:
            self._suffer(f"{batch.scene}/{frame}")
        time.sleep(self.seconds)
        grey = torch.nn.functional.avg_pool2d(batch.images.mean(1, keepdim=True), self.stride)
        scores = torch.zeros(len(batch.frames), len(self.label_set.ids), *grey.shape[-2:])
        scores[:, :1], scores[:, 1:2] = grey, 1 - grey
        return scores

    def _suffer(self, frame: str) -> None:
        fault = self.faults.get(frame)
        if fault == "raise":
            raise RuntimeError("no luck")
        if fault == "hang":
            note(self.log, "fault", frame)
            time.sleep(600)
        if fault == "exit" or (fault == "once" and _first(f"{self.log}.{frame.replace('/', '-')}")):
            note(self.log, "fault", frame)
            os._exit(7)

    def decode(self, features: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Scores at image size."""
        return torch.nn.functional.interpolate(features, size, mode="bilinear", align_corners=False)

    def fingerprint(self) -> str:
        """The same for all: faults pass."""
        return "chaotic-1"


def note(log: str, event: str, *subjects: str) -> None:
    """Append a line for each subject, at once; several processes do."""
    with open(log, "a", encoding="utf-8") as file:
        file.write("".join(f"{event} {subject} {os.getpid()}\n" for subject in subjects))


def _first(path: str) -> bool:
    """Whether nobody asked for this path before."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def _watch(log: str, failing_put: int) -> None:
    """Wrap what workers and storage do in this process, anew for each operator that is built."""
    from pipeline.engines.worker import Worker
    from pipeline.store.files import LocalFiles, RemoteFiles

    run = getattr(Worker.run, "__wrapped__", Worker.run)
    Worker.run = _noted(run, log)  # type: ignore[method-assign]
    for files in (LocalFiles, RemoteFiles):
        put = getattr(files.put, "__wrapped__", files.put)
        files.put = _failing(put, log, failing_put)  # type: ignore[method-assign]


def _noted(run: Callable[..., Any], log: str) -> Callable[..., Any]:
    @wraps(run)
    def noted(self: Any, unit: Any, begun: int = 1) -> Any:
        targets = [f"{unit.chunk.scene}/{frame}" for frame in unit.chunk.target_ids]
        note(log, "begin", *targets)
        status = run(self, unit, begun)
        note(log, "end", *targets)
        return status

    return noted


def _failing(put: Callable[..., None], log: str, number: int) -> Callable[..., None]:
    counter = Path(f"{log}.puts")

    @wraps(put)
    def failing(self: Any, path: str, data: bytes, timeout_s: float | None = None) -> None:
        if number:
            with counter.open("ab") as file:
                file.write(b".")
                if file.tell() == number:
                    note(log, "storage", path.replace(" ", "_"))
                    raise StoreError(f"cannot write {path}: no space left", remedy="none: a test made it fail")
        put(self, path, data, timeout_s)

    return failing
