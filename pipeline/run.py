"""A labelling run from config to summary: check, plan, label, publish, and write down what happened."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

from pipeline import __version__
from pipeline.bundles import bundled
from pipeline.engines import Engine, open_engine
from pipeline.finishing import Scenes, settle_attempts
from pipeline.preflight import check_room, worker_memory
from pipeline.progress import OnProgress, Progress, console_progress
from pipeline.reach import check_reachable
from pipeline.shared import MOST_BYTES
from pipeline.stopping import Stop, stoppable
from pipeline.survey import Survey, surveys
from pipeline.telemetry.events import open_events
from pipeline.telemetry.record import RunRecord
from pipeline.telemetry.tally import Tally
from schemas.config import LabelingConfig
from schemas.errors import ConfigError
from schemas.store import StoreMetadata
from schemas.text import masked

if TYPE_CHECKING:
    from pipeline.engines.worker import Job
    from pipeline.store import Store
    from pipeline.store.lease import Lease

log = logging.getLogger("lift3d")

BYTES_A_PIXEL = {"classes": 0.08, "image": 1.5, "scalar": 1.5}
"""Rough size of a stored frame with its confidence, by kind. Feature maps depend on the operator's channels."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """The last line of `lift3d label`.

    Attributes:
        run_id: unique; ids sort by time.
        scenes: scenes that the run covered, readable or not.
        frames_labelled, frames_resumed: labelled now, and labelled before; of several operators, the sum of theirs.
        frames_quarantined: frames without a label, and one for each scene that could not be read at all; likewise.
        wall_s, frames_per_s: of the whole run.
        store: where the labels are.
    """

    run_id: str
    scenes: int
    frames_labelled: int
    frames_resumed: int
    frames_quarantined: int
    wall_s: float
    frames_per_s: float
    store: str

    @property
    def exit_code(self) -> int:
        """0 where everything is labelled, 3 where something was quarantined."""
        return 3 if self.frames_quarantined else 0


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What `--dry-run` prints.

    Attributes:
        scenes, frames: readable scenes and their usable frames; of several operators, frames are the sum of theirs.
        frames_resumed, frames_to_do: labelled before, and left to label, in `chunks` units of work.
        frames_set_aside, scenes_unreadable: what will be quarantined.
        estimated_bytes: rough size of what will be stored; None where the kind does not tell.
        store: where it will be.
    """

    scenes: int
    frames: int
    frames_resumed: int
    frames_to_do: int
    frames_set_aside: int
    scenes_unreadable: int
    chunks: int
    estimated_bytes: int | None
    store: str


def run_labeling(
    config: LabelingConfig, *, on_progress: OnProgress | None = None, only_quarantined: bool = False
) -> RunSummary:
    """Label everything that the config selects and that the store does not hold yet.

    Args:
        config: with `source` and `store` as every process can reach them; several operators work in one pass.
        on_progress: called with every finished chunk; by default progress is shown on stderr.
        only_quarantined: label the frames that are in quarantine, with new tries, and no others.

    Whatever is committed stays, however the run ends. SIGTERM ends it like Ctrl-C, by KeyboardInterrupt, but lets
    chunks that are under way be committed first (`pipeline/stopping.py`).

    Raises `LeaseError` where another run labels with one of the operators into this store, and
    `ConfigError`, `DatasetError`, `OperatorError`, `StoreError` or `EngineError` where the run cannot start or
    go on. Frames that cannot be labelled are no error: they are counted and quarantined.
    """
    from pipeline.store import RunStamp, Store

    started, stamp = monotonic(), RunStamp.now()
    check_reachable(config)
    slugs = _slugs(config)
    store = Store(config.store)
    with (
        stoppable() as stop,
        open_events(config.engine.events, stamp.run_id) as events,
        open_engine(config.engine) as engine,
        _leases(store, slugs, stamp.run_id) as leases,
        RunRecord(config, stamp, slugs, store, events, engine) as record,
    ):
        for slug in slugs:
            store.recover(slug)
            settle_attempts(config, store, slug, forgive_quarantined=only_quarantined)
        plans = surveys(config, store, remember=True, only_quarantined=only_quarantined)
        check_room(config.store, _estimated_bytes(plans))
        engine.fit(_worker_memory(config, plans))
        jobs = [_job(own, engine, plan, stamp) for own, plan in zip(config.each(), plans, strict=True)]
        log.info(
            "%d labels to make in %d scenes on %d worker(s), %s; %d are there already",
            sum(plan.targets for plan in plans),
            len({p.scene for plan in plans for p in plan.plans}),
            engine.workers,
            engine.device,
            sum(plan.resumed for plan in plans),
        )
        record.planned(plans)
        scenes = {job.slug: Scenes(store, job, plan, leases[job.slug]) for job, plan in zip(jobs, plans, strict=True)}
        with nullcontext(on_progress) if on_progress else console_progress() as show:
            tally = _label(engine, jobs, plans, scenes, record, show, stop)
        summary = _summary(config, plans, tally, stamp.run_id, monotonic() - started)
        record.summarize(asdict(summary))
    return summary


def _slugs(config: LabelingConfig) -> tuple[str, ...]:
    """The operators' names in the store, in the order given. Raises `ConfigError` where two have one name."""
    from pipeline.store import operator_slug

    slugs = tuple(operator_slug(spec) for spec in config.operator.specs)
    if len(set(slugs)) < len(slugs):
        raise ConfigError(f"two operators have one name: {', '.join(slugs)}", remedy="leave one of them out")
    return slugs


@contextmanager
def _leases(store: Store, slugs: Sequence[str], run_id: str) -> Iterator[dict[str, Lease]]:
    """The leases of all operators, taken in one order by every run, so that no two runs wait for each other's."""
    with ExitStack() as held:
        yield {slug: held.enter_context(store.lease(slug, run_id)) for slug in sorted(slugs)}


def _worker_memory(config: LabelingConfig, plans: Sequence[Survey]) -> int:
    """What a worker needs for its largest chunk, and for what operators have in common of it."""
    most = max(worker_memory(plan.chunks, lifts=config.lift.method != "none") for plan in plans)
    return most + (MOST_BYTES if len(plans) > 1 and config.lift.method != "none" else 0)


def _summary(config: LabelingConfig, plans: Sequence[Survey], tally: Tally, run_id: str, wall_s: float) -> RunSummary:
    scenes = {p.scene for plan in plans for p in plan.plans} | {row.scene for plan in plans for row in plan.unreadable}
    return RunSummary(
        run_id=run_id,
        scenes=len(scenes),
        frames_labelled=tally.labelled,
        frames_resumed=sum(plan.resumed for plan in plans),
        frames_quarantined=tally.quarantined + sum(plan.set_aside_frames for plan in plans),
        wall_s=round(wall_s, 3),
        frames_per_s=round(tally.labelled / wall_s, 3),
        store=config.store,
    )


def plan_labeling(config: LabelingConfig, *, only_quarantined: bool = False) -> RunPlan:
    """What `run_labeling` would do. Reads the dataset and the store, writes nothing, starts no engine."""
    from pipeline.store import Store

    check_reachable(config)
    store = Store(config.store)
    store.check_version()
    plans = surveys(config, store, only_quarantined=only_quarantined)
    return RunPlan(
        scenes=len({p.scene for plan in plans for p in plan.plans}),
        frames=sum(p.frames for plan in plans for p in plan.plans),
        frames_resumed=sum(plan.resumed for plan in plans),
        frames_to_do=sum(plan.targets for plan in plans),
        frames_set_aside=sum(len(p.issues) for plan in plans for p in plan.plans),
        scenes_unreadable=max(len(plan.unreadable) for plan in plans),
        chunks=sum(len(plan.chunks) for plan in plans),
        estimated_bytes=_estimated_bytes(plans),
        store=config.store,
    )


def _label(
    engine: Engine,
    jobs: Sequence[Job],
    plans: Sequence[Survey],
    scenes: Mapping[str, Scenes],
    record: RunRecord,
    show: OnProgress,
    stop: Stop,
) -> Tally:
    """Work on all chunks; finish each scene, operator by operator, as soon as its last chunk is in."""
    for own in scenes.values():
        own.finish_idle()
    tally, total = Tally(), sum(plan.targets for plan in plans)
    started = monotonic()
    with stop.draining(engine.drain):
        for status in engine.run(jobs, bundled([plan.plans for plan in plans], jobs[0].config.plan.chunk)):
            tally.add(status)
            scenes[status.operator].add(status)
            record.finished(status)
            show(Progress(tally.labelled, tally.quarantined, total, monotonic() - started, record.left_s))
    return tally


def _job(config: LabelingConfig, engine: Engine, plan: Survey, stamp: Any) -> Job:
    from pipeline.engines.worker import Job

    operator = plan.operator
    metadata = StoreMetadata(
        scene="",
        operator=masked(config.operator.sole),
        kind=operator.kind,
        label_set=operator.label_set,
        provenance={
            "version": __version__,
            "lift": config.lift.model_dump(mode="json", exclude={"weights"}),
            "model_sha256": plan.weights_sha256,
            "operator_fingerprint": operator.fingerprint,
            "weights": [weights.to_json() for weights in operator.weights],
        },
    )
    resolved = config.engine.model_copy(update={"device": engine.device})
    return Job(config.model_copy(update={"engine": resolved}), stamp, plan.slug, metadata)


def _estimated_bytes(plans: Sequence[Survey]) -> int | None:
    """Of all operators whose kind tells; None where that of none does."""
    told = [plan for plan in plans if plan.operator.kind in BYTES_A_PIXEL]
    return round(sum(BYTES_A_PIXEL[plan.operator.kind] * _pixels(plan) for plan in told)) if told else None


def _pixels(plan: Survey) -> int:
    cameras = (chunk.frames[target].camera for chunk in plan.chunks for target in chunk.targets)
    return sum(camera.height * camera.width for camera in cameras)
