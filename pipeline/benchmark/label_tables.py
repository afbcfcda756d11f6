"""Tables of labels: noisy ones (a), operators (b), confidence (e) and ablations (f), from the cells on file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from pipeline.benchmark.ablations import ABLATIONS
from pipeline.benchmark.cells import NOT_MEASURED
from pipeline.benchmark.competitors import RAW, VOTE_ALL, WARP
from pipeline.benchmark.confidence import confidence_scores
from pipeline.benchmark.options import ANALYTIC, CLEAN, LIFT
from pipeline.benchmark.table import Cell, Table, scores

FIELDS = ("miou", "accuracy", "boundary_f1", "consistency")
SCORES = ("mIoU", "accuracy", "boundary F1", "consistency", "scenes")
CONFIDENCE = ("auroc", "ece", "temperature", "ece_calibrated")

CellDoc = dict[str, Any]


class NoiseRow(NamedTuple):
    """A row of part a, in the order of its table."""

    level: float
    rank: int
    name: str
    sources: int
    scores: tuple[Cell, ...]


def noise_tables(cells: Sequence[CellDoc]) -> list[Table]:
    """Part a: one table a dataset."""
    tables = []
    for group, of_group in grouped(cells, "group").items():
        rows = sorted([*_competitor_rows(of_group), *_lift_rows(of_group)])
        shown: list[tuple[Cell, ...]] = [
            ("clean" if row.level == CLEAN else f"{row.level:g}", row.name, row.sources or "", *row.scores)
            for row in rows
        ]
        shown += [(None, row[0], None, *row[1:]) for row in _missing(of_group, len(SCORES))]
        tables.append(Table(f"{group}: labels with noise", ("noise", "labels", "sources", *SCORES), tuple(shown)))
    return tables


def operator_tables(cells: Sequence[CellDoc]) -> list[Table]:
    """Part b: one table a dataset and operator."""
    tables = []
    for (group, operator), found in grouped(cells, "group", "operator").items():
        rows: list[tuple[Cell, ...]] = []
        measured = [cell for cell in found if cell["labels"]["what"] == "competitors"]
        for name in _rows_of(measured):
            values = [cell["values"][name] for cell in measured if name in cell["values"]]
            rows.append((name, *scores(values, FIELDS)))
        for what, cases in grouped([c for c in found if c["labels"]["what"] != "competitors"], "what", "mode").items():
            rows.append((f"{what[0]}, {what[1]}", *scores(_values(cases), FIELDS)))
        rows.sort(key=lambda row: _rank(str(row[0])))
        rows += _missing(found, len(SCORES))
        tables.append(Table(f"{group}: {operator}", ("labels", *SCORES), tuple(rows)))
    return tables


def confidence_tables(cells: Sequence[CellDoc]) -> list[Table]:
    """Part e: from the lifted cells of parts a and b that have confidence; one row a dataset, geometry and noise."""
    rows: list[tuple[Cell, ...]] = []
    lifted = [cell for cell in cells if "confidence" in cell["values"] and cell["labels"]["what"] == LIFT]
    by_setting = grouped(lifted, "mode", "operator", "sources", "noise")
    for (mode, operator, sources, noise), found in by_setting.items():
        histograms = {
            f"{cell['labels']['group']}/{cell['labels']['scene']}": np.array(cell["values"]["confidence"], np.int64)
            for cell in found
        }
        scored = confidence_scores(histograms)
        for group in dict.fromkeys(name.split("/")[0] for name in scored):
            of_group = [values for name, values in scored.items() if name.split("/")[0] == group]
            what = operator or ("clean" if noise == CLEAN else f"noise {noise:g}")
            rows.append((group, what, mode, sources, *scores(of_group, CONFIDENCE)))
    columns = ("dataset", "labels", "geometry", "sources", "AUROC", "ECE", "temperature", "ECE after", "scenes")
    return [Table("Confidence", columns, tuple(rows))] if rows else []


def ablation_tables(cells: Sequence[CellDoc]) -> list[Table]:
    """Part f: one table a dataset and geometry, in the order in which ablations are listed."""
    tables = []
    for (group, mode), found in sorted(grouped(cells, "group", "mode").items()):
        by_name = {what[0]: cases for what, cases in grouped(found, "what").items()}
        rows = [(name, *scores(_values(by_name[name]), FIELDS)) for name in ABLATIONS if name in by_name]
        rows = [*rows, *_missing(found, len(SCORES))]
        tables.append(Table(f"{group}, {mode}: one thing changed at a time", ("lift", *SCORES), tuple(rows)))
    return tables


def grouped(cells: Iterable[CellDoc], *names: str) -> dict[Any, list[CellDoc]]:
    """Cells by the values of some labels (a tuple, or the value itself for the first of one name `group`)."""
    found: dict[Any, list[CellDoc]] = {}
    for cell in cells:
        key = tuple(cell["labels"].get(name) for name in names)
        found.setdefault(key[0] if names == ("group",) else key, []).append(cell)
    return found


def _competitor_rows(cells: Sequence[CellDoc]) -> list[NoiseRow]:
    """Rows of the competitors, those of voting over n views only where the lift had n sources at that noise."""
    lifted = {(cell["labels"]["noise"], cell["labels"]["sources"]) for cell in cells if "noise" in cell["labels"]}
    measured = _values(cell for cell in cells if cell["labels"]["what"] == "competitors")
    rows = []
    for level in dict.fromkeys(level for values in measured for level in values):
        scenes = [values[level] for values in measured if level in values]
        for name in dict.fromkeys(name for scene in scenes for name in scene):
            nearest = _nearest(name)
            if not nearest or (float(level), nearest) in lifted:
                found = scores([scene[name] for scene in scenes if name in scene], FIELDS)
                rows.append(NoiseRow(float(level), _rank(name), _plain(name), nearest, found))
    return rows


def _lift_rows(cells: Sequence[CellDoc]) -> list[NoiseRow]:
    lifted = [cell for cell in cells if "noise" in cell["labels"]]
    by_row = grouped(lifted, "noise", "what", "mode", "sources")
    return [
        NoiseRow(noise, _rank(f"{what}, {mode}"), f"{what}, {mode}", sources, scores(_values(found), FIELDS))
        for (noise, what, mode, sources), found in by_row.items()
    ]


def _values(cells: Iterable[CellDoc]) -> list[dict[str, Any]]:
    return [cell["values"] for cell in cells if NOT_MEASURED not in cell["values"]]


def _rows_of(cells: Sequence[CellDoc]) -> list[str]:
    return list(dict.fromkeys(name for values in _values(cells) for name in values))


def _missing(cells: Iterable[CellDoc], width: int) -> list[tuple[Cell, ...]]:
    """One row a reason why something was not measured."""
    reasons = dict.fromkeys(cell["values"][NOT_MEASURED] for cell in cells if NOT_MEASURED in cell["values"])
    return [(f"not measured: {reason}", *[None] * width) for reason in reasons]


def _nearest(name: str) -> int:
    """How many views a voting row is over; 0 for the other rows."""
    digits = "".join(letter for letter in name if letter.isdigit())
    return int(digits) if name.startswith("z-test vote") and digits else 0


def _plain(name: str) -> str:
    return "z-test vote, nearest views" if _nearest(name) else name


def _rank(name: str) -> int:
    """Where a row belongs: what there is to beat first, then the lift."""
    order: tuple[Callable[[str], bool], ...] = (
        lambda n: n == RAW,
        lambda n: n == WARP,
        lambda n: n.startswith("z-test vote") and n != VOTE_ALL,
        lambda n: n == VOTE_ALL,
        lambda n: n == f"{ANALYTIC}, depth",
        lambda n: n == f"{LIFT}, depth",
        lambda n: n == f"{ANALYTIC}, rgb",
    )
    return next((place for place, holds in enumerate(order) if holds(name)), len(order))
