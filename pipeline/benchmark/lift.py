"""`lift3d benchmark lift`: every part, scene by scene, then one document of tables from all that is on file."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.benchmark.cells import Cells
from pipeline.benchmark.label_tables import ablation_tables, confidence_tables, noise_tables, operator_tables
from pipeline.benchmark.options import PARTS, WEIGHTS, Options
from pipeline.benchmark.scenes import BenchScene, open_scenes
from pipeline.benchmark.table import Table, replace_section, section
from pipeline.benchmark.view_tables import depth_tables, view_tables
from pipeline.fingerprint import CONTRACT_VERSION
from pipeline.lift_weights import weights_sha256
from schemas.config import LiftConfig, ReaderConfig

VERSION = 1
"""Raised whenever the same labels would get other figures than before."""
SECTION = "benchmark lift"
"""Name of the section that `--write` replaces."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was measured.

    Attributes:
        tables: by part letter.
        seconds: that the measurements on file took, in all.
    """

    tables: dict[str, list[Table]]
    seconds: float

    def markdown(self) -> str:
        """All tables, part by part."""
        parts = []
        for part, tables in self.tables.items():
            parts += [f"### {part}. {PARTS[part]}", "", *(table.markdown() for table in tables)]
        return "\n".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Versions, machine and tables as plain JSON."""
        return {
            "versions": {"lift3d": __version__, "contract": CONTRACT_VERSION, "benchmark": VERSION},
            "machine": {"python": platform.python_version(), "system": platform.platform()},
            "seconds": round(self.seconds, 1),
            "tables": {part: [table.to_json() for table in tables] for part, tables in self.tables.items()},
        }


def benchmark_lift(
    sources: Sequence[str],
    out: Path,
    options: Options,
    *,
    reader: ReaderConfig | None = None,
    document: Path | None = None,
    fresh: bool = False,
) -> Report:
    """Measure what is not on file in OUT yet, write OUT/results.json and OUT/table.md, and return all that is on file.

    Args:
        sources: datasets or scenes; every part takes from each what it can use.
        out: folder of the measurements. Two processes may work in one folder on different parts or scenes.
        document: whose marked section becomes the tables.
        fresh: measure again what is on file.

    Raises `DatasetError` where a source has no scenes, and `ConfigError` where the document has no such section.
    What cannot be measured is reported in the tables, with why.
    """
    if document:
        section(document, SECTION)
    cells = Cells(out, {"contract": CONTRACT_VERSION, "benchmark": VERSION}, fresh)
    for bench in open_scenes(sources, reader or ReaderConfig(), options.limit_views):
        _measure(bench, options, cells)
    report = assemble(cells)
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(report.to_json(), indent=1), encoding="utf-8")
    (out / "table.md").write_text(report.markdown(), encoding="utf-8")
    if document:
        replace_section(document, SECTION, report.markdown())
    return report


def assemble(cells: Cells) -> Report:
    """Tables of everything on file that was measured with the checkpoint that is shipped now, or with a named one."""
    shipped = weights_sha256(LiftConfig())
    found = [cell for cell in cells.all() if not _outdated(cell["key"], shipped)]
    of = {part: [cell for cell in found if cell["part"] == part] for part in PARTS}
    tables = {
        "a": noise_tables(of["a"]),
        "b": operator_tables(of["b"]),
        "c": view_tables(of["c"]),
        "d": depth_tables(of["d"]),
        "e": confidence_tables([*of["a"], *of["b"]]),
        "f": ablation_tables(of["f"]),
    }
    return Report({part: some for part, some in tables.items() if some}, sum(cell["seconds"] for cell in found))


def _outdated(key: dict[str, Any], shipped: str | None) -> bool:
    return bool(key.get("lift", {}).get("weights") == WEIGHTS and key.get("checkpoint") != shipped)


def _measure(bench: BenchScene, options: Options, cells: Cells) -> None:
    """All parts of one scene; those that share geometry follow each other."""
    from pipeline.benchmark.ablations import measure_ablations
    from pipeline.benchmark.depths import measure_depth
    from pipeline.benchmark.labelled import measure_operators
    from pipeline.benchmark.labels import measure_labels
    from pipeline.benchmark.lifts import Memory
    from pipeline.benchmark.novel import measure_views

    memory = Memory()
    labelled = any(frame.label for frame in bench.frames)
    if labelled and ("a" in options.parts or "e" in options.parts):
        measure_labels(bench, options, cells, memory)
    if "d" in options.parts and "rgb" in options.modes and "depth" in bench.modes:
        measure_depth(bench, options, cells, memory)
    if labelled and "f" in options.parts:
        measure_ablations(bench.narrowed(options.few_views), options, cells, memory)
    if labelled and "b" in options.parts:
        measure_operators(bench, options, cells, memory)
    if "c" in options.parts:
        measure_views(bench, options, cells)
