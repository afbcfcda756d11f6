"""Finished measurements, one JSON file each: a benchmark that was stopped goes on where it was.

A cell is measured again where its key (settings, contract version, checkpoint) is another than the one it was
measured with, or where it could not be measured before.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from schemas.errors import Lift3DError

NOT_MEASURED = "not_measured"
"""Key of a cell's values that says why there are none."""

Values = dict[str, Any]

log = logging.getLogger("lift3d")


@dataclass(frozen=True, slots=True)
class Cells:
    """The measurements in a folder.

    Attributes:
        folder: where `cells/` is, made where absent.
        stamp: what every key begins with: versions of contract and benchmark.
        fresh: whether to measure again whatever is there.
    """

    folder: Path
    stamp: Values
    fresh: bool = False

    def measure(self, part: str, labels: Values, key: Values, work: Callable[[], Values]) -> Values:
        """The cell's values: those on file, or what `work` measures.

        Args:
            part: letter of the table that the cell belongs to.
            labels: what identifies the cell among its part's: scene, mode, ... (short plain values).
            key: everything else that its values depend on.
            work: measures; an error that the project raises on purpose becomes "not measured: why".
        """
        path = self.folder / "cells" / part / f"{'-'.join(_slug(value) for value in labels.values())}.json"
        wanted = json.loads(json.dumps({**self.stamp, **key}))
        known = _read(path)
        if known and known["key"] == wanted and NOT_MEASURED not in known["values"] and not self.fresh:
            values: Values = known["values"]
            return values
        started = perf_counter()
        try:
            values = plain(work())
        except Lift3DError as error:
            values = {NOT_MEASURED: str(error)}
        seconds = round(perf_counter() - started, 2)
        _write(path, {"part": part, "labels": labels, "key": wanted, "seconds": seconds, "values": values})
        log.info("%s %s: %.1f s", part, " ".join(map(str, labels.values())), seconds)
        return values

    def all(self) -> Iterator[Values]:
        """Every cell on file that this version of the code measured: part, labels, key, seconds, values."""
        for path in sorted((self.folder / "cells").glob("*/*.json")):
            cell = _read(path)
            if cell and all(cell["key"].get(name) == value for name, value in self.stamp.items()):
                yield cell


def plain(value: Any) -> Any:
    """Plain JSON types; NaN and infinity become null."""
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _slug(value: Any) -> str:
    return "".join(letter if letter.isalnum() or letter in "._" else "_" for letter in str(value))


def _read(path: Path) -> Values | None:
    """A cell, or None where there is none that can be used (a file cut short is measured again)."""
    try:
        cell = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return cell if isinstance(cell, dict) and {"part", "labels", "key", "values"} <= cell.keys() else None


def _write(path: Path, cell: Values) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(cell), encoding="utf-8")
    partial.replace(path)
