"""From a scene to units of work: which frames are still to do, which views each of them needs, cut into chunks.

Chunks lie on a fixed grid over the scene's usable frames, so that a run that was cut off and started again makes the
very chunks that were missing. Source views are always chosen from all usable frames: labels do not depend on chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from pipeline.assets import decode_depth
from pipeline.fingerprint import corrected_digest, frame_fingerprint, frame_parts, geometry_of, view_digests
from pipeline.view_selection import select_sources
from schemas.config import LabelingConfig, LiftConfig
from schemas.errors import FrameError
from schemas.record import QuarantineRecord
from schemas.scene import Chunk, Frame, FrameIssue, Scene

DEPTH_FRAMES = 12
"""Depth maps a scene that are opened to learn how far away things are."""
DEPTH_QUANTILES = (0.1, 0.5, 0.9)
MOST_VIEWS = 192
"""Views that a chunk's targets look at, at most, unless a single one does: memory does not grow with the scene."""

Sources = Sequence[tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class ScenePlan:
    """What is to be done in a scene.

    Attributes:
        scene: the scene's id.
        chunks: the work that is left, in the dataset's order.
        fingerprints: usable frame id -> the fingerprint that its label has once the plan is carried out.
        resumed: ids of the frames whose label is in the store already.
        issues: frames that the reader set aside.
        held: rows of frames that ended their worker in an earlier run, and are not tried again.
    """

    scene: str
    chunks: tuple[Chunk, ...]
    fingerprints: dict[str, str]
    resumed: tuple[str, ...]
    issues: tuple[FrameIssue, ...] = ()
    held: tuple[QuarantineRecord, ...] = ()

    @property
    def frames(self) -> int:
        """How many usable frames the scene has."""
        return len(self.fingerprints)

    @property
    def targets(self) -> int:
        """How many frames are to be labelled."""
        return sum(len(chunk.targets) for chunk in self.chunks)


def plan_scene(
    scene: Scene,
    config: LabelingConfig,
    model: str,
    done: Mapping[str, str],
    *,
    corrects: bool = True,
    pick: Callable[[Frame], bool] | None = None,
    origin: Mapping[str, str | None] | None = None,
) -> ScenePlan:
    """Plan a scene. Opens at most `DEPTH_FRAMES` depth maps, and nothing else.

    Args:
        scene: its usable frames are both targets and source views.
        config: the `lift` and `plan` sections are used.
        model: `model_fingerprint` of operator and lift.
        done: frame id -> fingerprint of the label that the store shows now.
        corrects: whether sources are corrected by their own sources first (`lifting.corrects_sources`).
        pick: which of the frames that are not labelled as they should be are to be labelled now; all where absent.
        origin: `operator` and `checkpoint` of `model`, so that commits can say what a label was made with.
    """
    sources = choose_sources(scene.frames, config.lift)
    reach = _reach(config.lift, corrects)
    fingerprints = _fingerprints(scene.frames, sources, config.lift, model, reach)
    current = [done.get(frame.id) == mark for frame, mark in zip(scene.frames, fingerprints, strict=True)]
    to_do = [i for i, frame in enumerate(scene.frames) if not current[i] and (pick is None or pick(frame))]
    chunks = []
    blocks = (list(block) for _, block in groupby(to_do, key=lambda target: target // config.plan.chunk))
    for targets in (part for block in blocks for part in _cut(block, sources)):
        replaces = any(scene.frames[target].id in done for target in targets)
        needed = _needed(scene.frames, targets, sources, config.lift, reach)
        through = _looked_through(scene.frames, targets, sources, config.lift, reach)
        chunk = _chunk(scene, targets, sources, fingerprints, needed, through, replaces)
        parts = _parts(scene.frames, targets, sources, config.lift, reach, origin) if origin else ()
        chunks.append(replace(chunk, parts=parts))
    resumed = tuple(frame.id for i, frame in enumerate(scene.frames) if current[i])
    wanted = {frame.id: mark for frame, mark in zip(scene.frames, fingerprints, strict=True)}
    return ScenePlan(scene.id, tuple(chunks), wanted, resumed, scene.issues)


def halves(chunk: Chunk, lift: LiftConfig, *, corrects: bool = True) -> list[Chunk]:
    """A chunk of several targets as two, each with the views that it needs: the labels are the same.

    `lift` and `corrects` are those that the chunk was planned with.
    """
    middle, every = len(chunk.targets) // 2, range(len(chunk.targets))
    return [only(chunk, of, lift, corrects=corrects) for of in (every[:middle], every[middle:])]


def only(chunk: Chunk, which: Sequence[int], lift: LiftConfig, *, corrects: bool = True) -> Chunk:
    """A chunk with some of its targets, by their positions among these, and the views that they need."""
    part = narrowed(chunk, [chunk.targets[k] for k in which], lift, _reach(lift, corrects))
    parts = tuple(chunk.parts[k] for k in which) if chunk.parts else ()
    return replace(part, fingerprints=tuple(chunk.fingerprints[k] for k in which), parts=parts)


def narrowed(chunk: Chunk, targets: Sequence[int], lift: LiftConfig, reach: int) -> Chunk:
    """A chunk with other targets among its views, and only the views that these need; without what is told of targets.

    Args:
        targets: positions of the chunk's views.
        lift: that the chunk was planned with.
        reach: how many steps of sources the targets look through.
    """
    needed = sorted(_needed(chunk.frames, targets, chunk.sources, lift, reach))
    through = _looked_through(chunk.frames, targets, chunk.sources, lift, reach)
    place = {view: position for position, view in enumerate(needed)}
    return replace(
        chunk,
        frames=tuple(chunk.frames[view] for view in needed),
        targets=tuple(place[target] for target in targets),
        sources=tuple(tuple(place[s] for s in chunk.sources[v]) if v in through else () for v in needed),
        fingerprints=("",) * len(targets),
        parts=(),
    )


def _cut(targets: list[int], sources: Sources) -> list[list[int]]:
    """Targets of a chunk in halves, quarters..., until none looks at more than `MOST_VIEWS` views."""
    if len(targets) == 1 or len(_reached(targets, sources, 1)) <= MOST_VIEWS:
        return [targets]
    middle = len(targets) // 2
    return _cut(targets[:middle], sources) + _cut(targets[middle:], sources)


def _reach(lift: LiftConfig, corrects: bool) -> int:
    """How many steps of sources a label looks through."""
    return 2 if corrects and lift.mode == "label" else 1


def choose_sources(frames: Sequence[Frame], lift: LiftConfig) -> list[tuple[int, ...]]:
    """Source views of every frame, best first; none where nothing is lifted."""
    if lift.method == "none":
        return [()] * len(frames)
    return select_sources([frame.camera for frame in frames], lift.sources, depth_quantiles(frames, lift))


def depth_quantiles(frames: Sequence[Frame], lift: LiftConfig) -> tuple[float, ...] | None:
    """Depths at which a scene's content lies: from evenly spaced depth maps, else from `near` and `far`, else None.

    Depth maps that cannot be read are passed over: the frames they belong to are quarantined when their turn comes.
    """
    with_depth = [frame for frame in frames if geometry_of(frame, lift) == "depth" and frame.depth is not None]
    picked = {round(index) for index in np.linspace(0, len(with_depth) - 1, DEPTH_FRAMES)} if with_depth else set()
    samples = [sample for index in sorted(picked) if (sample := _known_depths(with_depth[index])).size]
    if samples:
        return tuple(np.quantile(np.concatenate(samples), DEPTH_QUANTILES).tolist())
    if lift.near and lift.far:
        return tuple(np.geomspace(lift.near, lift.far, len(DEPTH_QUANTILES)).tolist())
    return None


def _known_depths(frame: Frame) -> np.ndarray:
    """[N] positive depths of about a thousand pixels, evenly spaced."""
    assert frame.depth is not None
    try:
        depth = decode_depth(frame.depth)
    except FrameError:
        return np.empty(0)
    step = max(1, int(np.sqrt(depth.size / 1000)))
    coarse = depth[step // 2 :: step, step // 2 :: step]
    return coarse[coarse > 0]


def _fingerprints(frames: Sequence[Frame], sources: Sources, lift: LiftConfig, model: str, reach: int) -> list[str]:
    digests = view_digests(frames, sources, lift)
    swept = [geometry_of(frame, lift) == "rgb" for frame in frames]
    as_source = [corrected_digest(digests[v], [digests[s] for s in views]) for v, views in enumerate(sources)]
    return [
        frame_fingerprint(
            model,
            lift,
            digests[target],
            [as_source[s] if reach > 1 else digests[s] for s in views],
            sweeps=any(swept[v] for v in _reached([target], sources, reach)),
        )
        for target, views in enumerate(sources)
    ]


def _parts(
    frames: Sequence[Frame],
    targets: Sequence[int],
    sources: Sources,
    lift: LiftConfig,
    reach: int,
    origin: Mapping[str, str | None],
) -> tuple[str, ...]:
    """`frame_parts` of each target."""
    swept = {i for i, frame in enumerate(frames) if geometry_of(frame, lift) == "rgb"}
    return tuple(
        frame_parts(
            frames[target],
            [frames[s].id for s in sources[target]],
            lift,
            origin,
            sweeps=bool(swept & _reached([target], sources, reach)),
        )
        for target in targets
    )


def _chunk(
    scene: Scene,
    targets: Sequence[int],
    sources: Sources,
    fingerprints: Sequence[str],
    needed: set[int],
    through: set[int],
    staged: bool,
) -> Chunk:
    """A chunk; in a long scene most of its views are looked at last, and nobody asks for the sources of those."""
    place = {view: position for position, view in enumerate(sorted(needed))}
    return Chunk(
        scene=scene.id,
        name=f"{targets[0]:06d}",
        frames=tuple(scene.frames[view] for view in place),
        targets=tuple(place[target] for target in targets),
        sources=tuple(tuple(place[s] for s in sources[view]) if view in through else () for view in place),
        fingerprints=tuple(fingerprints[target] for target in targets),
        staged=staged,
    )


def _needed(
    frames: Sequence[Frame], targets: Sequence[int], sources: Sources, lift: LiftConfig, reach: int
) -> set[int]:
    """Targets, their sources, where those are corrected theirs, and whatever is swept for the depth of any of these."""
    through = _looked_through(frames, targets, sources, lift, reach)
    return through | {s for view in through for s in sources[view]}


def _looked_through(
    frames: Sequence[Frame], targets: Sequence[int], sources: Sources, lift: LiftConfig, reach: int
) -> set[int]:
    """Views whose sources matter: those through which targets look, and whatever is swept among what they look at."""
    swept = {view for view in _reached(targets, sources, reach) if geometry_of(frames[view], lift) == "rgb"}
    return _reached(targets, sources, reach - 1) | swept


def _reached(targets: Sequence[int], sources: Sources, reach: int) -> set[int]:
    """Targets and what they look at, directly or through `reach` steps of sources."""
    views = set(targets)
    for _ in range(reach):
        views |= {s for view in views for s in sources[view]}
    return views
