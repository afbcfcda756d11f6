"""What keeping a view's prediction in scratch space costs: from how dear an operator on it is worth it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

from pipeline.benchmark.table import Cell, Table
from pipeline.scratch import MOST_BYTES, Scratch, discard

SIZES: dict[str, tuple[str, tuple[int, ...]]] = {
    "class ids 320x240": ("ids", (240, 320)),
    "class ids 1296x968": ("ids", (968, 1296)),
    "64 channels, 320x240, stride 14": ("features", (64, 18, 23)),
    "384 channels, 640x480, stride 14": ("features", (384, 35, 46)),
    "1024 channels, 1296x968, stride 14": ("features", (1024, 70, 93)),
}
"""What is kept of a view."""
REPEATS = 7


def keeping(folder: Path, rounds: int) -> Table:
    """Seconds to keep and to read back what an operator made of a view, by what it made."""
    rows: list[tuple[Cell, ...]] = []
    for title, (name, shape) in SIZES.items():
        values = _class_map(shape) if name == "ids" else np.random.default_rng(0).normal(size=shape).astype(np.float32)
        rows.append((title, *_row(folder, {name: values}, rounds)))
    columns = ("what is kept of a view", "MB on disk", "keeping ms", "reading back ms", "worth it from operator ms")
    return Table("What keeping predictions costs", columns, tuple(rows))


def _row(folder: Path, values: dict[str, np.ndarray], rounds: int) -> tuple[str, ...]:
    scratch, numbers = Scratch(folder, "keeping", MOST_BYTES), count()
    put = _seconds(lambda: scratch.put("encoded", f"{next(numbers):04d}", values), rounds)
    get = _seconds(lambda: scratch.get("encoded", "0000"), rounds)
    size = sum(path.stat().st_size for path in (folder / "keeping").rglob("0000"))
    discard(folder, "keeping")
    return f"{size / 1e6:.2f}", *(f"{1000 * seconds:.1f}" for seconds in (put, get, put + get))


def _seconds(call: Callable[[], object], rounds: int) -> float:
    """Median over calls; the first one fills caches."""
    call()
    taken = []
    for _ in range(REPEATS * rounds):
        started = perf_counter()
        call()
        taken.append(perf_counter() - started)
    return median(taken)


def _class_map(shape: tuple[int, ...]) -> np.ndarray:
    """Regions of classes with noise in them: what compresses as class maps do."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 40, (12, 16)).repeat(-(-shape[0] // 12), 0).repeat(-(-shape[1] // 16), 1)
    ids = coarse[: shape[0], : shape[1]].astype(np.int16)
    noisy = rng.random(shape) < 0.02
    ids[noisy] = rng.integers(0, 40, int(noisy.sum()))
    return ids
