"""Tables of depth (d) and of held-out views (c), from the cells on file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.benchmark.catalogue import VIEW_OPERATORS, Entry
from pipeline.benchmark.cells import NOT_MEASURED
from pipeline.benchmark.label_tables import CellDoc, grouped
from pipeline.benchmark.novel import MEAN, WARP, WAYS
from pipeline.benchmark.options import LIFT
from pipeline.benchmark.table import Cell, Table, score, scores

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

VIEW_SCORES = {"cosine": "cosine", "PSNR, dB": "psnr", "SSIM": "ssim"}


def depth_tables(cells: Sequence[CellDoc]) -> list[Table]:
    """Part d: one row a dataset, lift and number of sources."""
    rows = []
    for (group, what, sources), found in sorted(grouped(cells, "group", "what", "sources").items()):
        rows.append((group, what, sources, *scores(_values(found), tuple(DEPTH.values()))))
    return (
        [Table("Depth from RGB alone", ("dataset", "depth by", "sources", *DEPTH, "scenes"), tuple(rows))]
        if rows
        else []
    )


def view_tables(cells: Sequence[CellDoc]) -> list[Table]:
    """Part c: one table a dataset and geometry; a row an operator and score, a column a way to predict."""
    columns = ("operator", "score", *WAYS, WARP, MEAN, "coverage", "scenes")
    tables = []
    for (group, mode), found in sorted(grouped(cells, "group", "mode").items()):
        by_operator = {operator[0]: cases for operator, cases in grouped(found, "operator").items()}
        rows = [row for entry in VIEW_OPERATORS for row in _view_rows(entry, by_operator.get(entry.title, []))]
        tables.append(Table(f"{group}, {mode}: views held out", columns, tuple(rows)))
    return tables


def _view_rows(entry: Entry, cells: Sequence[CellDoc]) -> Iterator[tuple[Cell, ...]]:
    title = f"{entry.title} (trained on)" if entry.trained_on else entry.title
    measured = {what[0]: _values(found) for what, found in grouped(cells, "what").items()}
    reasons = dict.fromkeys(cell["values"][NOT_MEASURED] for cell in cells if NOT_MEASURED in cell["values"])
    for reason in reasons:
        yield title, f"not measured: {reason}", *[None] * (len(WAYS) + 4)
    lifted = measured.get(LIFT, [])
    for name, field in VIEW_SCORES.items():
        if any(field in scene["lift"] for scene in lifted):
            own = [score(scene["lift"].get(field) for scene in measured.get(way, [])) for way in WAYS]
            others = [score(scene[row].get(field) for scene in lifted) for row in (WARP, MEAN)]
            yield title, name, *own, *others, score(scene["coverage"] for scene in lifted), len(lifted)


def _values(cells: Sequence[CellDoc]) -> list[dict[str, Any]]:
    return [cell["values"] for cell in cells if NOT_MEASURED not in cell["values"]]
