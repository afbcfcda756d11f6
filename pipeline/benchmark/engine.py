"""`lift3d benchmark engine`: what running with an engine costs, beside a plain loop that does the same work.

Every case runs in a process of its own and all cases of a part take turns, round after round, so that a machine that
slows down slows all of them. Ratios are taken within a round.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.benchmark.engine_case import EngineCase, EngineRun, measure
from pipeline.benchmark.engine_parts import makespan, memory, overhead, scratch
from pipeline.benchmark.engine_passes import passes
from pipeline.benchmark.engine_turns import turns
from pipeline.benchmark.table import Table, replace_section, section
from schemas.errors import ConfigError

SECTION = "benchmark engine"
"""Name of the section that `--write` replaces."""

log = logging.getLogger("lift3d")


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What is measured.

    Attributes:
        parts: names of `PARTS`.
        rounds: how often every case is measured.
        rooms: how many times the sample room is labelled in a run.
        workers: numbers of processes at work, each measured.
        quick: small numbers, one round: shows that everything runs, and no figure means anything.
    """

    parts: tuple[str, ...] = ("overhead", "turns", "scratch", "memory", "makespan", "passes")
    rounds: int = 3
    rooms: int = 10
    workers: tuple[int, ...] = (1, 2)
    quick: bool = False


@dataclass(frozen=True, slots=True)
class EngineReport:
    """Tables by part, and the machine that each holds for."""

    tables: Mapping[str, Sequence[Table]]
    machines: Mapping[str, str]

    def markdown(self) -> str:
        """All tables, and the machine."""
        lines = [table.markdown() for part in PARTS for table in self.tables.get(part, ())]
        machines = [f"Measured ({part}) on: {self.machines[part]}." for part in PARTS if part in self.machines]
        return "\n".join([*lines, *machines])


class Bench:
    """Runs cases in turns, in a folder that is gone afterwards.

    Attributes:
        options: what is measured.
        folder: for datasets and stores.
    """

    def __init__(self, options: EngineOptions, folder: Path) -> None:
        self.options, self.folder = options, folder
        self._runs = 0

    def rounds(self, cases: Mapping[str, EngineCase], rounds: int) -> dict[str, list[EngineRun]]:
        """Every case once a round, each with a new store, by name."""
        found: dict[str, list[EngineRun]] = {name: [] for name in cases}
        for number in range(rounds):
            for name, case in cases.items():
                self._runs += 1
                run = measure(case.into(str(self.folder / f"store-{self._runs}")))
                found[name].append(run)
                log.info("round %d of %d, %s: %.3g frames/s, %.0f s", number + 1, rounds, name, run.rate, run.wall_s)
        return found


PARTS: Mapping[str, Callable[[Bench], list[Table]]] = {
    "overhead": overhead,
    "turns": turns,
    "scratch": scratch,
    "memory": memory,
    "makespan": makespan,
    "passes": passes,
}


def parse_parts(text: str | None) -> tuple[str, ...]:
    """ "memory,scratch" -> names; all of them where absent. Raises `ConfigError`."""
    names = tuple(PARTS) if text is None else tuple(dict.fromkeys(word.strip() for word in text.split(",")))
    if unknown := [name for name in names if name not in PARTS]:
        raise ConfigError(f"--parts: there is no part {unknown[0]!r:.80}", remedy=f"parts are {', '.join(PARTS)}")
    return names


def benchmark_engine(options: EngineOptions, out: Path | None = None, document: Path | None = None) -> EngineReport:
    """Measure; write OUT/<part>.json, and the document's marked section with all parts that are there.

    Raises `ConfigError` where the document has no such section, or where there is no sample room.
    """
    if document:
        section(document, SECTION)
    tables: dict[str, Sequence[Table]] = {}
    machines: dict[str, str] = {}
    for part in options.parts:
        machines[part] = _machine(options)
        with tempfile.TemporaryDirectory() as folder:
            tables[part] = PARTS[part](Bench(options, Path(folder)))
        if out:
            out.mkdir(parents=True, exist_ok=True)
            content = {"machine": machines[part], "tables": [asdict(table) for table in tables[part]]}
            (out / f"{part}.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    report = EngineReport(tables, machines) if out is None else _on_file(out)
    if document:
        replace_section(document, SECTION, report.markdown())
    return report


def _on_file(out: Path) -> EngineReport:
    """All parts that a folder has."""
    found = {part: json.loads((out / f"{part}.json").read_text("utf-8")) for part in PARTS if _has(out, part)}
    tables = {part: [_table(one) for one in content["tables"]] for part, content in found.items()}
    return EngineReport(tables, {part: content["machine"] for part, content in found.items()})


def _has(out: Path, part: str) -> bool:
    return (out / f"{part}.json").is_file()


def _table(values: Mapping[str, Any]) -> Table:
    return Table(values["title"], tuple(values["columns"]), tuple(tuple(row) for row in values["rows"]))


def _machine(options: EngineOptions) -> str:
    from importlib.metadata import version

    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    about = {
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "ray": version("ray"),
        "torch": version("torch"),
        "rounds": 1 if options.quick else options.rounds,
        "load at the start": load,
    }
    return ", ".join(f"{name} {value}" for name, value in about.items())
