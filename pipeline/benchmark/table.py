"""Tables of measurements: means over scenes with their spread, as Markdown and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from schemas.errors import ConfigError

BEGIN, END = "<!-- {name}: written by the tool, do not edit -->", "<!-- end of {name} -->"


@dataclass(frozen=True, slots=True)
class Score:
    """Mean over scenes, standard deviation over scenes (None for one scene) and number of scenes."""

    mean: float
    std: float | None
    scenes: int

    def __str__(self) -> str:
        return f"{self.mean:.3f}" if self.std is None else f"{self.mean:.3f} ± {self.std:.3f}"


Cell = Score | str | int | float | None


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table; every row has one entry a column, None where there is nothing."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def markdown(self) -> str:
        """The table with its title as a heading."""
        lines = [self.columns, ["---"] * len(self.columns), *([_shown(cell) for cell in row] for row in self.rows)]
        return "\n".join([f"#### {self.title}", "", *(f"| {' | '.join(line)} |" for line in lines), ""])

    def to_json(self) -> dict[str, Any]:
        """Title and rows by column name."""
        rows = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        return {
            "title": self.title,
            "rows": [{name: asdict(c) if isinstance(c, Score) else c for name, c in row.items()} for row in rows],
        }


def score(values: Iterable[float | None]) -> Score | None:
    """Mean and spread of what could be measured; None where nothing could."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return None
    mean = sum(known) / len(known)
    variance = sum((value - mean) ** 2 for value in known) / max(len(known) - 1, 1)
    return Score(mean, math.sqrt(variance) if len(known) > 1 else None, len(known))


def scores(scenes: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> tuple[Cell, ...]:
    """One score a field over the scenes' values, then the number of scenes."""
    return (*(score([scene.get(field) for scene in scenes]) for field in fields), len(scenes))


def replace_section(path: Path, name: str, text: str) -> None:
    """Put `text` between the markers `name` of a document. Raises `ConfigError` where they are missing."""
    before, after = section(path, name)
    path.write_text(f"{before}\n\n{text.strip()}\n\n{after}", encoding="utf-8")


def section(path: Path, name: str) -> tuple[str, str]:
    """What stands before and after a marked section, its markers included. Raises `ConfigError` where there is none."""
    begin, end = BEGIN.format(name=name), END.format(name=name)
    try:
        document = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    before, opened, rest = document.partition(begin)
    _, closed, after = rest.partition(end)
    if not opened or not closed:
        raise ConfigError(f"{path} has no lines {begin!r} and {end!r}", remedy="add them where the tables belong")
    return before + begin, end + after


def _shown(cell: Cell) -> str:
    if cell is None:
        return "-"
    return f"{cell:g}" if isinstance(cell, float) else str(cell).replace("|", "/").replace("\n", " ")
