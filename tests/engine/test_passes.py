"""Several operators in one pass: the labels of runs of their own, work in common done once, each on its own account."""

import weakref
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipeline.run import plan_labeling, run_labeling
from pipeline.store import Store, operator_slug, read_quarantine, read_run, validate
from pipeline.store.files import open_files
from pipeline.store.lease import hold_lease
from pipeline.survey import surveys
from pipeline.telemetry.status import read_status
from schemas.config import LabelingConfig
from schemas.errors import ConfigError, LeaseError

Rooms = Callable[..., Path]
Build = Callable[..., LabelingConfig]
Labels = Callable[[LabelingConfig], pd.DataFrame]
Pass = Callable[..., LabelingConfig]

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")
"""Ray Data sets options of its own that it has deprecated."""
FRAMES = 6


@pytest.fixture
def specs(tmp_path: Path, fragile: str) -> tuple[str, str, str]:
    """Operators of three kinds of values: given class maps, soft class scores of stride 4, numbers at every pixel."""
    return f"precomputed:{tmp_path / 'predictions'}", fragile, "edges"


@pytest.fixture
def settings(config: Build, specs: tuple[str, ...]) -> Pass:
    """A config of some of the operators."""

    def build(store: str, *chosen: int, fragile: dict[str, Any] | None = None, **sections: Any) -> LabelingConfig:
        spec, known = [specs[k] for k in chosen], {specs[0]: {"label_set": "nyu40"}, specs[1]: fragile or {}}
        kwargs = {name: known[name] for name in spec if name in known}
        return config(store, **{"operator": {"spec": spec, "kwargs": kwargs}, "plan": {"chunk": 4}, **sections})

    return build


def worked_out(config: LabelingConfig) -> dict[str, int]:
    """Views by what a run works out of them."""
    found: dict[str, int] = read_run(config.store, run_labeling(config).run_id)["counts"]["views"]
    return found


def files(config: LabelingConfig, spec: str) -> dict[str, tuple[bytes, int]]:
    """Content and time of each label file and marker of an operator."""
    found = Path(config.store).glob(f"*/operator={operator_slug(spec)}/**/*.*")
    chosen = (path for path in found if path.is_file() and path.parts[-4] in {"labels", "_commits"})
    return {str(path.relative_to(config.store)): (path.read_bytes(), path.stat().st_mtime_ns) for path in chosen}


@pytest.mark.parametrize("method", ["depth", "rgb"])
@pytest.mark.parametrize(
    "engine", ["local", pytest.param("ray", marks=(pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(400)))]
)
def test_labels_of_a_pass_are_those_of_separate_runs(
    rooms: Rooms, settings: Pass, labels: Labels, method: str, engine: str
) -> None:
    rooms(a=FRAMES, b=2)
    kind = {"kind": engine} | ({"workers": 1} if engine == "ray" else {})
    lift = {"method": method, "planes": 16}
    together = settings("together", 0, 1, 2, lift=lift, engine=kind)
    assert run_labeling(together).frames_labelled == 3 * (FRAMES + 2)
    for k in range(3):
        run_labeling(settings("apart", k, lift=lift))
    pd.testing.assert_frame_equal(labels(together), labels(settings("apart", 0)))
    assert not validate(together.store).problems


@pytest.mark.parametrize("method", ["depth", "rgb"])
def test_what_depends_on_no_operator_is_worked_out_once(rooms: Rooms, settings: Pass, method: str) -> None:
    rooms(a=FRAMES)
    more = {"lift": {"method": method, "planes": 16}, "plan": {"chunk": 32}}
    alone = [worked_out(settings("apart", k, **more)) for k in range(3)]
    found = worked_out(settings("together", 0, 1, 2, **more))
    assert found["decoded"] == FRAMES == alone[0]["decoded"]
    assert found.get("swept", 0) == (FRAMES if method == "rgb" else 0) == alone[0].get("swept", 0)
    assert found["confirmed"] == FRAMES == alone[0]["confirmed"]
    assert found["gathered"] == 2 * FRAMES, "once for pixels, once for cells of 4 pixels"
    assert sum(one["gathered"] for one in alone) == 5 * FRAMES, "alone, class maps have it gathered twice"
    assert found["compared"] == FRAMES, "neighbouring pixels are as alike for one operator as for another"
    assert sum(one.get("compared", 0) for one in alone) == 4 * FRAMES
    assert found["encoded"] == 3 * FRAMES, "every operator looks for itself"


def test_a_driver_lets_go_of_the_operators_that_workers_build(rooms: Rooms, settings: Pass, fragile: str) -> None:
    """Their networks may take gigabytes."""
    rooms(a=2)
    chosen = settings("store", 0, 1)
    made: weakref.WeakSet[object] = weakref.WeakSet()
    module, name = import_module(fragile.partition(":")[0]), fragile.partition(":")[2]

    class Noted(getattr(module, name)):  # type: ignore[misc]
        """Tells that it was made."""

        def __new__(cls, **_: Any) -> Any:
            made.add(one := super().__new__(cls))
            count.append(one.name)
            return one

    count: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, Noted)
        found = surveys(chosen, Store(chosen.store))
    assert count == ["fragile"] and not made
    assert [one.operator.kind for one in found] == ["classes", "classes"]
    assert found[1].operator.fingerprint == "fragile-1"


def test_an_operator_that_is_added_later_costs_the_others_nothing(
    rooms: Rooms, settings: Pass, specs: tuple[str, ...]
) -> None:
    rooms(a=FRAMES)
    first = settings("store", 0, 1)
    run_labeling(first)
    before = [files(first, spec) for spec in specs[:2]]
    assert all(before)
    more = settings("store", 0, 1, 2)
    plan = plan_labeling(more)
    assert (plan.frames_resumed, plan.frames_to_do) == (2 * FRAMES, FRAMES)
    assert worked_out(more)["encoded"] == FRAMES
    assert [files(first, spec) for spec in specs[:2]] == before


def test_another_version_of_one_operator_is_labelled_anew_and_nothing_else(
    rooms: Rooms, settings: Pass, specs: tuple[str, ...]
) -> None:
    rooms(a=FRAMES)
    run_labeling(settings("store", 0, 1, 2))
    before = [files(settings("store", 0), spec) for spec in specs]
    summary = run_labeling(settings("store", 0, 1, 2, fragile={"version": 2}))
    assert (summary.frames_resumed, summary.frames_labelled) == (2 * FRAMES, FRAMES)
    after = [files(settings("store", 0), spec) for spec in specs]
    assert [a == b for a, b in zip(after, before, strict=True)] == [True, False, True]


@pytest.mark.parametrize("stopped", [0, 1])
def test_each_operator_resumes_by_itself(rooms: Rooms, settings: Pass, labels: Labels, stopped: int) -> None:
    """A pass that is interrupted leaves whole chunks of some operators, and the next one makes the rest."""
    rooms(a=FRAMES)
    broken, seen = settings("broken", 0, 1, 2), []

    def interrupt(progress: Any) -> None:
        seen.append(progress.done)
        if len(seen) > stopped:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_labeling(broken, on_progress=interrupt)
    assert [run.state for run in read_status(broken.store).runs] == ["interrupted"]
    second = run_labeling(broken)
    assert (second.frames_resumed, second.frames_labelled) == (seen[-1], 3 * FRAMES - seen[-1])
    run_labeling(whole := settings("whole", 0, 1, 2))
    pd.testing.assert_frame_equal(labels(broken), labels(whole))


def test_a_frame_that_one_operator_cannot_label_costs_the_others_nothing(
    rooms: Rooms, settings: Pass, labels: Labels, specs: tuple[str, ...], tmp_path: Path
) -> None:
    rooms(a=FRAMES)
    (tmp_path / "predictions" / "a" / "2.png").write_bytes(b"no picture")
    together = settings("together", 0, 1, 2)
    summary = run_labeling(together)
    assert (summary.frames_labelled, summary.frames_quarantined) == (3 * FRAMES - 1, 1)
    rows = read_quarantine(together.store)
    assert list(zip(rows["operator"], rows["frame"], strict=True)) == [(operator_slug(specs[0]), "2")]
    for k in range(3):
        run_labeling(settings("apart", k))
    pd.testing.assert_frame_equal(labels(together), labels(settings("apart", 0)))


def test_a_frame_that_nobody_can_read_is_in_every_operators_quarantine(
    rooms: Rooms, settings: Pass, specs: tuple[str, ...]
) -> None:
    image = rooms(a=FRAMES) / "a" / "color" / "2.jpg"
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    together = settings("store", 0, 2)
    assert run_labeling(together).frames_quarantined == 2
    assert set(read_quarantine(together.store)["operator"]) == {operator_slug(specs[0]), operator_slug(specs[2])}
    image.write_bytes(whole)
    mended = run_labeling(together, only_quarantined=True)
    assert (mended.frames_labelled, mended.frames_quarantined) == (2, 0)
    assert read_quarantine(together.store).empty


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_frame_that_kills_workers_costs_its_operator_that_frame_and_the_others_none(
    rooms: Rooms, settings: Pass, specs: tuple[str, ...]
) -> None:
    rooms(a=FRAMES)
    deadly = settings("store", 0, 1, 2, fragile={"fatal": ["3"]}, engine={"kind": "ray", "workers": 1})
    summary = run_labeling(deadly)
    assert (summary.frames_labelled, summary.frames_quarantined) == (3 * FRAMES - 1, 1)
    rows = read_quarantine(deadly.store)
    assert list(rows[["operator", "frame", "reason"]].iloc[0]) == [operator_slug(specs[1]), "3", "worker_died"]
    assert not validate(deadly.store).problems


def test_a_pass_takes_the_lease_of_every_operator(rooms: Rooms, settings: Pass, specs: tuple[str, ...]) -> None:
    rooms(a=2)
    both = settings("store", 0, 2)
    run_labeling(both)
    with hold_lease(open_files(both.store), operator_slug(specs[2]), "other"):
        with pytest.raises(LeaseError, match="other"):
            run_labeling(both)
        assert run_labeling(settings("store", 0)).frames_resumed == 2
    assert run_labeling(both).frames_resumed == 4
    assert not list(Path(both.store, "_leases").glob("*.json"))


def test_document_and_status_show_each_operator(rooms: Rooms, settings: Pass, specs: tuple[str, ...]) -> None:
    rooms(a=FRAMES)
    run_labeling(settings("store", 0))
    both = settings("store", 0, 2)
    document = read_run(both.store, run_labeling(both).run_id)
    slugs = [operator_slug(specs[k]) for k in (0, 2)]
    assert {slug: (one["resumed"], one["to_do"]) for slug, one in document["operators"].items()} == {
        slugs[0]: (FRAMES, 0),
        slugs[1]: (0, FRAMES),
    }
    status = read_status(both.store)
    assert {one.operator: (one.frames_labelled, one.share) for one in status.operators} == dict.fromkeys(
        slugs, (FRAMES, 1.0)
    )
    assert status.runs[0].operator == ", ".join(slugs)


def test_operators_of_one_name_and_shared_arguments_are_refused(rooms: Rooms, config: Build) -> None:
    rooms(a=2)
    with pytest.raises(ConfigError, match="none twice"):
        config(operator={"spec": ["edges", "edges"], "kwargs": {}})
    with pytest.raises(ConfigError, match="kwargs of a list of operators are given by SPEC"):
        config(operator={"spec": ["edges", "indoor"], "kwargs": {"label_set": "nyu40"}})
