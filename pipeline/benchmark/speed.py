"""`lift3d benchmark speed`: seconds a target view against a GNT-style renderer, where they go, and how they grow.

Every case runs in a process of its own (one at a time), so that its peak memory is its own; all cases take turns, round
after round, so that a machine that slows down slows all of them.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import platform
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.benchmark.table import Table, replace_section, section
from schemas.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.benchmark.speed_case import Case, Measured

SECTION = "benchmark speed"
"""Name of the section that `--write` replaces."""
SAMPLE_ROOM = Path(__file__).parents[2] / "examples" / "sample_room"
SOURCES, SAMPLES, CHANNELS = (4, 8, 12, 16), (1, 2, 4, 8), (16, 64, 384, 1024)
SIZES = ((120, 160), (240, 320), (480, 640))
SIZE_SOURCES = 8
"""Source views where growth with the image's size is measured."""

log = logging.getLogger("lift3d")


@dataclass(frozen=True, slots=True)
class SpeedOptions:
    """What is measured.

    Attributes:
        scene: dataset whose first scene is lifted; it needs ground truth with object ids. None = the sample room.
        channels: of the features that are lifted.
        threads: torch threads, each measured.
        rounds: how often every case is measured.
        quick: tiny images, few views, one round: shows that everything runs, and no figure means anything.
    """

    scene: str | None = None
    channels: int = 64
    threads: tuple[int, ...] = (1, 2)
    rounds: int = 2
    quick: bool = False


@dataclass(frozen=True, slots=True)
class SpeedReport:
    """Tables, the measurements behind them, and the machine that they hold for."""

    tables: tuple[Table, ...]
    machine: dict[str, Any]
    measurements: tuple[dict[str, Any], ...]

    def markdown(self) -> str:
        """All tables, and the machine."""
        machine = ", ".join(f"{name} {value}" for name, value in self.machine.items())
        return "\n".join([*(table.markdown() for table in self.tables), f"Measured on: {machine}."])

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON."""
        tables = [table.to_json() for table in self.tables]
        return {"machine": self.machine, "tables": tables, "measurements": list(self.measurements)}


@dataclass(frozen=True, slots=True)
class _Plan:
    """The cases of each table."""

    against: tuple[Case, ...]
    run: tuple[Case, ...]
    growth: dict[str, tuple[tuple[object, Case], ...]]

    def cases(self) -> list[Case]:
        """All of them once; the renderer's follow what they are compared with."""
        listed = [one for case in self.against for one in (case, replace(case, geometry=None))]
        listed += [*self.run, *(case for cases in self.growth.values() for _, case in cases)]
        return list(dict.fromkeys(listed))


def parse_threads(text: str, option: str = "--threads") -> tuple[int, ...]:
    """ "1,2" -> (1, 2). Raises `ConfigError`."""
    words = text.split(",")
    if not all(word.strip().isdecimal() and int(word) > 0 for word in words):
        raise ConfigError(f"{option} {text!r:.80} is not a list of positive numbers", remedy="for example 1,2")
    return tuple(dict.fromkeys(map(int, words)))


def benchmark_speed(options: SpeedOptions, out: Path | None = None, document: Path | None = None) -> SpeedReport:
    """Measure everything; write OUT/results.json and the document's marked section where they are asked for.

    Raises `ConfigError` where the document has no such section or no scene was given and there is no sample room, and
    `DatasetError` where the scene cannot be lifted or has no ground truth.
    """
    from pipeline.benchmark.speed_tables import comparison, growth, stages, whole_run

    if document:
        section(document, SECTION)
    with tempfile.TemporaryDirectory() as folder:
        plan = _plan(options, folder)
        before = _machine(options)
        rounds = _interleaved(plan.cases(), 1 if options.quick else options.rounds)
    tables = [comparison(rounds, plan.against), stages(rounds, plan.against)]
    tables += [growth(title, rounds, cases) for title, cases in plan.growth.items()]
    report = SpeedReport((*tables, whole_run(rounds, plan.run)), before, tuple(_rows(rounds.items())))
    if out:
        out.mkdir(parents=True, exist_ok=True)
        (out / "results.json").write_text(json.dumps(report.to_json(), indent=1), encoding="utf-8")
    if document:
        replace_section(document, SECTION, report.markdown())
    return report


def _plan(options: SpeedOptions, folder: str) -> _Plan:
    from pipeline.benchmark.speed_case import Case

    base = Case(_scene(options), folder, SIZES[1], None, "labels", "depth", channels=options.channels)
    sizes = SIZES
    targets: int | None = None
    if options.quick:
        sizes, targets = ((24, 32), (48, 64), (72, 96)), 2
        base = replace(base, size=sizes[1], views=4, rays=64)
    both = [replace(base, geometry="depth"), replace(base, geometry="rgb")]
    growing = [replace(case, targets=targets) for case in both]
    features = replace(growing[0], values="features")
    return _Plan(
        against=tuple(
            replace(case, values=values, threads=threads)
            for values in ("labels", "features")
            for threads in options.threads
            for case in both
        ),
        run=(replace(base, geometry="none"), *both),
        growth={
            "source views": tuple((n, replace(case, sources=n)) for case in growing for n in SOURCES),
            "samples a ray": tuple((n, replace(growing[1], samples=n)) for n in SAMPLES),
            "feature channels": tuple((n, replace(features, channels=n)) for n in CHANNELS),
            f"pixels ({SIZE_SOURCES} source views)": tuple(
                (f"{w}x{h}", replace(case, size=(h, w), sources=SIZE_SOURCES)) for case in both for h, w in sizes
            ),
        },
    )


def _scene(options: SpeedOptions) -> str:
    if options.scene is None and not SAMPLE_ROOM.is_dir():
        raise ConfigError("there is no sample room beside the packages", remedy="name a dataset: --scene DIR")
    return options.scene or str(SAMPLE_ROOM)


def _interleaved(cases: Sequence[Case], rounds: int) -> dict[Case, list[Measured]]:
    """Every case once a round, each in a fresh process."""
    # The server has imported everything and done nothing: its children start at once, with memory of their own.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pipeline.benchmark.speed_case"])
    found: dict[Case, list[Measured]] = {case: [] for case in cases}
    for number in range(rounds):
        for k, case in enumerate(cases):
            found[case].append(_measured(case, context))
            seconds = found[case][-1].seconds
            log.info("round %d of %d, case %d of %d: %.3g s a view", number + 1, rounds, k + 1, len(cases), seconds)
    return found


def _measured(case: Case, context: multiprocessing.context.ForkServerContext) -> Measured:
    from pipeline.benchmark.speed_case import measure

    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(measure, case).result()


def _machine(options: SpeedOptions) -> dict[str, Any]:
    import torch

    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "threads": " and ".join(map(str, options.threads)),
        "rounds": 1 if options.quick else options.rounds,
        "load at the start": load,
    }


def _processor() -> str:
    """The processor's name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _rows(found: Iterable[tuple[Case, Sequence[Measured]]]) -> Iterable[dict[str, Any]]:
    """One row a case, without the folders of this machine."""
    for case, measured in found:
        settings = {name: value for name, value in asdict(case).items() if name not in ("source", "folder")}
        yield {"case": settings, "rounds": [asdict(one) for one in measured]}
