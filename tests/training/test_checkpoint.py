"""Checkpoint files: the same format as the safetensors package's, whole or refused."""

import json
from itertools import product
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save

from lift3d_model.checkpoint import Checkpoint, CheckpointError, digest, read_tensors, write_tensors

DTYPES = [torch.float64, torch.float32, torch.float16, torch.int64, torch.int32, torch.uint8, torch.bool]
SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)
TENSORS = st.dictionaries(
    st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__"),
    st.tuples(SHAPES, st.sampled_from(DTYPES)).map(lambda spec: (torch.rand(spec[0]) * 3).to(spec[1])),
    max_size=4,
)


def _equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in a)


@given(TENSORS, st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2))
def test_what_is_written_is_read(tensors, metadata):
    content = write_tensors(tensors, metadata)
    found, texts = read_tensors(content)
    assert _equal(found, tensors)
    assert texts == metadata


@given(TENSORS)
def test_files_of_the_package_are_read(tensors):
    assert _equal(read_tensors(save(tensors))[0], tensors)


def test_the_package_reads_our_files(tmp_path: Path):
    tensors = {"a.b": torch.rand(2, 3), "n": torch.arange(5), "none": torch.zeros(0, 2), "one": torch.tensor(2.5)}
    path = tmp_path / "x.safetensors"
    path.write_bytes(write_tensors(tensors, {"k": "v"}))
    with safe_open(path, "pt") as file:
        assert _equal({name: file.get_tensor(name) for name in file.keys()}, tensors)  # noqa: SIM118
        assert file.metadata() == {"k": "v"}


def test_damaged_files_are_refused_or_whole():
    """Every byte of a file, changed to every other one."""
    whole = write_tensors({"a": torch.arange(6.0), "b": torch.ones(2)}, {})
    outcomes = set()
    for position, value in product(range(len(whole)), range(256)):
        content = bytearray(whole)
        content[position] = value
        try:
            tensors, _ = read_tensors(bytes(content))
        except CheckpointError:
            outcomes.add("refused")
        else:
            outcomes.add("whole")
            assert all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())
    assert outcomes == {"refused", "whole"}


@pytest.mark.parametrize(
    "header",
    [
        '{"a":{"dtype":"F32","shape":[-1,-1],"data_offsets":[0,4]}}',
        "[" * 100_000,
        '{"a":' + "9" * 5000 + "}",
        "[]",
        "7",
    ],
    ids=["negative", "deep", "long", "list", "number"],
)
def test_headers_of_other_forms_are_refused(header):
    text = header.encode()
    with pytest.raises(CheckpointError, match="expected"):
        read_tensors(len(text).to_bytes(8, "little") + text + bytes(4))


@given(st.integers(0, 400))
def test_truncated_files_are_refused(length):
    content = Checkpoint({"weighting.a": torch.arange(40.0)}, {"x": 1}).to_bytes()
    if length < len(content):
        with pytest.raises(CheckpointError, match="expected"):
            Checkpoint.from_bytes(content[:length])


def test_groups_and_config_survive():
    checkpoint = Checkpoint({"weighting.values.a": torch.ones(3), "refiner.w": torch.zeros(2)}, {"refiner": {"n": 2}})
    again = Checkpoint.from_bytes(checkpoint.to_bytes())
    assert list(again.group("weighting")) == ["values.a"]
    assert again.group("absent") == {}
    assert again.config == {"refiner": {"n": 2}}
    assert digest(again.to_bytes()) == digest(checkpoint.to_bytes())


def test_a_file_of_another_kind_says_what_was_found():
    with pytest.raises(CheckpointError, match="'lift3d-checkpoint-1'.*found None"):
        Checkpoint.from_bytes(write_tensors({"a": torch.ones(1)}, {}))
    header = json.dumps({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 4]}}).encode()
    with pytest.raises(CheckpointError, match="tensor 'a'"):
        read_tensors(len(header).to_bytes(8, "little") + header + bytes(4))
