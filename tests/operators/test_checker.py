"""`lift3d operators check`: what breaks the contract is named, and what keeps it passes."""

import json
import re

import pytest

from jobs.cli import main
from pipeline.operators.check_images import read_batches
from pipeline.operators.checker import CHECKS, check_spec
from schemas.config import ReaderConfig

MODULE = '''
import random

import torch
from torch.nn.functional import avg_pool2d

from pipeline.operators.grid import pad_to_stride, upsample


class Grey:
    """Brightness of 8 x 8 pixels; one thing is wrong with it, or nothing."""

    name, stride, kind, label_set = "grey", 8, "scalar", None

    def __init__(self, wrong="", gain=0.5):
        self.wrong, self.gain, self.calls = wrong, gain, 0
        self.salt = random.random() if wrong == "random weights" else 0.0
        if wrong == "stride":
            self.stride = 16
        if wrong == "kind":
            self.kind = "image"

    def encode(self, batch):
        images = batch.images
        self.calls += 1
        if self.wrong == "raises":
            raise ZeroDivisionError("nothing to divide by")
        if self.wrong == "in place":
            images.mul_(0.5)
        features = avg_pool2d(pad_to_stride(images, 8), 8).mean(1, keepdim=True) * self.gain + self.salt
        if self.wrong == "batch statistics":
            features = features - features.mean()
        if self.wrong == "order":
            features = features + torch.arange(len(features))[:, None, None, None]
        if self.wrong == "dropout":
            features = torch.nn.functional.dropout(features, 0.5)
        if self.wrong == "nan":
            features[:, :, 0, 0] = torch.nan
        if self.wrong == "integers":
            features = (features * 255).int()
        if self.wrong == "state":
            features = features + self.calls
        return features

    def decode(self, features, size):
        if self.wrong == "decodes in place":
            features.add_(1)
        scores = upsample(features, 8, size)
        return scores[..., :-1] if self.wrong == "decoded size" else scores

    def fingerprint(self):
        if self.wrong == "no fingerprint":
            return ""
        if self.wrong == "address":
            return f"grey {id(self)}"
        if self.wrong == "hash":
            return f"grey {hash('weights')}"
        return "grey" if self.wrong == "setting left out" else f"grey {self.gain}"
'''
HALVES = '''
import torch

from schemas.label_sets import LabelSet


class Halves:
    """Dark or bright, pixel by pixel; what it says at once is what it decodes to, or not."""

    name, stride, kind = "halves", 1, "classes"
    grey = ((0, 0, 0), (9, 9, 9))
    label_set = LabelSet(name="halves", ids=(3, 7), names=("dark", "bright"), colors=grey, ignore_id=0)

    def __init__(self, wrong=""):
        self.wrong = wrong

    def encode(self, batch):
        grey = batch.images.mean(1, keepdim=True)
        return torch.cat([1 - grey, grey], 1)

    def decode(self, features, size):
        return features

    def class_indices(self, batch):
        found = (batch.images.mean(1) > 0.5).to(torch.int16)
        changed = {"ids": 3 + 4 * found, "int64": found.long(), "size": found[:, 1:], "others": 1 - found, "list": []}
        return changed.get(self.wrong, found)

    def fingerprint(self):
        return "halves"
'''
RESULTS = {
    "stride": ("encode: shape, type, finite", r"expected \[3, C, 7, 7\]"),
    "raises": ("encode: shape, type, finite", "ZeroDivisionError: nothing to divide by"),
    "nan": ("encode: shape, type, finite", "values infinite or NaN"),
    "integers": ("encode: shape, type, finite", "torch.int32, expected a float type"),
    "kind": ("decode: shape, type, range", r"expected \[3, 3, 112, 112\]"),
    "decoded size": ("decode: shape, type, range", r"expected \[3, 1, 112, 112\]"),
    "dropout": ("the same twice", "expected the same bits"),
    "state": ("the same twice", "encode of the same images a second time"),
    "in place": ("leaves its input alone", "encode changed batch.images"),
    "decodes in place": ("leaves its input alone", "decode changed the features"),
    "batch statistics": ("frames are independent", "a frame encoded alone"),
    "order": ("frames are independent", "take no statistics over the batch"),
    "no fingerprint": ("fingerprint", "expected a text"),
    "address": ("built once more", "built once more it is"),
    "random weights": ("built once more", "never start from random"),
}


@pytest.fixture(scope="module")
def grey(importable):
    """SPEC of an operator that does wrong what it is told to."""
    (importable / "grey_models").mkdir(exist_ok=True)
    (importable / "grey_models" / "grey.py").write_text(MODULE, encoding="utf-8")
    return "grey_models.grey:Grey"


def breaches(findings):
    """Check -> text, of what is wrong."""
    return {one.check: one.text for one in findings if one.status == "breach"}


@pytest.mark.parametrize("wrong", RESULTS)
def test_a_broken_operator_is_told_what_is_wrong(grey, wrong):
    check, text = RESULTS[wrong]
    found = breaches(check_spec(grey, {"wrong": wrong}, elsewhere=False))
    assert list(found)[0] == check
    assert re.search(text, found[check])


def test_an_operator_that_keeps_the_contract_passes(grey, operator_contract):
    findings = check_spec(grey, variation={"gain": 0.7})
    assert {one.check for one in findings if one.status == "ok"} >= {*CHECKS} - {
        "moves between devices",
        "class_indices: as decode says",
    }
    operator_contract(grey, {"gain": 0.2}, elsewhere=False)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ("ids", r"returned 3..7, expected int16 \[3, 112, 112\] in -1..1"),
        ("int64", "returned torch.int64"),
        ("size", r"returned torch.int16 \[3, 111, 112\]"),
        ("list", "returned a list"),
        ("others", "class_indices differs from the best of decode's scores in 37632 of 37632 pixels"),
        ("", None),
    ],
)
def test_classes_that_are_said_at_once_are_those_that_are_decoded(importable, wrong, text):
    (importable / "halves_models").mkdir(exist_ok=True)
    (importable / "halves_models" / "halves.py").write_text(HALVES, encoding="utf-8")
    found = breaches(check_spec("halves_models.halves:Halves", {"wrong": wrong}, elsewhere=False))
    if text is None:
        assert not found
    else:
        assert re.search(text, found["class_indices: as decode says"])


def test_the_fixture_fails_with_what_is_wrong(grey, operator_contract):
    with pytest.raises(AssertionError, match="leaves its input alone: encode changed batch.images"):
        operator_contract(grey, {"wrong": "in place"}, elsewhere=False)


def test_a_fingerprint_of_this_process_alone_is_found_out(grey):
    assert "in another process" in breaches(check_spec(grey, {"wrong": "hash"}))["built in another process"]


def test_a_setting_that_the_fingerprint_leaves_out_is_found_out(grey):
    findings = check_spec(grey, {"wrong": "setting left out"}, variation={"gain": 0.7}, elsewhere=False)
    assert "results change and the fingerprint stays" in breaches(findings)["fingerprint tells settings apart"]
    harmless = check_spec(grey, variation={"wrong": ""}, elsewhere=False)
    assert [one.status for one in harmless if one.check == "fingerprint tells settings apart"] == ["note"]


def test_what_depends_on_results_is_not_looked_at_where_there_are_none(grey):
    findings = check_spec(grey, {"wrong": "raises"}, elsewhere=False)
    assert {one.status for one in findings[2:6]} == {"skipped"}


def test_files_of_predictions_are_checked_on_the_frames_that_they_are_for(sample_room, predictions):
    kwargs = {"label_set": "nyu40"}
    batches = read_batches(str(sample_room), ReaderConfig())
    assert not breaches(check_spec(f"precomputed:{predictions}", kwargs, batches=batches, elsewhere=False))
    assert "prediction" in breaches(check_spec(f"precomputed:{predictions}", kwargs, elsewhere=False)).popitem()[1]


def test_the_command_ends_with_one_where_something_is_wrong(grey, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["operators", "check", grey, "--set", "operator.kwargs.wrong=nan", "--json"])
    assert ended.value.code == 1
    findings = json.loads(capsys.readouterr().out)
    assert findings[0]["status"] == "breach"
