"""One timed case, in a process of its own: lift a chunk as a run would, or render a sample of rays as GNT would."""

from __future__ import annotations

import resource
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import torch

from lift3d_model.geometry import pixel_centres
from lift3d_model.gnt_style import GntSettings, GntStyle, SourceMaps
from pipeline.benchmark.scenes import spaced
from pipeline.benchmark.speed_scene import Waves, inconsistent_predictions, scene_at_size
from pipeline.benchmark.speed_stacks import split_seconds, watched_stacks
from pipeline.labeler import Labeler
from pipeline.loading import as_tensors, load_view
from pipeline.operators import build_operator
from pipeline.operators.grid import grid_size
from pipeline.plan import choose_sources, depth_quantiles, plan_scene
from pipeline.protocols import Operator
from schemas.config import EngineConfig, LabelingConfig, LiftConfig, OperatorConfig, PlanConfig
from schemas.errors import DatasetError
from schemas.scene import Chunk, Scene

GNT_SOURCES = 10
"""Source views that the GNT-style renderer looks at."""
GNT_RANGE = (0.5, 10.0)
"""Depth range of its samples where the scene does not tell; its speed does not depend on it."""

Geometry = Literal["depth", "rgb", "none"]
Values = Literal["labels", "features"]


@dataclass(frozen=True, slots=True)
class Case:
    """What is timed.

    Attributes:
        source: dataset whose first scene is used; folder: where prepared files go.
        size: (height, width) of the images; views: at most this many, None = all.
        values: hard class ids at every pixel, or features of `channels` channels, one cell 14 pixels wide.
        geometry: how the lift finds depth; "none" stores raw predictions; None = the GNT-style renderer instead.
        sources, samples: of the lift's config; None = its default.
        targets: lift this many views of the chunk, evenly spaced, None = all.
        rays: the renderer draws at most this many of a view's rays.
    """

    source: str
    folder: str
    size: tuple[int, int]
    views: int | None
    values: Values
    geometry: Geometry | None
    threads: int = 1
    channels: int = 64
    sources: int | None = None
    samples: int | None = None
    targets: int | None = None
    rays: int = 256


@dataclass(frozen=True, slots=True)
class Measured:
    """What a case took.

    Attributes:
        seconds: a target view: its share of the chunk's geometry, and its own lifting up to the finished record.
        stages: seconds a target view by stage.
        run: seconds a target view of everything that a run does but writing: decoding and the 2D operator as well.
        peak_mb: peak resident memory of the process; start_mb: before the work began.
        rays: how many rays were rendered; 0 for a lift.
    """

    seconds: float
    stages: dict[str, float]
    run: float
    peak_mb: float
    start_mb: float
    rays: int = 0


def measure(case: Case) -> Measured:
    """Time a case. Meant for a fresh process: peak memory is the process's own."""
    torch.set_num_threads(case.threads)
    folder = Path(case.folder)
    scene = scene_at_size(case.source, case.size, case.views, folder)
    measured = _rendered(case, scene) if case.geometry is None else _lifted(case, scene, folder)
    return replace(measured, peak_mb=peak_memory())


def _lifted(case: Case, scene: Scene, folder: Path) -> Measured:
    """A chunk through the `Labeler`: the very path of a run, without a store."""
    operator = _operator(case, scene, folder)
    config = _config(case)
    labeler = Labeler(config, operator)
    chunk = _chunk(scene, config, case.targets)
    start = peak_memory()
    with watched_stacks(threading.get_ident()) as samples:
        result = labeler.label(chunk)
    if result.quarantined:
        row = result.quarantined[0]
        raise DatasetError(f"{row.stage} failed: {row.message}", scene=scene.id, frame=row.frame)
    shares = {name: _share(chunk, name) for name in result.seconds}
    seconds = {name: spent * shares[name] for name, spent in result.seconds.items()}
    stages = split_seconds(seconds, samples)
    return Measured(sum(stages.values()), stages, sum(seconds.values()), 0.0, start)


def _share(chunk: Chunk, stage: str) -> float:
    """One target's share of a stage: what is done a view is divided by views, what is done a target by targets.

    In a chunk that holds a whole scene, or one much longer than its sources reach, both are the same number.
    """
    if stage == "lift":
        return 1 / len(chunk.targets)
    if stage == "geometry":
        return 1 / len({*chunk.targets, *(s for target in chunk.targets for s in chunk.sources[target])})
    return 1 / len(chunk.frames)


def _rendered(case: Case, scene: Scene) -> Measured:
    """Evenly spaced rays of the first view with the GNT-style renderer, extrapolated to all of its rays."""
    lift = LiftConfig(sources=GNT_SOURCES, method="rgb")
    sources = list(choose_sources(scene.frames, lift)[0])
    loaded = [load_view(frame, lift) for frame in scene.frames]
    with torch.inference_mode():
        views, _ = as_tensors(loaded, torch.device("cpu"))
        renderer = GntStyle(GntSettings()).eval()
        cells = grid_size(case.size, 14) if case.values == "features" else case.size
        stride = 14 if case.values == "features" else 1
        pixels = pixel_centres(*cells, stride)
        drawn = pixels[torch.tensor(spaced(len(pixels), case.rays))]
        quantiles = depth_quantiles(scene.frames, lift)
        reach = (0.5 * quantiles[0], 2 * quantiles[-1]) if quantiles else GNT_RANGE
        started = perf_counter()
        features = renderer.features(views.images[sources]).contiguous()
        encoding = (perf_counter() - started) / len(sources)
        values = torch.randn(len(sources), case.channels, *cells) if case.values == "features" else None
        maps = SourceMaps(views, torch.tensor(sources), features, values, stride)
        renderer.render(maps, 0, drawn[: renderer.settings.chunk], reach)
        start = peak_memory()
        started = perf_counter()
        renderer.render(maps, 0, drawn, reach)
        rendering = (perf_counter() - started) * len(pixels) / len(drawn)
    seconds = encoding + rendering
    return Measured(seconds, {"features": encoding, "rendering": rendering}, seconds, 0.0, start, len(drawn))


def _operator(case: Case, scene: Scene, folder: Path) -> Operator:
    if case.values == "features":
        return Waves(case.channels)
    predictions = inconsistent_predictions(scene, folder / f"labels-{case.size[1]}x{case.size[0]}")
    return build_operator(f"precomputed:{predictions}", {"label_set": "nyu40"})


def _config(case: Case) -> LabelingConfig:
    """The config of a run with default settings but for what the case sets."""
    lift: dict[str, Any] = {"method": case.geometry, "sources": case.sources, "samples": case.samples}
    return LabelingConfig(
        source=case.source,
        store="none",
        operator=OperatorConfig(spec=case.values),
        lift=LiftConfig(**{name: value for name, value in lift.items() if value is not None}),
        engine=EngineConfig(kind="local", device="cpu"),
        plan=PlanConfig(),
    )


def _chunk(scene: Scene, config: LabelingConfig, targets: int | None) -> Chunk:
    """The scene's first chunk, of default size; some of its targets where so many are not asked for."""
    chunk = plan_scene(scene, config, "benchmark", {}).chunks[0]
    kept = spaced(len(chunk.targets), targets)
    return replace(
        chunk,
        targets=tuple(chunk.targets[k] for k in kept),
        fingerprints=tuple(chunk.fingerprints[k] for k in kept),
    )


def peak_memory() -> float:
    """Peak resident memory of this process so far, in MB.

    Linux's own high-water mark where there is one: what `getrusage` says may be that of the parent process.
    """
    status = Path("/proc/self/status")
    if status.exists():
        marks = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        if marks:
            return int(marks[0]) / 1024
    scale = 2**20 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale
