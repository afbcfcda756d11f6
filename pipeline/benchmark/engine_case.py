"""One run of an engine, or of a plain loop that does the same work, in a process of its own: when each chunk was done.

The plain loop knows nothing of faults, resuming, fingerprints, scratch space or a store: it reads views, calls the 2D
operator, lifts, and forgets what it made.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter, time
from typing import TYPE_CHECKING, Any, Literal

from schemas.config import LabelingConfig, parse_config

if TYPE_CHECKING:
    from schemas.scene import Chunk

How = Literal["loop", "local", "ray"]


@dataclass(frozen=True, slots=True)
class EngineCase:
    """What is run.

    Attributes:
        how: the plain loop, or an engine.
        source: dataset; store: where an engine's labels go (the loop writes none).
        operator: `operator` section of the config; lift: `lift` section.
        workers: processes that work at once, one compute thread each.
        chunk: `plan.chunk`; scratch, geometry: `engine.scratch`, `engine.geometry`.
    """

    how: How
    source: str
    store: str
    operator: dict[str, Any]
    lift: dict[str, Any]
    workers: int = 1
    chunk: int = 32
    scratch: str = "auto"
    geometry: str = "none"

    def into(self, store: str) -> EngineCase:
        """The same case with another store."""
        return replace(self, store=store)

    def config(self, events: str | None = None) -> LabelingConfig:
        """The config of the run."""
        kind = "local" if self.how == "loop" else self.how
        engine: dict[str, Any] = {"kind": kind, "device": "cpu", "scratch": self.scratch, "geometry": self.geometry}
        engine["events"] = events
        if self.how == "ray":
            engine["workers"] = str(self.workers)
        values = {"source": self.source, "store": self.store, "operator": self.operator, "lift": self.lift}
        return parse_config({**values, "plan": {"chunk": self.chunk}, "engine": engine})


@dataclass(frozen=True, slots=True)
class Span:
    """A chunk: who worked on it, from when to when (seconds since 1970), how many frames came out."""

    worker: str
    began: float
    ended: float
    frames: int


@dataclass(frozen=True, slots=True)
class EngineRun:
    """How a case went.

    Attributes:
        spans: its chunks, in the order in which they began.
        startup_s: from the start of the process to the first chunk.
        wall_s: of the whole process.
        cpu_s: processor seconds a frame of all its processes, from the end of its first chunk to that of its last; 0
            where this cannot be told, or where chunks overlap.
        driver_mb, worker_mb: peak resident memory of the driver and of the largest worker; 0 for a loop.
    """

    spans: tuple[Span, ...]
    startup_s: float
    wall_s: float
    cpu_s: float = 0.0
    driver_mb: float = 0.0
    worker_mb: float = 0.0

    @property
    def frames(self) -> int:
        """Frames that came out."""
        return sum(span.frames for span in self.spans)

    @property
    def rate(self) -> float:
        """Frames a second once it runs: of each worker from the end of its first chunk to that of its last, summed.

        So start-up, the first chunk's filling of caches and workers that are idle in the end do not count; the time
        between two chunks does. 0 where no worker had two chunks.
        """
        by_worker: dict[str, list[Span]] = defaultdict(list)
        for span in self.spans:
            by_worker[span.worker].append(span)
        steady = [(sum(s.frames for s in spans[1:]), spans[-1].ended - spans[0].ended) for spans in by_worker.values()]
        return sum(frames / seconds for frames, seconds in steady if seconds > 0)

    def makespan(self, workers: int) -> float:
        """Seconds from the first chunk's start to the last one's end, relative to what they add up to a worker."""
        work = sum(span.ended - span.began for span in self.spans)
        took = max(span.ended for span in self.spans) - min(span.began for span in self.spans)
        return took * workers / work


def measure(case: EngineCase) -> EngineRun:
    """Run a case in a fresh process, imports included. Raises what the run raises."""
    started = time()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(_loop if case.how == "loop" else _engine, case, started).result()


def _engine(case: EngineCase, started: float) -> EngineRun:
    """`lift3d label`, and what it wrote about itself."""
    from pipeline.run import run_labeling
    from pipeline.store import read_run

    events = Path(f"{case.store}.events.jsonl")
    spent: list[float] = []
    summary = run_labeling(case.config(str(events)), on_progress=lambda progress: spent.append(tree_cpu_s()))
    memory = read_run(case.store, summary.run_id)["memory"]
    spans = spans_of(events)
    return EngineRun(
        spans,
        startup_s=spans[0].began - started,
        wall_s=time() - started,
        cpu_s=_a_frame(spans, spent),
        driver_mb=memory["driver_peak_bytes"] / 2**20,
        worker_mb=memory["worker_peak_bytes"] / 2**20,
    )


def spans_of(events: Path) -> tuple[Span, ...]:
    """When each chunk was worked on, from a run's events."""
    from pipeline.telemetry.events import ChunkFinished, ChunkStarted, parse_event

    parsed = [parse_event(line) for line in events.read_bytes().splitlines()]
    began = {(e.scene, e.chunk): e.ts.timestamp() for e in parsed if isinstance(e, ChunkStarted)}
    done = [e for e in parsed if isinstance(e, ChunkFinished)]
    spans = [Span(e.worker, began[e.scene, e.chunk], began[e.scene, e.chunk] + e.wall_s, e.frames) for e in done]
    return tuple(sorted(spans, key=lambda span: span.began))


def _loop(case: EngineCase, started: float) -> EngineRun:
    """The same chunks, dealt out to as many processes as there are workers; this one is the first."""
    chunks = planned(case)
    shares = [chunks[w :: case.workers] for w in range(case.workers)]
    with ProcessPoolExecutor(max(1, case.workers - 1), mp_context=get_context("spawn")) as others:
        waiting = [others.submit(_share, case, share) for share in shares[1:]]
        spans, spent = _share(case, shares[0])
        spans += [span for other in waiting for span in other.result()[0]]
    spans.sort(key=lambda span: span.began)
    return EngineRun(tuple(spans), spans[0].began - started, time() - started, _a_frame(spans, spent))


def _share(case: EngineCase, chunks: Sequence[Chunk]) -> tuple[list[Span], list[float]]:
    """Chunks done by the plain loop, and `tree_cpu_s` after each."""
    spans, spent = [], []
    for span in plain_loop(case, chunks):
        spans.append(span)
        spent.append(tree_cpu_s())
    return spans, spent


def planned(case: EngineCase) -> list[Chunk]:
    """The chunks of a case, as the engines plan them."""
    from pipeline.lifting import corrects_sources
    from pipeline.operators import build_operator
    from pipeline.plan import plan_scene
    from pipeline.readers import load_scene, open_dataset

    config = case.config()
    operator = build_operator(config.operator.sole, dict(config.operator.kwargs), "cpu")
    corrects = corrects_sources(operator.kind, config.lift)
    scenes = (load_scene(ref, config.reader) for ref in open_dataset(config.source, config.reader))
    return [chunk for scene in scenes for chunk in plan_scene(scene, config, "loop", {}, corrects=corrects).chunks]


def plain_loop(case: EngineCase, chunks: Iterable[Chunk]) -> Iterator[Span]:
    """Read, predict and lift chunk after chunk as it is asked for, with one compute thread and a worker's heap."""
    import torch

    from lift3d_model import Lift3D
    from pipeline.heap import keep_freed_memory
    from pipeline.lift_weights import load_weights
    from pipeline.lifting import lift_settings
    from pipeline.operators import build_operator

    torch.set_num_threads(1)
    keep_freed_memory()
    config = case.config()
    operator = build_operator(config.operator.sole, dict(config.operator.kwargs), "cpu")
    model = Lift3D(lift_settings(config.lift), load_weights(config.lift)[0])
    for chunk in chunks:
        began, clock = time(), perf_counter()
        with torch.inference_mode():
            frames = sum(1 for _ in lifted(chunk, config, operator, model))
        yield Span(f"loop:{os.getpid()}", began, began + perf_counter() - clock, frames)


def tree_cpu_s() -> float:
    """Processor seconds of this process and all that it started, as far as they live; 0 where there is no /proc."""
    spent, parent = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            parent[int(path.parent.name)] = int(fields[1])
            spent[int(path.parent.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    tree, more = {os.getpid()}, True
    while more:
        found = {process for process, of in parent.items() if of in tree} - tree
        tree, more = tree | found, bool(found)
    return sum(spent.get(process, 0.0) for process in tree)


def _a_frame(spans: Sequence[Span], spent: Sequence[float]) -> float:
    """Processor seconds a frame from what was spent after each chunk, one after another."""
    frames = sum(span.frames for span in spans[1:])
    alone = len({span.worker for span in spans}) == 1 and len(spans) == len(spent)
    return (spent[-1] - spent[0]) / frames if alone and frames else 0.0


def lifted(chunk: Chunk, config: LabelingConfig, operator: Any, model: Any) -> Iterable[Any]:
    """Every target's finished prediction."""
    import torch

    from pipeline.lifting import ChunkLift
    from pipeline.loading import as_images, load_view
    from pipeline.predicting import batches, encode_batch

    device = torch.device("cpu")
    as_ids = operator.kind == "classes" and config.lift.method != "none"
    views = [load_view(frame, config.lift) for frame in chunk.frames]
    encoded = {}
    for batch in batches(views, config.operator.batch_size):
        found = encode_batch(operator, batch, as_images(batch, device), chunk.scene, as_ids=as_ids)
        encoded.update({view.frame.id: one for view, one in zip(batch, found, strict=True)})
    lift = ChunkLift(model, operator, config.lift, chunk, views, encoded, device)
    return (lift.outcome(frame) for frame in chunk.target_ids)
