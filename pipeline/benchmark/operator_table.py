"""`lift3d benchmark operators`: real operators on real scenes through `label`, raw and lifted, in one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.benchmark.catalogue import DEEPLAB_FILE, STYLE_FOLDER
from pipeline.benchmark.cells import NOT_MEASURED, Cells
from pipeline.benchmark.scenes import BenchScene, open_scenes
from pipeline.benchmark.table import Cell, Table, replace_section, section
from pipeline.evaluation.correspondence import View
from pipeline.fingerprint import CONTRACT_VERSION
from pipeline.lift_weights import weights_sha256
from schemas.config import EngineConfig, LabelingConfig, LiftConfig, OperatorConfig, ReaderConfig
from schemas.errors import ConfigError, DatasetError, MissingWeightsError

if TYPE_CHECKING:
    from pipeline.run import RunSummary

VERSION = 1
"""Raised whenever the same labels would get other figures than before."""
SECTION = "benchmark operators"
"""Name of the section that `--write` replaces."""
RAW, LIFTED = "raw", "lifted"
WIDEST_SPREAD = 0.03
"""Where a scene has no sensor depth, views are compared by depth from RGB that is this sure, relatively, or surer."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An operator of the table.

    Attributes:
        title: its name there.
        spec: its SPEC; `{weights}` stands for the folder of weights.
        kwargs: its keyword arguments.
    """

    title: str
    spec: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)


ENTRIES = (
    Entry("indoor", "indoor", {"stride": 28}),
    Entry("DeepLab VOC", f"deeplab:{{weights}}/{DEEPLAB_FILE}"),
    Entry("style candy", f"style:{{weights}}/{STYLE_FOLDER}/candy.bin"),
    Entry("style mosaic", f"style:{{weights}}/{STYLE_FOLDER}/mosaic.bin", {"stride": 2}),
    Entry("HED edges", "edges", {"stride": 2}),
    Entry("EfficientNet-Lite0 features", "efficientnet"),
    Entry("ViT-S/14 features", "dino"),
)
COLUMNS = ("operator", "measure", "raw", "lifted", "lifted / raw", "quality", "raw quality", "lifted quality")
TIMES = ("s a frame, raw", "s a frame, lifted")


@dataclass(frozen=True, slots=True)
class OperatorOptions:
    """What is measured.

    Attributes:
        operators: titles, None for all of `ENTRIES`.
        weights: folder with deeplab_voc/ and style_ncnn/.
        sources: source views a target.
    """

    operators: tuple[str, ...] | None = None
    weights: str | None = None
    sources: int = LiftConfig().sources

    def entries(self) -> tuple[Entry, ...]:
        """The operators asked for. Raises `ConfigError` for one that is not in the table."""
        known = [entry.title for entry in ENTRIES]
        unknown = [title for title in self.operators or () if title not in known]
        if unknown:
            raise ConfigError(f"operator {unknown[0]!r} is not in the table", remedy=f"it has {', '.join(known)}")
        return tuple(entry for entry in ENTRIES if self.operators is None or entry.title in self.operators)


def benchmark_operators(
    sources: Sequence[str],
    out: Path,
    options: OperatorOptions,
    *,
    reader: ReaderConfig | None = None,
    document: Path | None = None,
    fresh: bool = False,
) -> list[Table]:
    """Label every scene with every operator, raw and lifted, and compare. What is on file in OUT is kept.

    Labels stay in OUT/stores/<dataset>/raw and .../lifted. Raises `DatasetError` where a source has no scenes, and
    `ConfigError` where the document has no section for the tables.
    """
    if document:
        section(document, SECTION)
    cells = Cells(out, {"contract": CONTRACT_VERSION, "operators": VERSION}, fresh)
    read, entries = reader or ReaderConfig(), options.entries()
    for source in sources:
        for bench in open_scenes([source], read, None):
            views = cache(lambda bench=bench: views_of(bench, options.sources))
            for entry in entries:
                for what in (RAW, LIFTED):
                    lift = LiftConfig(method="none" if what == RAW else "auto", sources=options.sources)
                    store = str(out / "stores" / bench.group / what)
                    _measure(cells, what, _Labelling(bench, source, entry, lift, store, options.weights, views))
    tables = assemble(cells)
    out.mkdir(parents=True, exist_ok=True)
    text = "\n".join(table.markdown() for table in tables)
    (out / "operators.md").write_text(text, encoding="utf-8")
    if document:
        replace_section(document, SECTION, text)
    return tables


def _measure(cells: Cells, what: str, work: _Labelling) -> None:
    """The cell of one operator on one scene, raw or lifted."""
    bench, entry, lift = work.bench, work.entry, work.lift
    labels = {"group": bench.group, "scene": bench.id, "operator": entry.title, "what": what}
    key = {"spec": entry.spec, "kwargs": dict(entry.kwargs), "lift": lift.model_dump(mode="json")}
    cells.measure("operators", labels, key | {"checkpoint": weights_sha256(lift)}, work)


@dataclass(frozen=True, slots=True)
class _Labelling:
    """One cell's work: a run of `label`, and the scores of what it stored."""

    bench: BenchScene
    source: str
    entry: Entry
    lift: LiftConfig
    store: str
    weights: str | None
    views: Callable[[], list[View]]

    def __call__(self) -> dict[str, Any]:
        from pipeline.benchmark.operator_scores import scores
        from pipeline.store import read_labels, read_metadata

        spec = self._spec()
        summary = self._run(spec)
        rows = read_labels(self.store, scene=self.bench.id, operator=spec).to_dict("records")
        by_frame: dict[str, dict[str, Any]] = {row["frame"]: {str(n): v for n, v in row.items()} for row in rows}
        missing = [frame.id for frame in self.bench.frames if frame.id not in by_frame]
        if missing:
            raise DatasetError(f"{len(missing)} frames were not labelled, {missing[0]} the first", scene=self.bench.id)
        labels = read_metadata(self.store, self.bench.id, spec).label_set
        found = scores(self.bench, self.views(), [by_frame[frame.id] for frame in self.bench.frames], labels)
        seconds = summary.wall_s / summary.frames_labelled if summary.frames_labelled else None
        return found | {"kind": rows[0]["kind"], "frames": len(by_frame), "seconds": seconds}

    def _spec(self) -> str:
        if "{weights}" in self.entry.spec and self.weights is None:
            raise MissingWeightsError(f"{self.entry.title} needs a file", remedy="name its folder with --weights")
        return self.entry.spec.format(weights=self.weights)

    def _run(self, spec: str) -> RunSummary:
        from pipeline.run import run_labeling

        config = LabelingConfig(
            source=self.source,
            store=self.store,
            reader=self.bench.reader.model_copy(update={"scenes": self.bench.id}),
            operator=OperatorConfig(spec=spec, kwargs=dict(self.entry.kwargs), batch_size=1),
            lift=self.lift,
            engine=EngineConfig(kind="local", device="cpu"),
        )
        return run_labeling(config, on_progress=lambda _: None)


def views_of(bench: BenchScene, sources: int) -> list[View]:
    """The scene's views with sensor depth, else with depth from RGB where that is sure of itself."""
    if "depth" in bench.modes:
        return bench.views
    import numpy as np

    from pipeline.benchmark.depths import found_depths
    from pipeline.benchmark.lifts import Memory, Variant

    found = found_depths(bench, Variant(LiftConfig(method="rgb", sources=sources)), Memory())
    views = []
    for frame in bench.frames:
        depth, spread = found[frame.id]
        views.append(View(frame.camera, np.where(spread < WIDEST_SPREAD, depth, 0).astype(np.float32)))
    return views


def assemble(cells: Cells) -> list[Table]:
    """One table a scene from all that is on file."""
    found: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    frames: dict[tuple[str, str], int] = {}
    for cell in cells.all():
        if cell["part"] != "operators":
            continue
        labels, place = cell["labels"], (cell["labels"]["group"], cell["labels"]["scene"])
        found.setdefault(place, {}).setdefault(labels["operator"], {})[labels["what"]] = cell["values"]
        frames[place] = cell["values"].get("frames", frames.get(place, 0))
    order = {entry.title: k for k, entry in enumerate(ENTRIES)}
    tables = []
    for place, rows in found.items():
        lines = [line for title in sorted(rows, key=lambda t: order.get(t, 99)) for line in _lines(title, rows[title])]
        tables.append(Table(f"{place[0]}: {frames[place]} views", (*COLUMNS, *TIMES), tuple(lines)))
    return tables


MEASURES = {
    "classes": (("consistency", "consistency"),),
    "features": (("consistency", "consistency (cosine)"),),
    "image": (("long_rmse", "long-range warping RMSE"), ("short_rmse", "short-range warping RMSE")),
    "scalar": (("long_rmse", "long-range warping RMSE"), ("short_rmse", "short-range warping RMSE")),
}
QUALITIES = {
    "classes": (("accuracy", "pixel accuracy"), ("miou", "mIoU")),
    "image": (("long_ssim", "long-range SSIM"), ("sharpness", "sharpness")),
    "scalar": (("long_ssim", "long-range SSIM"), ("sharpness", "sharpness")),
}


def _lines(title: str, of: Mapping[str, Mapping[str, Any]]) -> list[tuple[Cell, ...]]:
    raw, lifted = of.get(RAW, {}), of.get(LIFTED, {})
    reason = raw.get(NOT_MEASURED) or lifted.get(NOT_MEASURED)
    if reason or not raw or not lifted:
        return [(title, f"not measured: {reason}" if reason else "-", *[None] * 8)]
    measures = MEASURES[raw["kind"]]
    qualities = [(name, shown) for name, shown in QUALITIES.get(raw["kind"], ()) if name in raw]
    lines: list[tuple[Cell, ...]] = []
    for k in range(max(len(measures), len(qualities))):
        name, shown = measures[k] if k < len(measures) else ("", None)
        quality, quality_shown = qualities[k] if k < len(qualities) else ("", None)
        a, b = raw.get(name), lifted.get(name)
        times = (_short(raw["seconds"]), _short(lifted["seconds"])) if k == 0 else (None, None)
        pair = (_short(raw.get(quality)), _short(lifted.get(quality)))
        ratio = _short(b / a) if a and b else None
        lines.append((title if k == 0 else "", shown, _short(a), _short(b), ratio, quality_shown, *pair, *times))
    return lines


def _short(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
