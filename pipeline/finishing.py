"""The driver's part in the store: before a run what the last one left, after each scene what became of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pipeline.plan import ScenePlan
from pipeline.survey import Survey, quarantine_reasons
from schemas.config import LabelingConfig
from schemas.record import QuarantineRecord

if TYPE_CHECKING:
    from pipeline.engines.worker import ChunkStatus, Job
    from pipeline.store import Store
    from pipeline.store.lease import Lease


def settle_attempts(config: LabelingConfig, store: Store, slug: str, *, forgive_quarantined: bool) -> None:
    """Count what earlier runs died of, and maybe give what is in quarantine new tries."""
    attempts = store.attempts(slug, config.engine.attempts, config.engine.kind)
    attempts.settle()
    if forgive_quarantined:
        rows = quarantine_reasons(store.uri, slug)
        attempts.forgive({scene: {frame for frame in frames if frame} for scene, frames in rows.items()})


class Scenes:
    """The driver's part in the store: publishes and quarantines scene by scene, once a scene's chunks are all in."""

    def __init__(self, store: Store, job: Job, plan: Survey, lease: Lease) -> None:
        self._store = store
        self._job = job
        self._lease = lease
        engine = job.config.engine
        self._attempts = store.attempts(job.slug, engine.attempts, engine.kind)
        self._survey = plan
        self._plans = {p.scene: p for p in plan.plans}
        self._left = {p.scene: len(p.chunks) for p in plan.plans}
        self._rows: defaultdict[str, list[QuarantineRecord]] = defaultdict(list)
        self._known = _known_rows(store, job.slug)

    def finish_idle(self) -> None:
        """Quarantine unreadable scenes, and finish the scenes in which there is nothing to label."""
        self._quarantine(self._survey.unreadable)
        for scene, left in self._left.items():
            if left == 0:
                self._finish(self._plans[scene])

    def add(self, status: ChunkStatus) -> None:
        """Take note of a finished chunk. Raises `LeaseError` once another run took over."""
        if self._lease.lost:
            self._lease.check()
        self._rows[status.scene] += status.quarantined
        self._left[status.scene] -= 1
        if self._left[status.scene] == 0:
            self._finish(self._plans[status.scene])

    def _finish(self, plan: ScenePlan) -> None:
        self._lease.check()
        self._store.publish(self._job.slug, plan.scene, plan.fingerprints)
        self._quarantine([*self._survey.set_aside(plan), *self._rows.pop(plan.scene, [])])
        if plan.chunks:
            self._attempts.clear(plan.scene)

    def _quarantine(self, rows: Iterable[QuarantineRecord]) -> None:
        """Write the rows that say something new: a frame that fails as it did before has its row already."""
        new = [row for row in rows if _key(row.scene, row.frame, row.reason, row.message) not in self._known]
        if new:
            self._lease.check()
            self._store.quarantine(self._job.slug, new, self._job.stamp)


def _known_rows(store: Store, slug: str) -> set[tuple[str | None, ...]]:
    from pipeline.store import read_quarantine

    rows = read_quarantine(store.uri, operator=slug)[["scene", "frame", "reason", "message"]]
    return {_key(*row) for row in rows.astype(object).where(rows.notna(), None).itertuples(index=False)}


def _key(scene: str, frame: str | None, reason: str, message: str) -> tuple[str | None, ...]:
    return scene, frame, str(reason), message.encode("utf-8", "backslashreplace").decode()
