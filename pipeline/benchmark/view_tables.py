"""Tables of depth (d) and of held-out views (c), from the cells on file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.benchmark.cells import NOT_MEASURED
from pipeline.benchmark.label_tables import grouped
from pipeline.benchmark.table import Table, scores

DEPTH = {
    "coverage": "coverage",
    "abs-rel": "abs_rel",
    "delta < 1.05": "delta_105",
    "delta < 1.25": "delta_125",
    "within 1 spread": "within_1",
    "within 2": "within_2",
    "rank corr.": "rank_correlation",
    "AUSE": "ause",
}


def depth_tables(cells: Sequence[dict[str, Any]]) -> list[Table]:
    """Part d: one row a dataset and number of sources."""
    rows = []
    for (group, sources), found in grouped(cells, "group", "sources").items():
        values = [cell["values"] for cell in found if NOT_MEASURED not in cell["values"]]
        rows.append((group, sources, *scores(values, tuple(DEPTH.values()))))
    return [Table("Depth from RGB alone", ("dataset", "sources", *DEPTH, "scenes"), tuple(rows))] if rows else []


def view_tables(cells: Sequence[dict[str, Any]]) -> list[Table]:
    """Part c: one table a dataset."""
    return []
