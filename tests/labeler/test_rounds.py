"""Class maps of source views, corrected in rounds: the same labels to the bit, and never many views at once."""

from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest

from pipeline import Labeler, chunk_geometry, lifting, rounds
from pipeline.known import Known
from pipeline.plan import plan_scene
from pipeline.rounds import next_round
from pipeline.scratch import NO_SCRATCH, Scratch
from schemas.config import parse_config

SOURCES = {"depth": 3, "rgb": 2}
FEW = {"depth": 4, "rgb": 3}
"""By how depth is found: so few that work has to be done in rounds, even in a room of six views."""


@pytest.fixture
def at_once(monkeypatch):
    """How many views were looked at at once, each time."""
    counts = []
    plain = chunk_geometry.as_tensors

    def counted(views, device):
        counts.append(len(views))
        return plain(views, device)

    monkeypatch.setattr(chunk_geometry, "as_tensors", counted)
    return counts


def _config(room, method):
    lift = {"sources": SOURCES[method], "method": method}
    return parse_config({"source": str(room.folder), "store": "unused", "lift": lift, "plan": {"chunk": 1}})


def _label(room, operator, method, scratch=NO_SCRATCH):
    config = _config(room, method)
    labeler = Labeler(config, operator, None, scratch)
    results = [labeler.label(chunk) for chunk in plan_scene(room.scene, config, "model", {}).chunks]
    records = {record.frame.id: record for result in results for record in result.records}
    return records, [row for result in results for row in result.quarantined]


def _same(found, expected):
    assert found.keys() == expected.keys()
    for frame, record in expected.items():
        for mine, theirs in zip(astuple(found[frame]), astuple(record), strict=True):
            if isinstance(theirs, np.ndarray):
                np.testing.assert_array_equal(mine, theirs)
            elif not isinstance(theirs, tuple):
                assert mine == theirs


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("method", ["depth", "rgb"])
def test_labels_are_the_same_and_fewer_views_are_held(
    sound_room, operators, tmp_path, monkeypatch, at_once, method, kept
):
    expected, _ = _label(sound_room, operators["classes"](), method)
    before = max(at_once)
    at_once.clear()
    monkeypatch.setattr(rounds, "MOST_VIEWS", FEW[method])
    found, _ = _label(
        sound_room, operators["classes"](), method, Scratch(tmp_path, "run", 1 << 30) if kept else NO_SCRATCH
    )
    _same(found, expected)
    assert max(at_once) < before


def test_a_frame_that_cannot_be_read_is_tried_no_more_often(room, operators, monkeypatch):
    Path(room.frame(2).image.uri).write_bytes(b"no picture")
    expected, rows = _label(room, operators["classes"](), "depth")
    monkeypatch.setattr(rounds, "MOST_VIEWS", FEW["depth"])
    found, again = _label(room, operators["classes"](), "depth")
    _same(found, expected)
    assert again == rows
    assert [row.frame for row in rows] == [room.frame(2).id]


def test_a_round_that_fails_leaves_the_work_to_the_chunk(sound_room, operators, monkeypatch):
    expected, _ = _label(sound_room, operators["classes"](), "depth")
    monkeypatch.setattr(rounds, "MOST_VIEWS", FEW["depth"])

    def fail(self, frames):
        raise RuntimeError("out of luck")

    monkeypatch.setattr(lifting.ChunkLift, "correct", fail)
    found, rows = _label(sound_room, operators["classes"](), "depth")
    _same(found, expected)
    assert not rows


def test_rounds_cover_what_is_to_be_corrected_once_and_bring_all_that_it_takes(sound_room, monkeypatch):
    config = _config(sound_room, "depth")
    monkeypatch.setattr(rounds, "MOST_VIEWS", FEW["depth"])
    (chunk, *_) = plan_scene(sound_room.scene, config, "model", {}).chunks
    first = {*chunk.targets, *(s for target in chunk.targets for s in chunk.sources[target])}
    sources = {chunk.frames[v].id: [chunk.frames[s].id for s in chunk.sources[v]] for v in first}
    known, covered = Known(corrects=True), []
    while (part := next_round(chunk, known, config.lift)) is not None:
        assert len(part.frames) <= FEW["depth"] or len(part.targets) == 1
        for target in part.targets:
            assert [part.frames[s].id for s in part.sources[target]] == sources[part.frames[target].id]
        covered += part.target_ids
        known = Known(corrects=True, corrected=dict.fromkeys(covered, None))
    assert len(covered) == len(set(covered)) > 0
    assert known.loaded(chunk, config.lift) <= first | known.looked_at(chunk)
    assert len(known.loaded(chunk, config.lift)) <= FEW["depth"]
    assert next_round(chunk, Known(corrects=False), config.lift) is None
