"""Tables of speed: ratios within one round first, absolute seconds after them; median and range over the rounds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import median

from pipeline.benchmark.speed_case import Case, Measured
from pipeline.benchmark.speed_stacks import ALL_STAGES
from pipeline.benchmark.table import Cell, Table

Rounds = Mapping[Case, Sequence[Measured]]
"""Measurements of every case, one a round; rounds are interleaved."""
OUTPUT = {"labels": "labels, every pixel", "features": "features, stride 14"}
LIFTS = {"depth": "sensor depth", "rgb": "RGB alone", "none": "raw, not lifted", None: "GNT-style"}


def comparison(rounds: Rounds, cases: Iterable[Case]) -> Table:
    """How many times faster a target view is lifted than the GNT-style renderer draws it."""
    columns = ("output", "threads", "lift", "times faster", "s a view", "GNT-style s a view", "rays drawn", "peak MB")
    rows: list[tuple[Cell, ...]] = []
    for case in cases:
        ours, theirs = rounds[case], rounds[replace(case, geometry=None)]
        faster = [b.seconds / a.seconds for a, b in zip(ours, theirs, strict=True)]
        drawn = f"{theirs[0].rays} of {_rays(case)}"
        measured = (_range(faster), _seconds(ours), _seconds(theirs), drawn, _peak(ours))
        rows.append((OUTPUT[case.values], case.threads, LIFTS[case.geometry], *measured))
    return Table("A target view, against a GNT-style renderer in the same rounds", columns, tuple(rows))


def stages(rounds: Rounds, cases: Iterable[Case]) -> Table:
    """Where a view's time goes: shares of the whole, then seconds."""
    columns = ("output", "threads", "lift", *(f"{name} %" for name in ALL_STAGES), "s a view")
    rows: list[tuple[Cell, ...]] = []
    for case in cases:
        total = median(one.seconds for one in rounds[case])
        shares = [median(100 * one.stages[name] / one.seconds for one in rounds[case]) for name in ALL_STAGES]
        shown = [f"{share:.0f}" for share in shares]
        rows.append((OUTPUT[case.values], case.threads, LIFTS[case.geometry], *shown, f"{total:.3g}"))
    return Table("Where the time goes", columns, tuple(rows))


def growth(title: str, rounds: Rounds, cases: Sequence[tuple[object, Case]]) -> Table:
    """How cost grows with one setting: relative to the setting's first value in the same round, then absolute."""
    columns = (title, "lift", "of the first", "s a view", "of these Stage I s", "peak MB")
    first: dict[str | None, Sequence[Measured]] = {}
    rows: list[tuple[Cell, ...]] = []
    for value, case in cases:
        ours = rounds[case]
        base = first.setdefault(case.geometry, ours)
        ratios = [a.seconds / b.seconds for a, b in zip(ours, base, strict=True)]
        geometry = f"{median(one.stages['Stage I'] for one in ours):.3g}"
        rows.append((str(value), LIFTS[case.geometry], _range(ratios), _seconds(ours), geometry, _peak(ours)))
    return Table(f"Growth with {title}", columns, tuple(rows))


def whole_run(rounds: Rounds, cases: Sequence[Case]) -> Table:
    """Views a second with decoding and the 2D operator (predictions from files), beside raw labelling."""
    columns = ("lift", "of raw", "views a second")
    raw = rounds[cases[0]]
    rows: list[tuple[Cell, ...]] = []
    for case in cases:
        ratios = [b.run / a.run for a, b in zip(rounds[case], raw, strict=True)]
        rows.append((LIFTS[case.geometry], _range(ratios), _range([1 / one.run for one in rounds[case]])))
    return Table("A whole run with predictions from files, nothing written", columns, tuple(rows))


def _rays(case: Case) -> int:
    height, width = case.size
    return height * width if case.values == "labels" else -(-height // 14) * -(-width // 14)


def _seconds(measured: Sequence[Measured]) -> str:
    return _range([one.seconds for one in measured])


def _peak(measured: Sequence[Measured]) -> str:
    return f"{max(one.peak_mb for one in measured):.0f}"


def _range(values: Sequence[float]) -> str:
    """Median (least to greatest), three digits."""
    middle = _digits(median(values))
    return middle if len(values) == 1 else f"{middle} ({_digits(min(values))} to {_digits(max(values))})"


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
