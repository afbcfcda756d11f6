"""Edges, VOC classes and painted style with their real weights, where these can be had."""

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from pipeline.operators import build_operator
from pipeline.operators.contract import check_decoded, check_encoded
from schemas.errors import ConfigError, ContractError, MissingWeightsError, OperatorError

WEIGHTS = Path(__file__).parents[3] / "shared" / "weights"
CANDY = WEIGHTS / "style_ncnn" / "candy.bin"
DEEPLAB = WEIGHTS / "deeplab_voc" / "deeplabv3_mnv2_dm05_pascal_quant.tflite"


def given(path: Path, package: str) -> str:
    pytest.importorskip(package)
    if not path.is_file():
        pytest.skip(f"{path.name} is not on this machine")
    return str(path)


def predicted(operator: Any, batch: Any) -> torch.Tensor:
    """Encoded and decoded, both checked against the contract."""
    features = operator.encode(batch)
    check_encoded(operator, features, batch)
    decoded = operator.decode(features, batch.images.shape[-2:])
    check_decoded(operator, decoded, batch.images.shape[-2:], len(batch.frames))
    return decoded


@pytest.mark.parametrize("stride", [1, 2])
def test_edges_are_where_brightness_jumps(make_batch: Any, stride: int) -> None:
    pytest.importorskip("h5py")
    images = torch.full((1, 3, 61, 90), 0.2)
    images[..., 45:] = 0.9
    edges = predicted(build_operator("edges", {"stride": stride}), make_batch(images))[0, 0]
    assert edges[20:40, 43:47].amax(1).min() > 0.4
    assert edges[20:40, 10:30].max() < 0.2


def test_a_painting_is_of_its_image_and_of_no_other_in_the_batch(make_batch: Any) -> None:
    operator = build_operator(f"style:{given(CANDY, 'ncnn')}")
    images = torch.rand(2, 3, 37, 50, generator=torch.Generator().manual_seed(1))
    both = predicted(operator, make_batch(images))
    assert torch.equal(both[1:], predicted(operator, make_batch(images[1:])))
    assert not torch.equal(both[0], both[1])


def test_a_network_cut_in_the_middle_paints_the_same(make_batch: Any) -> None:
    spec = f"style:{given(CANDY, 'ncnn')}"
    whole, cut = build_operator(spec), build_operator(spec, {"lift": "features"})
    batch = make_batch((1, 37, 50))
    features = cut.encode(batch)
    check_encoded(cut, features, batch)
    assert features.shape[1] == 128
    assert whole.fingerprint() != cut.fingerprint()
    batch = make_batch((1, 36, 48))
    assert (predicted(cut, batch) - predicted(whole, batch)).abs().max() < 1e-2


def test_voc_classes_come_on_every_grid(make_batch: Any) -> None:
    spec = f"deeplab:{given(DEEPLAB, 'ai_edge_litert')}"
    fine, coarse = build_operator(spec), build_operator(spec, {"stride": 4})
    batch = make_batch((1, 37, 50))
    shares = predicted(fine, batch)
    assert set(shares.unique().tolist()) <= {0.0, 1.0}
    assert predicted(coarse, batch).sum(1).sub(1).abs().max() < 1e-5
    assert fine.fingerprint() != coarse.fingerprint()


@pytest.mark.parametrize("name", ["style", "deeplab", "super_resolution"])
def test_weights_that_are_not_there_are_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError, match=f"there is no file {tmp_path}/"):
        build_operator(f"{name}:{tmp_path}/nothing.bin")


@pytest.mark.parametrize("size", [(20, 31), (9, 12)])
def test_super_resolution_gives_the_images_size_back(make_batch: Any, tmp_path: Path, size: tuple[int, int]) -> None:
    """A network of one layer, twice as large by bilinear interpolation, stands for one with weights."""
    pytest.importorskip("ncnn")
    layers = "Input in 0 1 data\nInterp up 1 1 data output 0=2 1=2.0 2=2.0\n"
    (tmp_path / "twice.param").write_text(f"7767517\n2 2\n{layers}")
    (tmp_path / "twice.bin").write_bytes(b"")
    operator = build_operator(f"super_resolution:{tmp_path}/twice.param")
    y, x = torch.meshgrid(torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5, indexing="ij")
    ramps = torch.stack([x / 40, y / 40, torch.full_like(x, 0.5)])[None]
    drawn = predicted(operator, make_batch(ramps))
    assert (drawn - ramps)[..., 2:-2, 2:-2].abs().max() < 1e-3
    with pytest.raises(ContractError, match="the network drew"):
        build_operator(f"super_resolution:{tmp_path}/twice.param", {"scale": 3}).encode(make_batch(ramps))


def test_any_function_of_an_image_is_an_operator(
    make_batch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "def invert(image, most=255):\n    return most - image\n\ndef spoil(image):\n    return image[:1]\n"
    (tmp_path / "my_filters.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    operator = build_operator("rgb:my_filters:invert")
    batch = make_batch((2, 8, 11))
    assert (predicted(operator, batch) - (1 - batch.images)).abs().max() <= 0.5 / 255 + 1e-6
    assert operator.fingerprint() != build_operator("rgb:my_filters:invert", {"version": "2"}).fingerprint()
    with pytest.raises(ContractError, match="expected uint8"):
        build_operator("rgb:my_filters:spoil").encode(batch)
    with pytest.raises(OperatorError, match="cannot be imported"):
        build_operator("rgb:my_filters:absent")


def test_files_that_are_no_network_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("ncnn")
    (tmp_path / "styletransfer.param.bin").write_bytes(b"none")
    (tmp_path / "x.bin").write_bytes(b"none")
    with pytest.raises(MissingWeightsError, match="cannot read"):
        build_operator(f"style:{tmp_path}/x.bin")
    with pytest.raises(ConfigError, match="lift"):
        build_operator(f"style:{tmp_path}/x.bin", {"lift": "nothing"})


def test_the_recipe_of_the_docs_keeps_lightness_and_takes_colour() -> None:
    text = (Path(__file__).parents[2] / "docs" / "image_operators.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    levels = np.linspace(60, 200, 64 * 48).reshape(48, 64, 1).repeat(3, axis=2).astype(np.uint8)
    painted = np.clip(levels[:, ::-1] * [0.9, 0.7, 0.6], 0, 255).astype(np.uint8)
    made, photo, lifted = (
        cv2.cvtColor(one, cv2.COLOR_RGB2LAB).astype(int)
        for one in (names["colours_of"](painted, levels), levels, painted)
    )
    assert np.abs(made[..., 0] - photo[..., 0]).max() <= 2
    assert np.abs(made[..., 1:] - lifted[..., 1:]).max() <= 2
