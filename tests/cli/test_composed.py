"""Operators made of others, other label sets and a user's own CLIP weights, through the command line to the store."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.store.codec import decode_label_map, decode_scalar
from pipeline.store.query import read_labels, read_metadata
from schemas.crosswalk import crosswalk
from schemas.label_sets import label_set

FEW = 3


def last_line(out: str) -> dict:
    return json.loads(out.splitlines()[-1])


QUICK = ["--engine", "local", "--lift", "none"]


def test_labels_of_another_label_set(lift3d, few, predictions, tmp_path):
    store = str(tmp_path / "labels")
    options = ["--operator", f"precomputed:{predictions}", "--set", "operator.kwargs.label_set=nyu40", *QUICK]
    asked = [few, "--store", store, *options, "--label-set", "scannet20"]
    code, _, err = lift3d("label", *asked)
    assert code == 2
    assert "20 of 40 classes of 'precomputed' have no counterpart in 'scannet20': blinds" in err
    assert "unmapped=ignore" in err

    code, out, _ = lift3d("label", *asked, "--unmapped", "ignore")
    assert (code, last_line(out)["frames_labelled"]) == (0, FEW)
    assert read_metadata(store).label_set == label_set("scannet20")
    walk = crosswalk(label_set("nyu40"), label_set("scannet20"))
    lost = 0
    for _, row in read_labels(store).iterrows():
        truth = np.asarray(Image.open(predictions / "scene9002_00" / f"{row['frame']}.png"))
        expected = np.vectorize(lambda i: walk.ids.get(i, 0))(truth)
        assert np.array_equal(decode_label_map(row), expected)
        lost += int((expected == 0).sum())
    assert lost > 0, "nothing was unmapped, so nothing was tested"

    code, out, _ = lift3d("label", *asked, "--unmapped", "ignore")
    assert (code, last_line(out)["frames_resumed"]) == (0, FEW)


def test_a_label_set_that_nobody_knows(lift3d, few, tmp_path):
    code, _, err = lift3d("label", few, "--store", tmp_path / "labels", *QUICK, "--label-set", "nyu41")
    assert code == 2 and "label set 'nyu41' is not known" in err


def test_operators_within_operators_label_and_resume(lift3d, few, predictions, tmp_path):
    spec = f"ensemble(precomputed:{predictions}(; label_set=nyu40), precomputed:{predictions}(; label_set=nyu40))"
    asked = ["label", few, "--store", tmp_path / "labels", "--operator", spec, *QUICK]
    code, out, _ = lift3d(*asked)
    assert (code, last_line(out)["frames_labelled"]) == (0, FEW)
    code, out, _ = lift3d(*asked)
    assert (code, last_line(out)["frames_resumed"]) == (0, FEW)


def test_half_precision_is_an_operator_of_its_own(lift3d, few, tmp_path):
    store, half = tmp_path / "labels", "autocast(edges)"
    code, out, _ = lift3d(
        "label", few, "--store", store, "--operator", "edges", "--operator", half, "--engine", "local"
    )
    assert (code, last_line(out)["frames_labelled"]) == (0, 2 * FEW)
    full, rounded = (
        np.stack([decode_scalar(row) for _, row in read_labels(str(store), operator=spec).iterrows()])
        for spec in ("edges", half)
    )
    assert 0 < np.abs(full - rounded).max() < 0.05 < np.abs(full - full.mean()).max()


@pytest.mark.parametrize(
    ("spec", "problem"),
    [("tta(indoor", "expected ',' or ';' or ')'"), ("tta(indor)", "operator 'indor' is not known")],
)
def test_a_spec_with_a_mistake_is_refused_before_any_work(lift3d, few, tmp_path, spec, problem):
    code, _, err = lift3d("label", few, "--store", tmp_path / "labels", "--operator", spec, *QUICK)
    assert code == 2 and problem in err and "Traceback" not in err


@pytest.mark.slow
def test_clip_weights_of_ones_own(lift3d, few, tmp_path):
    """Plumbing only: this CLIP is tiny and its weights are random, so its labels mean nothing."""
    open_clip = pytest.importorskip("open_clip")
    shape = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "head_width": 16, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    folder = tmp_path / "clip"
    folder.mkdir()
    (folder / "tiny-clip-of-a-user.json").write_text(json.dumps(shape))
    open_clip.add_model_config(folder)
    torch.manual_seed(0)
    weights = open_clip.create_model("tiny-clip-of-a-user").state_dict()
    torch.save(weights, folder / "open_clip_pytorch_model.bin")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": shape, "preprocess_cfg": {}}))

    store = str(tmp_path / "labels")
    spec = f"open_clip:local-dir:{folder}"
    prompts = 'operator.kwargs.prompts=["something to sit on", "wall", "floor"]'
    code, out, err = lift3d("label", few, "--store", store, "--operator", spec, "--set", prompts, "--engine", "local")
    assert (code, last_line(out)["frames_labelled"]) == (0, FEW), err
    assert read_metadata(store).label_set.names == ("something to sit on", "wall", "floor")

    heat = f'prompt({spec}(; prompts=["something to sit on", "wall"]), "something to sit on")'
    store = str(tmp_path / "heat")
    code, out, err = lift3d("label", few, "--store", store, "--operator", heat, "--engine", "local")
    assert (code, last_line(out)["frames_labelled"]) == (0, FEW), err
    assert set(read_labels(store, columns=["kind"]).kind) == {"scalar"}
