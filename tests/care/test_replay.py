"""Where a label comes from, and that labelling it again gives the same bits: of a scene that was really labelled."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.care.compact import compact
from pipeline.care.explain import explain
from pipeline.care.replay import replay
from pipeline.care.tags import make_tag
from pipeline.run import run_labeling
from pipeline.store import operator_slug
from pipeline.store.files import open_files
from schemas.errors import DatasetError, FrameError, StoreError

FRAME = "3"


@pytest.fixture
def labelled(rooms, config):
    """Two rooms of eight frames, labelled by a local run; its config."""
    rooms(hall=8, den=4)
    chosen = config()
    run_labeling(chosen, on_progress=lambda _: None)
    return chosen


@pytest.mark.parametrize("lift", [{}, {"method": "rgb", "planes": 8}, {"method": "none"}, {"mode": "novel"}], ids=str)
def test_a_replayed_frame_is_bit_equal(rooms, config, lift):
    rooms(hall=8)
    chosen = config(lift={"sources": 4, **lift})
    run_labeling(chosen, on_progress=lambda _: None)
    before = open_files(chosen.store).list("")
    for frame in ("0", FRAME):
        done = replay(chosen.store, "hall", frame)
        assert done.equal and done.differs == done.reasons == ()
    assert open_files(chosen.store).list("") == before


def test_after_a_compaction_too(labelled):
    compact(labelled.store)
    assert replay(labelled.store, "hall", FRAME).differs == ()


def test_the_dataset_may_have_moved(labelled, tmp_path):
    moved = (tmp_path / "rooms").rename(tmp_path / "elsewhere")
    with pytest.raises(DatasetError):
        replay(labelled.store, "hall", FRAME)
    done = replay(labelled.store, "hall", FRAME, source=str(moved))
    assert done.equal and done.differs == ("image_uri",)
    assert done.reasons == ("the image is at another address",)


def test_other_predictions_are_told_from_other_poses(labelled, tmp_path):
    prediction = tmp_path / "predictions" / "hall" / f"{FRAME}.png"
    spared = prediction.read_bytes()
    import cv2

    cv2.imwrite(str(prediction), np.full((48, 64), 7, np.uint8))
    done = replay(labelled.store, "hall", FRAME)
    assert not done.equal and {"label", "fingerprint", "operator_fingerprint"} <= set(done.differs)
    assert done.reasons == ("the operator has other weights, settings or code",)
    prediction.write_bytes(spared)
    pose = tmp_path / "rooms" / "hall" / "pose" / f"{FRAME}.txt"
    matrix = np.loadtxt(pose)
    matrix[2, 3] += 0.2
    np.savetxt(pose, matrix)
    done = replay(labelled.store, "hall", FRAME)
    assert "world_from_cam" in done.differs and "the dataset's poses changed" in done.reasons
    (tmp_path / "rooms" / "hall" / "color" / f"{FRAME}.jpg").unlink()
    with pytest.raises((StoreError, FrameError)):
        replay(labelled.store, "hall", FRAME)


def test_other_versions_are_named_where_pixels_differ(labelled):
    from pipeline.care.replay import _reasons

    run = {"versions": {"torch": "1.0"}, "engine": {"device": "cuda"}}
    reasons = _reasons(("label",), run)
    assert any(reason.startswith("torch was 1.0, is ") for reason in reasons)
    assert "the run computed on cuda, this was done on the CPU" in reasons
    assert _reasons((), run) == []


def test_what_cannot_be_replayed_is_an_error_with_a_remedy(labelled):
    with pytest.raises(StoreError, match="the store has no label of it"):
        replay(labelled.store, "hall", "99")
    (document,) = Path(labelled.store, "runs").glob("*Z-??????.json")
    document.unlink()
    with pytest.raises(StoreError, match="is not there"):
        replay(labelled.store, "hall", FRAME)


def test_an_explanation_names_everything_the_label_depends_on(labelled):
    make_tag(labelled.store, "first")
    (told,) = explain(labelled.store, "hall", FRAME)
    slug = operator_slug(labelled.operator.spec)
    assert (told.operator, told.scene, told.frame) == (slug, "hall", FRAME)
    assert told.metadata["operator"] == labelled.operator.spec and told.row["lift_mode"] == "depth-label"
    assert told.row["sources"] == ["2", "4"] and len(told.row["fingerprint"]) == 64 and told.row["model_sha256"]
    assert told.run["run_id"] == told.row["run_id"] and {"torch", "lift3d"} <= set(told.run["versions"])
    assert told.tags == ("first",) and told.earlier == () and told.quarantine == ()
    text = told.text()
    for word in (labelled.operator.spec, told.row["fingerprint"], told.row["model_sha256"], "torch", "first"):
        assert word in text
    json.dumps(told.to_json())


def test_the_command_gives_the_runs_config_again(labelled, monkeypatch):
    import shlex

    from jobs.settings import labeling_config

    (told,) = explain(labelled.store, "hall", FRAME)
    words = shlex.split(told.command)
    assert words[:2] == ["lift3d", "label"]
    settings = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    options = {"source": words[2], "store": words[4], "operator.spec": words[6]}
    again = labeling_config(None, settings, options)
    assert again.lift == labelled.lift and again.operator == labelled.operator and again.plan == labelled.plan


def test_earlier_versions_and_quarantine_are_told(rooms, config, tmp_path):
    rooms(hall=6)
    chosen = config()
    image = tmp_path / "rooms" / "hall" / "color" / "2.jpg"
    good = image.read_bytes()
    image.write_bytes(good[:200])
    other = tmp_path / "rooms" / "hall" / "color" / "4.jpg"
    sound = other.read_bytes()
    other.write_bytes(b"")
    run_labeling(chosen, on_progress=lambda _: None)
    other.write_bytes(sound)
    run_labeling(chosen, on_progress=lambda _: None)  # the quarantine file of both is written anew
    (told,) = explain(chosen.store, "hall", "2")
    assert told.row == {} and [row["current"] for row in told.quarantine] == [True] and "no label" in told.text()
    image.write_bytes(good)
    run_labeling(chosen, on_progress=lambda _: None)
    run_labeling(config(lift={"self_weight": 0.5}), on_progress=lambda _: None)
    (told,) = explain(chosen.store, "hall", "2")
    assert [row["current"] for row in told.quarantine] == [False] and len(told.earlier) == 1
    assert told.earlier[0]["fingerprint"] != told.row["fingerprint"]
    compact(chosen.store)
    assert explain(chosen.store, "hall", "2")[0].earlier == told.earlier
    assert "was quarantined" in told.text() and "earlier" in told.text()
    with pytest.raises(StoreError, match="holds nothing about it"):
        explain(chosen.store, "hall", "77")
