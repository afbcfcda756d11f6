"""The training log: one CSV row a report, appended; a resumed run drops rows that it is about to write again."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from lift3d_model.training.state import write_whole

COLUMNS = ("step", "part", "figure", "value")


class Log:
    """Rows (step, part, figure, value) of one file; `part` is train, dev or kept.

    Args:
        path: the CSV file.
        step: rows after this step are left over from a run that was stopped, and are dropped.
    """

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        kept = [row for row in read_log(path) if row[0] <= step] if path.exists() else []
        lines = [",".join(COLUMNS)] + [f"{at},{part},{figure},{value:.6g}" for at, part, figure, value in kept]
        write_whole(path, ("\n".join(lines) + "\n").encode())

    def add(self, step: int, part: str, figures: Mapping[str, float]) -> None:
        """Append one row a figure."""
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(f"{step},{part},{figure},{value:.6g}\n" for figure, value in figures.items())


def read_log(path: Path) -> list[tuple[int, str, str, float]]:
    """All rows of a log."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    return [(int(row[0]), row[1], row[2], float(row[3])) for row in rows if len(row) == len(COLUMNS)]
