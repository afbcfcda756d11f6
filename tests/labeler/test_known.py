"""What chunks leave for each other: the same labels to the bit, less work, and no harm when it is gone or damaged."""

import os
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline import Labeler, known
from pipeline.plan import plan_scene
from pipeline.scratch import Scratch, discard, scratch_root, worth_keeping
from pipeline.tries import Untried
from schemas.config import parse_config
from schemas.errors import ConfigError

PLENTY = 1 << 30


@pytest.fixture(autouse=True)
def every_prediction_is_worth_keeping(monkeypatch):
    monkeypatch.setattr(known, "worth_keeping", lambda seconds, size: True)


class Counted:
    """An operator whose encoded frames are counted, by frame id."""

    def __init__(self, operator):
        self._operator, self.encoded = operator, []

    def __getattr__(self, name):
        return getattr(self._operator, name)

    def encode(self, batch):
        self.encoded += batch.frames
        return self._operator.encode(batch)


def _label(room, operator, scratch=None, *, chunk=1, again=1, **lift):
    """Records by frame id, and what was encoded, of a scene that is labelled chunk by chunk."""
    values = {"source": str(room.folder), "store": "unused", "lift": {"sources": 2, **lift}, "plan": {"chunk": chunk}}
    config = parse_config(values)
    counted = Counted(operator)
    arguments = (counted,) if scratch is None else (counted, None, scratch)
    chunks = plan_scene(room.scene, config, "model", {}, corrects=operator.kind == "classes").chunks
    for _ in range(again):
        labeler = Labeler(config, *arguments)
        results = [labeler.label(one) for one in chunks]
    rows = [row for result in results for row in result.quarantined]
    return {record.frame.id: record for result in results for record in result.records}, counted.encoded, rows


def _same(found, expected):
    assert found.keys() == expected.keys()
    for frame, record in expected.items():
        for mine, theirs in zip(astuple(found[frame]), astuple(record), strict=True):
            if isinstance(theirs, np.ndarray):
                np.testing.assert_array_equal(mine, theirs)
            elif not isinstance(theirs, tuple):
                assert mine == theirs


@pytest.mark.parametrize("method", ["depth", "rgb"])
@pytest.mark.parametrize("kind", ["classes", "features"])
def test_labels_are_the_same_and_nothing_is_predicted_twice(sound_room, operators, tmp_path, method, kind):
    plain, often, _ = _label(sound_room, operators[kind](), method=method)
    scratch = Scratch(tmp_path, "run", PLENTY)
    kept, once, _ = _label(sound_room, operators[kind](), scratch, method=method)
    _same(kept, plain)
    assert len(often) > len(sound_room.scene.frames)
    assert sorted(once) == sorted(frame.id for frame in sound_room.scene.frames)


def test_views_that_only_others_needed_are_not_even_read(sound_room, operators, tmp_path):
    scratch = Scratch(tmp_path, "run", PLENTY)
    config = parse_config({"source": "s", "store": "s", "lift": {"sources": 2, "method": "rgb"}, "plan": {"chunk": 1}})
    chunk = plan_scene(sound_room.scene, config, "model", {}).chunks[0]
    labeler = Labeler(config, operators["classes"](), None, scratch)
    memory = known.ViewMemory(scratch, config.lift, "soft-1", labeler._weights_sha256, corrects=True)
    before = memory.recall(chunk)
    labeler.label(chunk)
    after = memory.recall(chunk)
    own = {*chunk.targets, *(s for target in chunk.targets for s in chunk.sources[target])}
    assert after.loaded(chunk, config.lift) == own < before.loaded(chunk, config.lift)


@pytest.mark.parametrize("method", ["depth", "rgb"])
def test_a_frame_that_cannot_be_read_changes_nothing_about_that(room, operators, tmp_path, method):
    Path(room.frame(2).image.uri).write_bytes(b"no picture")
    plain, _, lost = _label(room, operators["classes"](), method=method)
    kept, _, _ = _label(room, operators["classes"](), Scratch(tmp_path, "run", PLENTY), again=2, method=method)
    _same(kept, plain)
    assert [row.frame for row in lost] == [room.frame(2).id]


@pytest.mark.parametrize(("chunk", "kept"), [(1, True), (100, False)])
def test_class_maps_are_kept_only_where_another_chunk_may_ask_for_them(sound_room, operators, tmp_path, chunk, kept):
    plain, _, _ = _label(sound_room, operators["classes"](), chunk=chunk, method="rgb")
    scratch = Scratch(tmp_path, "run", PLENTY)
    found, _, _ = _label(sound_room, operators["classes"](), scratch, chunk=chunk, method="rgb")
    _same(found, plain)
    assert (tmp_path / "run" / "corrected").exists() == kept
    assert (tmp_path / "run" / "sweep").exists()


def test_damaged_scratch_is_made_anew(sound_room, operators, tmp_path):
    scratch = Scratch(tmp_path, "run", PLENTY)
    plain, _, _ = _label(sound_room, operators["classes"](), scratch, method="rgb")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.parts[len(tmp_path.parts) + 1] for path in files} == {"encoded", "corrected", "sweep"}
    for k, path in enumerate(files):
        data = path.read_bytes()
        path.write_bytes([b"", data[: len(data) // 2], b"garbage" * 9][k % 3])
    found, encoded, _ = _label(sound_room, operators["classes"](), scratch, method="rgb")
    _same(found, plain)
    assert encoded


def test_other_settings_and_other_operators_find_nothing(sound_room, operators, tmp_path):
    class Other(operators["classes"]):
        def fingerprint(self):
            return "other"

    scratch = Scratch(tmp_path, "run", PLENTY)
    _label(sound_room, operators["classes"](), scratch, method="depth")
    for operator, lift in ((Other(), {}), (operators["classes"](), {"self_weight": 3.0})):
        plain, _, _ = _label(sound_room, operator, method="depth", **lift)
        _same(_label(sound_room, operator, scratch, method="depth", **lift)[0], plain)


def test_what_is_cheaper_to_make_than_to_keep_is_not_kept():
    assert not worth_keeping(0.001, 1000)
    assert worth_keeping(0.05, 240 * 320 * 2)
    assert not worth_keeping(0.05, 1024 * 70 * 93 * 4)
    assert worth_keeping(1.0, 1024 * 70 * 93 * 4)


def test_a_full_quota_and_a_missing_folder_only_cost_time(tmp_path):
    values = {"a": torch.arange(6).view(2, 3).numpy()}
    small = Scratch(tmp_path, "run", 10)
    small.put("kind", "key", values)
    assert small.get("kind", "key") is None
    roomy = Scratch(tmp_path / "file" / "nowhere", "run", PLENTY)
    (tmp_path / "file").write_text("in the way")
    roomy.put("kind", "key", values)
    assert roomy.get("kind", "key") is None
    kept = Scratch(tmp_path, "run", PLENTY)
    kept.put("kind", "key", values)
    np.testing.assert_array_equal(kept.get("kind", "key")["a"], values["a"])
    discard(tmp_path, "run")
    assert kept.get("kind", "key") is None


def test_a_folder_of_somebody_elses_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert scratch_root("none") is None
    own = scratch_root("auto")
    assert own is not None and own.parent == tmp_path and own.stat().st_mode & 0o077 == 0
    own.chmod(0o777)
    assert scratch_root("auto") is None
    own.rmdir()
    os.symlink(tmp_path, own)
    assert scratch_root("auto") is None
    with pytest.raises(ConfigError, match="absolute"):
        scratch_root("some/where")


def test_a_view_that_was_kept_tells_that_the_operator_works(sound_room, operators, tmp_path):
    """Else a worker that is killed by every *new* view would be taken for one that is killed by any view."""

    class Told(Untried):
        through = 0

        def came_through(self):
            self.through += 1

    scratch = Scratch(tmp_path, "run", PLENTY)
    _label(sound_room, operators["classes"](), scratch, method="depth")
    values = {"source": str(sound_room.folder), "store": "unused", "lift": {"sources": 2, "method": "depth"}}
    config = parse_config(values)
    counted, told = Counted(operators["classes"]()), Told()
    chunk = plan_scene(sound_room.scene, config, "model", {}, corrects=True).chunks[0]
    Labeler(config, counted, None, scratch).label(chunk, told)
    assert not counted.encoded
    assert told.through > 0
