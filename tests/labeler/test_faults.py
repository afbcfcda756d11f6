"""Whatever goes wrong with one frame is told of that frame and costs no other one."""

import os

import cv2
import numpy as np
import pytest
import torch

from lift3d_model import Lift3D
from pipeline.faults import Faults
from schemas.errors import ContractError, FrameError, Reason

SCENE, BAD = "scene0000_00", "2"


def _assert_only(quarantined, records, room, reason, stage, frame=BAD):
    """One frame is set aside, with its reason; the message says where it is and what to do."""
    (row,) = quarantined
    assert (row.frame, row.reason, row.stage, row.scene) == (frame, reason, stage, SCENE)
    assert SCENE in row.message
    assert repr(frame) in row.message
    assert "\n" not in row.message
    assert ". " in row.message  # what follows is the remedy
    assert set(records) == {f.id for f in room.scene.frames} - {frame}
    for record in records.values():
        assert frame not in record.sources


def _truncate(path, size=300):
    with open(path, "r+b") as file:
        file.truncate(size)


@pytest.mark.parametrize(("method", "chunk"), [("depth", 1), ("depth", 32), ("rgb", 32), ("none", 32)])
def test_a_truncated_image(room, label, method, chunk):
    _truncate(room.scene.frames[2].image.uri)
    records, quarantined = label(room, method=method, chunk=chunk, planes=8, sources=2)
    _assert_only(quarantined, records, room, Reason.IMAGE_UNREADABLE, "decode")


def test_an_image_that_is_gone(room, label):
    os.remove(room.scene.frames[2].image.uri)
    records, quarantined = label(room, method="depth")
    _assert_only(quarantined, records, room, Reason.IMAGE_MISSING, "decode")


def test_an_image_of_another_size(room, label):
    cv2.imwrite(room.scene.frames[2].image.uri, np.zeros((30, 40, 3), np.uint8))
    records, quarantined = label(room, method="depth")
    _assert_only(quarantined, records, room, Reason.IMAGE_SIZE_MISMATCH, "decode")


def test_a_truncated_depth_map(room, label):
    _truncate(room.scene.frames[2].depth.uri)
    records, quarantined = label(room, method="auto")
    _assert_only(quarantined, records, room, Reason.DEPTH_UNREADABLE, "decode")
    assert not label(room, method="rgb", planes=8, sources=2)[1]
    assert not label(room, method="none")[1]


def test_a_depth_map_of_another_size(room, label):
    cv2.imwrite(room.scene.frames[2].depth.uri, np.ones((30, 40), np.uint16))
    records, quarantined = label(room, method="depth")
    _assert_only(quarantined, records, room, Reason.DEPTH_SIZE_MISMATCH, "decode")


def test_a_frame_without_depth_where_depth_is_asked_for(room, label):
    os.remove(room.scene.frames[2].depth.uri)
    records, quarantined = label(room, method="depth")
    _assert_only(quarantined, records, room, Reason.DEPTH_MISSING, "decode")


@pytest.mark.parametrize("batch", [1, 4])
def test_a_prediction_that_is_missing(room, label, batch):
    os.remove(room.predictions / SCENE / f"{BAD}.png")
    records, quarantined = label(room, batch=batch)
    _assert_only(quarantined, records, room, Reason.PREDICTION_MISSING, "encode")


@pytest.mark.parametrize("batch", [1, 4])
def test_a_prediction_that_is_damaged(room, label, batch):
    _truncate(room.predictions / SCENE / f"{BAD}.png", 40)
    _, quarantined = label(room, batch=batch)
    assert [(row.frame, row.reason) for row in quarantined] == [(BAD, Reason.PREDICTION_UNREADABLE)]
    assert SCENE in quarantined[0].message


def test_a_prediction_with_ids_of_another_label_set(room, label):
    cv2.imwrite(str(room.predictions / SCENE / f"{BAD}.png"), np.full((48, 64), 200, np.uint8))
    records, quarantined = label(room)
    _assert_only(quarantined, records, room, Reason.OPERATOR_CONTRACT, "encode")


def _spoiled(base, how):
    """An operator that does something wrong with one frame."""

    class Spoiled(base):
        def encode(self, batch):
            features = super().encode(batch)
            return how(features, batch.frames.index(BAD)) if BAD in batch.frames else features

    return Spoiled()


def _raise(features, index):
    raise RuntimeError("out of\nluck")


def _nan(features, index):
    features[index, 0, 3, 3] = torch.nan
    return features


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize(
    ("how", "reason", "says"),
    [
        (_raise, Reason.OPERATOR_FAILED, "RuntimeError: out of luck"),
        (_nan, Reason.OPERATOR_CONTRACT, "infinite or NaN"),
        (lambda features, _: features[..., :-1], Reason.OPERATOR_CONTRACT, "expected [1, C, 12, 16]"),
        (lambda features, _: features[:0], Reason.OPERATOR_CONTRACT, "expected [1, C, 12, 16]"),
        (lambda features, _: features.long(), Reason.OPERATOR_CONTRACT, "torch.int64"),
        (lambda features, _: None, Reason.OPERATOR_CONTRACT, "NoneType"),
    ],
    ids=["raises", "nan", "shape", "count", "integers", "nothing"],
)
def test_an_operator_that_fails_on_one_frame(room, label, operators, how, reason, says, batch):
    records, quarantined = label(room, _spoiled(operators["classes"], how), batch=batch)
    _assert_only(quarantined, records, room, reason, "encode")
    assert says in quarantined[0].message
    assert (quarantined[0].traceback_hash is None) == (reason is Reason.OPERATOR_CONTRACT)


def test_an_operator_whose_decoding_breaks_the_contract_costs_every_frame_but_not_the_run(room, label, operators):
    class Wrong(operators["classes"]):
        def decode(self, features, size):
            return super().decode(features, size)[..., :-1]

    records, quarantined = label(room, Wrong())
    assert not records
    assert [row.frame for row in quarantined] == [f.id for f in room.scene.frames]
    assert {(row.reason, row.stage) for row in quarantined} == {(Reason.OPERATOR_CONTRACT, "encode")}
    for row in quarantined:
        assert f"frame {row.frame!r}" in row.message


def test_several_bad_frames_each_have_their_row(room, label):
    _truncate(room.scene.frames[0].image.uri)
    os.remove(room.predictions / SCENE / "3.png")
    _truncate(room.scene.frames[5].depth.uri)
    records, quarantined = label(room)
    reasons = {row.frame: row.reason for row in quarantined}
    assert reasons == {
        "0": Reason.IMAGE_UNREADABLE,
        "3": Reason.PREDICTION_MISSING,
        "5": Reason.DEPTH_UNREADABLE,
    }
    assert set(records) == {"1", "2", "4"}


def test_nothing_usable_is_no_crash(room, label):
    for frame in room.scene.frames:
        _truncate(frame.image.uri)
    for method in ("none", "depth", "rgb"):
        records, quarantined = label(room, method=method)
        assert not records
        assert {row.reason for row in quarantined} == {Reason.IMAGE_UNREADABLE}


def test_an_error_held_against_several_frames_names_each():
    faults = Faults("room", "operator")
    with faults.guard("geometry", "1", "2"):
        raise ContractError("wrong", remedy="read the contract")
    messages = [row.message for row in faults.quarantine(["1", "2"])]
    assert messages == [f"scene 'room', frame '{i}': wrong. read the contract" for i in (1, 2)]


def test_the_first_fault_of_a_frame_is_the_one_that_counts():
    faults = Faults("room", "operator")
    with faults.guard("encode", "1", "2"):
        raise ValueError("first")
    with faults.guard("lift", "1"):
        raise FrameError(Reason.LABEL_UNREADABLE, "second")
    rows = faults.quarantine(["0", "1", "2"])
    assert [(row.frame, row.stage, row.reason) for row in rows] == [
        ("1", "encode", Reason.OPERATOR_FAILED),
        ("2", "encode", Reason.OPERATOR_FAILED),
    ]
    assert rows[0].traceback_hash == rows[1].traceback_hash is not None
    assert "1" in faults
    assert faults.forgive("1")
    assert "1" not in faults
    assert not faults.forgive("1")


def test_the_same_fault_in_another_place_is_another_fault():
    hashes = []
    for fail in (lambda: 1 / 0, [].pop):
        faults = Faults("room", "operator")
        with faults.guard("lift", "1"):
            fail()
        hashes.append(faults.quarantine(["1"])[0].traceback_hash)
    assert len(set(hashes)) == 2


def test_what_ends_the_process_is_let_through():
    with pytest.raises(KeyboardInterrupt), Faults("room", "operator").guard("lift", "1"):
        raise KeyboardInterrupt


class Crowded(torch.nn.Module):
    """Says how many images it was given at once, and runs out of memory where they are too many."""

    def __init__(self, base, most, error=torch.OutOfMemoryError):
        super().__init__()
        self.base, self.most, self.error, self.given = base, most, error, []
        self.name, self.stride, self.kind, self.label_set = base.name, base.stride, base.kind, base.label_set

    def encode(self, batch):
        self.given.append(len(batch.frames))
        if len(batch.frames) > self.most:
            raise self.error("CUDA out of memory. DefaultCPUAllocator: can't allocate memory")
        return self.base.encode(batch)

    def decode(self, features, size):
        return self.base.decode(features, size)

    def fingerprint(self):
        return self.base.fingerprint()


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError, RuntimeError])
def test_a_batch_that_does_not_fit_is_halved_and_stays_so(room, label, operators, error):
    crowded = Crowded(operators["classes"](), 1, error)
    records, quarantined = label(room, crowded, batch=4)
    assert len(records) == 6 and not quarantined
    assert crowded.given == [4, 2, 1, 1, 1, 1, 1, 1]


def test_a_frame_that_does_not_fit_alone_is_told_apart(room, label, operators):
    crowded = Crowded(operators["classes"](), 0)
    records, quarantined = label(room, crowded, batch=2)
    assert not records and {row.reason for row in quarantined} == {Reason.OPERATOR_FAILED}
    assert {row.attempts for row in quarantined} == {2}


def test_geometry_that_does_not_fit_is_halved(room, label, monkeypatch):
    """Fewer targets need fewer views; the labels are those of the whole chunk."""
    whole, _ = label(room, method="rgb", planes=8, sources=2)
    depths, given = Lift3D.depths, []

    def crowded(self, views, *rest):
        given.append(len(views.images))
        if len(given) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return depths(self, views, *rest)

    monkeypatch.setattr(Lift3D, "depths", crowded)
    halved, quarantined = label(room, method="rgb", planes=8, sources=2, mode="novel")
    assert not quarantined and len(given) == 3
    monkeypatch.undo()
    unhalved, _ = label(room, method="rgb", planes=8, sources=2, mode="novel")
    assert set(halved) == set(unhalved) == set(whole)
    for frame, record in halved.items():
        assert np.array_equal(record.value, unhalved[frame].value)
        assert np.array_equal(record.confidence, unhalved[frame].confidence)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_fault_that_comes_once_costs_nothing(room, label, operators, batch):
    faults = iter([True])

    def once(features, _):
        if next(faults, False):
            raise ConnectionError("for a moment")
        return features

    records, quarantined = label(room, _spoiled(operators["classes"], once), batch=batch)
    assert len(records) == 6 and not quarantined


def test_rows_count_the_tries(room, label, operators):
    for batch in (1, 4):
        _, quarantined = label(room, _spoiled(operators["classes"], _raise), batch=batch)
        assert [row.attempts for row in quarantined] == [2]
