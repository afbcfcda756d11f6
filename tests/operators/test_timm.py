"""`timm`: weights by name, file and folder, never random ones; exact grids; layers.

The checkpoints here are small and randomly initialised, written to files and loaded as a user would: plumbing. What
is said of where cells look is tested with real weights (`efficientnet`).
"""

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from pipeline.operators import build_operator
from pipeline.operators.contract import check_encoded
from pipeline.operators.efficientnet import find_weights, load_classifier
from schemas.errors import ConfigError, MissingWeightsError, UnknownNameError

NETWORKS = ("test_resnet", "test_efficientnet", "test_convnext", "test_vit", "test_vit2")


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of NAME.safetensors, randomly initialised: plumbing."""
    folder = tmp_path_factory.mktemp("timm")
    torch.manual_seed(0)
    for name in NETWORKS:
        save_file(timm.create_model(name, pretrained=False).state_dict(), folder / f"{name}.safetensors")
    return folder


def spec(checkpoints: Path, name: str) -> str:
    return f"timm:{name}/{checkpoints}/{name}.safetensors"


@pytest.mark.parametrize(
    ("name", "kwargs", "stride", "channels"),
    [
        ("test_resnet", {}, 16, 192),
        ("test_resnet", {"layer": 1}, 4, 32),
        ("test_efficientnet", {"stride": 8}, 8, None),
        ("test_convnext", {"stride": 32}, 32, None),
        ("test_convnext", {"layer": 0, "stride": 6}, 6, None),
        ("test_vit", {}, 16, 64),
        ("test_vit", {"layer": 2, "stride": 10}, 10, 64),
        ("test_vit2", {}, 16, None),
    ],
)
def test_plumbing_every_kind_of_network_answers_on_the_grid(
    checkpoints: Path, make_batch: Any, name: str, kwargs: dict[str, int], stride: int, channels: int | None
) -> None:
    operator = build_operator(spec(checkpoints, name), kwargs)
    batch = make_batch((2, 70, 101))
    features = operator.encode(batch)
    assert operator.stride == stride
    check_encoded(operator, features, batch)
    assert channels in (None, features.shape[1])
    spread = features.std(1, unbiased=False)
    assert "vit" not in name or bool(((spread - 1).abs() < 0.02).all()), "tokens are normalised"
    assert torch.equal(operator.encode(make_batch(batch.images[1:])), features[1:]), "features depend on the batch"


def test_plumbing_the_layer_is_the_networks_own(checkpoints: Path, make_batch: Any) -> None:
    """What the operator returns is what timm computes: another path to the same numbers."""
    network: Any = timm.create_model("test_resnet", pretrained=False, features_only=True, out_indices=[2]).eval()
    network.load_state_dict(load_file(checkpoints / "test_resnet.safetensors"), strict=False)
    config = timm.get_pretrained_cfg("test_resnet")
    batch = make_batch((1, 64, 96))
    mean, std = (torch.tensor(values)[:, None, None] for values in (config.mean, config.std))
    with torch.inference_mode():
        (expected,) = network((batch.images - mean) / std)
    found = build_operator(spec(checkpoints, "test_resnet"), {"layer": 2}).encode(batch)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_plumbing_keeps_the_contract(checkpoints: Path, operator_contract: Any, name: str) -> None:
    operator_contract(spec(checkpoints, name), {"layer": 1}, variation={"layer": 2}, elsewhere=name == "test_vit")


def test_plumbing_a_file_a_pickle_and_a_folder_are_the_same_operator(checkpoints: Path, tmp_path: Path) -> None:
    tensors = load_file(checkpoints / "test_vit.safetensors")
    torch.save(tensors, tmp_path / "weights.pth")
    torch.save({"state_dict": {k: v for k, v in tensors.items() if not k.startswith("head.")}}, tmp_path / "no_head.pt")
    tuned = {**tensors, "head.weight": torch.rand(7, 64), "head.bias": torch.rand(7)}
    save_file(tuned, tmp_path / "seven_classes.safetensors")
    network = timm.create_model("test_vit", pretrained=False)
    network.load_state_dict(tensors)
    timm.models.save_for_hf(network, tmp_path / "folder", safe_serialization=True)
    specs = [
        spec(checkpoints, "test_vit"),
        f"timm:test_vit/{tmp_path}/weights.pth",
        f"timm:test_vit/{tmp_path}/no_head.pt",
        f"timm:test_vit/{tmp_path}/seven_classes.safetensors",
        f"timm:{tmp_path}/folder",
    ]
    assert len({build_operator(one).fingerprint() for one in specs}) == 1
    assert len({build_operator(specs[0], k).fingerprint() for k in ({}, {"layer": 0}, {"stride": 8})}) == 3
    config = json.loads((tmp_path / "folder" / "config.json").read_text())
    config["pretrained_cfg"]["mean"] = [0.4, 0.4, 0.4]
    (tmp_path / "folder" / "config.json").write_text(json.dumps(config))
    assert build_operator(specs[-1]).fingerprint() != build_operator(specs[0]).fingerprint(), "normalised otherwise"


def test_what_a_file_lacks_is_never_random(checkpoints: Path, tmp_path: Path) -> None:
    tensors = load_file(checkpoints / "test_vit.safetensors")
    for lost in ("blocks.3.norm1.weight", "blocks.0.attn.qkv.weight"):
        save_file({k: v for k, v in tensors.items() if k != lost}, tmp_path / "part.safetensors")
        with pytest.raises(MissingWeightsError, match=rf"cannot load .*part.safetensors.*Missing key.*{lost}"):
            build_operator(f"timm:test_vit/{tmp_path}/part.safetensors")


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('ran')",))


def test_a_pickle_that_would_run_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": Bomb()}, tmp_path / "bomb.pth")
    with pytest.raises(MissingWeightsError, match="cannot load"):
        build_operator(f"timm:test_vit/{tmp_path}/bomb.pth")


@pytest.mark.parametrize(
    ("weights", "kwargs", "error", "says"),
    [
        ("resnet18", {}, MissingWeightsError, "without internet: download.*name the file"),
        ("resnett18", {}, UnknownNameError, "did you mean 'resnet18'"),
        ("resnet18//absent/w.pth", {}, MissingWeightsError, "no file /absent/w.pth"),
        ("/absent/folder", {}, MissingWeightsError, "no file or folder"),
        ("FOLDER/test_vit.safetensors", {}, ConfigError, "which model is .*timm:MODEL/"),
        ("test_resnet/FOLDER/test_vit.safetensors", {}, MissingWeightsError, "cannot load"),
        ("test_resnet/FOLDER/test_resnet.safetensors", {"layer": 9}, ConfigError, "expected 0..4.*2, 4, 8, 16, 32"),
        ("test_vit/FOLDER/test_vit.safetensors", {"layer": 9}, ConfigError, "16 each"),
        ("test_vit/FOLDER/test_vit.safetensors", {"stride": 0}, ConfigError, "whole pixels"),
    ],
)
def test_mistakes_are_named(
    checkpoints: Path,
    monkeypatch: pytest.MonkeyPatch,
    weights: str,
    kwargs: dict[str, int],
    error: type[Exception],
    says: str,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(error, match=says):
        build_operator(f"timm:{weights.replace('FOLDER', str(checkpoints))}", kwargs)


def test_models_of_one_size_are_refused(tmp_path: Path) -> None:
    """Windows that must divide the image: random weights, plumbing."""
    name = "maxvit_rmlp_pico_rw_256"
    save_file(timm.create_model(name, pretrained=False).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(ConfigError, match="does not take an image of 160 x 288 px.*any size"):
        build_operator(f"timm:{name}/{tmp_path}/w.safetensors")


@pytest.fixture(scope="session")
def photos(sample_room: Path) -> torch.Tensor:
    """Two views [2, 3, 224, 320] of the sample room."""
    import cv2

    files = [sample_room / "scene9002_00" / "color" / name for name in ("0.jpg", "12.jpg")]
    views = [torch.from_numpy(cv2.imread(str(file))[..., ::-1].copy()) for file in files]
    return torch.stack(views).permute(0, 3, 1, 2)[..., :224, :320].float() / 255


@pytest.fixture(scope="session")
def real_network() -> Any:
    try:
        find_weights()
    except MissingWeightsError:
        pytest.skip("the package with real weights is not installed")
    return load_classifier()


@pytest.mark.usefixtures("real_network")
@pytest.mark.parametrize("stride", [8, 16, 32])
def test_a_mirrored_picture_gives_a_mirrored_map(photos: torch.Tensor, make_batch: Any, stride: int) -> None:
    """Cells that looked to one side would look to the other side of what they see in a mirror: one cell apart.

    By arithmetic this network's cells are 3.5, 7.5 and 15.5 px off, so maps would agree best when moved by a cell.
    """
    operator = build_operator("efficientnet", {"stride": stride})
    here = operator.encode(make_batch(photos))
    mirrored = operator.encode(make_batch(photos.flip(3))).flip(3)
    width = here.shape[-1]
    alike = [
        float(torch.cosine_similarity(here[..., 1 : width - 1], mirrored[..., 1 + k : width - 1 + k], dim=1).mean())
        for k in (-1, 0, 1)
    ]
    assert alike[1] > max(alike[0], alike[2]) + 0.05


@pytest.mark.parametrize(("layer", "cell"), [(2, 8), (3, 16)])
def test_cells_look_at_their_place(real_network: Any, photos: torch.Tensor, layer: int, cell: int) -> None:
    """The centroid of what a cell's value depends on is within a quarter of a cell of the cell's centre."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for photo in photos:
        image = photo[None].clone().requires_grad_(True)
        (features,) = real_network.forward_intermediates(image * 2 - 1, indices=[layer], intermediates_only=True)
        rows, columns = features.shape[-2] // 2, features.shape[-1] // 2
        for i, j in ((rows, columns), (rows // 2, columns // 2), (rows + rows // 2, columns + columns // 2)):
            value = (features[0, :, i, j] * torch.randn(features.shape[1], generator=generator)).sum()
            (slope,) = torch.autograd.grad(value, image, retain_graph=True)
            seen = slope[0].square().sum((0, 1))
            centre = (seen * (torch.arange(len(seen)) + 0.5)).sum() / seen.sum()
            found.append(float(centre) - (j + 0.5) * cell)
    assert abs(sum(found) / len(found)) < cell / 4
